//! The frames to and from one peer.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::frame::{Frame, MAX_FRAME};
use super::input::Input;
use super::limits::FRAMES;
use crate::command::Command;
use crate::frames::{read_all, read_body, write_all};
use crate::identity::{self, PeerKey};
use crate::patience::{Patience, STALL};
use crate::quota::Buckets;
use crate::streams::Carries;

/// Frames that may wait to be sent to a peer, and their bytes. A peer that reads more slowly is
/// told everything again later.
const WAITING_FRAMES: usize = 2048;
const WAITING_BYTES: usize = 4 << 20;

/// The way to a peer.
pub(super) struct Outgoing {
    /// Tells sessions with the same peer apart.
    pub number: u64,
    frames: mpsc::Sender<Frame>,
    waiting: Arc<AtomicUsize>,
}

impl Outgoing {
    /// Opens a stream to a peer, and sends frames until one side ends it.
    pub(super) fn open(
        peer: PeerKey,
        number: u64,
        commands: mpsc::WeakSender<Command>,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let (frames, queue) = mpsc::channel(WAITING_FRAMES);
        let waiting = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&waiting);
        tokio::spawn(async move {
            if let Err(error) = write(peer, &commands, queue, &counter).await {
                tracing::debug!("no frames can be sent to a peer: {error}");
            }
            let session = number;
            let _ = inputs.send(Input::Lost { peer, session }).await;
        });
        Self {
            number,
            frames,
            waiting,
        }
    }

    /// Queues a frame. `false` if too many wait.
    pub(super) fn send(&self, frame: Frame) -> bool {
        let bytes = size(&frame);
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        waiting <= WAITING_BYTES && self.frames.try_send(frame).is_ok()
    }
}

/// Opens a stream to a peer.
///
/// # Errors
/// If the peer is not connected, does not speak the protocol, or takes too long.
pub(super) async fn open(
    peer: PeerKey,
    carries: Carries,
    commands: &mpsc::WeakSender<Command>,
) -> io::Result<libp2p::swarm::Stream> {
    let peer = identity::peer_id(&peer).ok_or(io::ErrorKind::InvalidInput)?;
    let (opened, stream) = oneshot::channel();
    let command = Command::Open {
        peer,
        carries,
        opened,
    };
    let driver = commands.upgrade().ok_or(io::ErrorKind::NotConnected)?;
    let sent = driver.send(command).await;
    sent.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
    drop(driver);
    let stream = timeout(STALL, stream).await?;
    stream.map_err(|_| io::ErrorKind::NotConnected.into())
}

async fn write(
    peer: PeerKey,
    commands: &mpsc::WeakSender<Command>,
    mut queue: mpsc::Receiver<Frame>,
    waiting: &AtomicUsize,
) -> io::Result<()> {
    let mut stream = open(peer, Carries::Frames, commands).await?;
    stream.ignore_for_keep_alive();
    let (mut reader, mut writer) = stream.split();
    loop {
        let mut nothing = [0];
        // The peer never writes here: a byte, or an end, ends the session.
        let frame = match select(Box::pin(queue.recv()), reader.read(&mut nothing)).await {
            Either::Left((Some(frame), _)) => frame,
            Either::Left((None, _)) | Either::Right(_) => return Ok(()),
        };
        waiting.fetch_sub(size(&frame), Ordering::Relaxed);
        write_frame(&mut writer, &frame).await?;
        if queue.is_empty() {
            Patience::for_bytes(0).wait(writer.flush()).await?;
        }
    }
}

async fn write_frame<W: AsyncWrite + Unpin>(writer: &mut W, frame: &Frame) -> io::Result<()> {
    let bytes = frame.encode();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let framed = [length.to_le_bytes().as_slice(), &bytes].concat();
    write_all(writer, &framed, &mut Patience::for_bytes(framed.len())).await
}

/// Reads the frames of a peer until it ends the stream, and passes them on. A peer that opens a
/// new stream has in `rates` what was left.
pub(super) async fn read<R: AsyncRead + Unpin>(
    mut stream: R,
    from: PeerKey,
    inputs: &mpsc::Sender<Input>,
    rates: &Mutex<Buckets<PeerKey>>,
) {
    let take = || {
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        rates.bucket(from, now).take(now)
    };
    loop {
        let input = match read_frame(&mut stream).await {
            Ok(Some(frame)) => Input::Frame { from, frame },
            Ok(None) => Input::Malformed(from),
            Err(_) => return,
        };
        let ends = !matches!(input, Input::Frame { .. });
        if inputs.send(input).await.is_err() || ends {
            return;
        }
        while !take() {
            sleep(Duration::from_secs_f64(1.0 / FRAMES.per_second)).await;
        }
    }
}

/// `None` if the bytes are no frame.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Option<Frame>> {
    let [first, rest @ ..] = &mut [0; 4];
    // A peer may have nothing to say for hours.
    stream.read_exact(std::slice::from_mut(first)).await?;
    read_all(stream, rest, &mut Patience::for_bytes(0)).await?;
    let length = u32::from_le_bytes([*first, rest[0], rest[1], rest[2]]) as usize;
    if length > MAX_FRAME {
        return Ok(None);
    }
    let bytes = read_body(stream, length, None).await?;
    Ok(Frame::decode(&bytes))
}

/// About the bytes of a frame in memory.
fn size(frame: &Frame) -> usize {
    match &frame.body {
        super::frame::Body::Outline(outline) => 64 + 32 * outline.chunks.len(),
        super::frame::Body::Want { pieces, .. } => 64 + pieces.as_bytes().len(),
        _ => 64,
    }
}
