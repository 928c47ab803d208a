//! One piece on its stream.
//!
//! ```text
//! sender    blob: [u8; 32] ‖ piece: u32 LE ‖ length: u32 LE ‖ bytes
//! receiver  1, once the piece is verified and stored; else it closes the stream
//! ```

use std::io;
use std::sync::Arc;

use futures::future::{Either, select};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use weal_proto::CHUNK_BYTES;

use super::input::{Arriving, Input, Taking};
use super::picker::{Arrived, Gift};
use crate::frames::{read_all, read_body, write_all, write_body};
use crate::identity::PeerKey;
use crate::patience::Patience;
use crate::rate_limit::RateLimit;

const HEAD: usize = 40;
const ARRIVED: u8 = 1;

/// Sends a piece. Returns whether it arrived.
pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    gift: &Gift,
    bytes: &Bytes,
    upload: Option<Arc<RateLimit>>,
) -> io::Result<bool> {
    let (mut reader, mut writer) = stream.split();
    let mut answer = [0];
    let write = async {
        let mut head = Vec::with_capacity(HEAD);
        head.extend(gift.blob.as_bytes());
        head.extend(gift.piece.to_le_bytes());
        head.extend(u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
        write_all(&mut writer, &head, &mut Patience::for_bytes(0)).await?;
        write_body(&mut writer, bytes, upload.as_deref()).await
    };
    // The receiver may refuse the piece at any moment.
    let refused = match select(Box::pin(write), Box::pin(reader.read(&mut answer))).await {
        Either::Left((written, _)) => {
            written?;
            None
        }
        Either::Right((read, _)) => Some(read?),
    };
    let read = match refused {
        Some(read) => read,
        // What was written may still wait in buffers below.
        None => {
            timeout(
                Patience::for_bytes(bytes.len()).left(),
                reader.read(&mut answer),
            )
            .await??
        }
    };
    let arrived = read == 1 && answer == [ARRIVED];
    if arrived {
        let _ = writer.close().await;
    }
    Ok(arrived)
}

/// Takes the piece that a peer begins to send.
pub(super) async fn take<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    from: PeerKey,
    inputs: mpsc::Sender<Input>,
    download: Option<Arc<RateLimit>>,
) {
    let Some((piece, length)) = read_head(&mut stream, from).await else {
        return;
    };
    let (reply, taking) = tokio::sync::oneshot::channel();
    if inputs.send(Input::Begun { piece, reply }).await.is_err() {
        return;
    }
    let Ok(Some(taking)) = taking.await else {
        return;
    };
    let Taking {
        outline,
        parts,
        stop,
    } = taking;
    let expected = outline.chunk_bytes(piece.piece as usize);
    let receive = async {
        if expected != Some(length) {
            return Ok(Arrived::Forged);
        }
        let bytes = read_body(&mut stream, length, download.as_deref()).await?;
        if outline.verify_chunk(piece.piece as usize, &bytes).is_err() {
            return Ok(Arrived::Forged);
        }
        let stored = tokio::task::spawn_blocking(move || parts.put(piece.piece, bytes)).await;
        if let Err(error) = stored.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            let (blob, why) = (piece.blob, error.to_string());
            let _ = inputs.send(Input::NotStored { blob, why }).await;
            return Ok(Arrived::Failed);
        }
        write_all(&mut stream, &[ARRIVED], &mut Patience::for_bytes(0)).await?;
        stream.flush().await?;
        io::Result::Ok(Arrived::Stored)
    };
    let how = match select(Box::pin(receive), stop).await {
        Either::Left((how, _)) => how.unwrap_or(Arrived::Failed),
        // The exchange has forgotten the piece.
        Either::Right(_) => return,
    };
    let _ = inputs.send(Input::Ended { piece, how }).await;
    if how == Arrived::Stored {
        let _ = stream.close().await;
    }
}

/// The name and length of a piece. `None` if the peer sends no such thing.
async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    from: PeerKey,
) -> Option<(Arriving, usize)> {
    let mut head = [0; HEAD];
    let patience = &mut Patience::for_bytes(0);
    read_all(stream, &mut head, patience).await.ok()?;
    let (blob, rest) = head.split_first_chunk::<32>()?;
    let (piece, length) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let piece = Arriving {
        from,
        blob: (*blob).into(),
        piece: u32::from_le_bytes(*piece),
    };
    (length <= CHUNK_BYTES).then_some((piece, length))
}
