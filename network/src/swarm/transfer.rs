//! One piece on its stream.
//!
//! ```text
//! sender    blob: [u8; 32] ‖ piece: u32 LE ‖ length: u32 LE
//! receiver  2, if the piece is long and welcome; else it closes the stream
//! sender    bytes
//! receiver  1, once the piece is verified and stored; else it closes the stream
//! ```
//!
//! Two peers often begin to send the same piece at once, and its bytes, sent in vain, were an
//! eighth of what uplinks carried. So a sender whose uplink is busy waits until a long piece is
//! welcome.

use std::io;
use std::sync::Arc;

use futures::future::{Either, select};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use weal_proto::CHUNK_BYTES;

use super::input::{Arriving, Input, Taking};
use super::limits::SHORT_PIECE;
use super::picker::{Arrived, Gift};
use crate::frames::{read_all, read_body, write_all, write_body};
use crate::identity::PeerKey;
use crate::patience::Patience;
use crate::rate_limit::RateLimit;

const HEAD: usize = 40;
const ARRIVED: u8 = 1;
const WELCOME: u8 = 2;

/// Sends a piece. Returns whether it arrived. `inputs` hear that the receiver wants it.
pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    gift: &Gift,
    bytes: &Bytes,
    inputs: &mpsc::Sender<Input>,
    upload: Option<Arc<RateLimit>>,
) -> io::Result<bool> {
    let (mut reader, mut writer) = stream.split();
    let mut head = Vec::with_capacity(HEAD);
    head.extend(gift.blob.as_bytes());
    head.extend(gift.piece.to_le_bytes());
    head.extend(u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
    let patience = &mut Patience::for_bytes(0);
    write_all(&mut writer, &head, patience).await?;
    if gift.waits {
        writer.flush().await?;
        if patience.wait(answer(&mut reader)).await? != Some(WELCOME) {
            return Ok(false);
        }
        let _ = inputs.send(Input::Welcome { id: gift.id }).await;
    }
    let write = write_body(&mut writer, bytes, upload.as_deref());
    let answers = async {
        let is_long = bytes.len() > SHORT_PIECE;
        if is_long && !gift.waits && answer(&mut reader).await? != Some(WELCOME) {
            return Ok(false);
        }
        io::Result::Ok(answer(&mut reader).await? == Some(ARRIVED))
    };
    // The receiver may stop the piece at any moment.
    let arrived = match select(Box::pin(write), Box::pin(answers)).await {
        // What was written may still wait in buffers below.
        Either::Left((written, answers)) => {
            written?;
            timeout(Patience::for_bytes(bytes.len()).left(), answers).await?
        }
        Either::Right((answered, _)) => answered,
    }?;
    if arrived {
        let _ = writer.close().await;
    }
    Ok(arrived)
}

/// What the receiver says next; `None` if it has closed the stream.
async fn answer<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<u8>> {
    let mut answer = [0];
    let read = reader.read(&mut answer).await?;
    Ok((read == 1).then_some(answer[0]))
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
        if length > SHORT_PIECE {
            write_all(&mut stream, &[WELCOME], &mut Patience::for_bytes(0)).await?;
            stream.flush().await?;
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
