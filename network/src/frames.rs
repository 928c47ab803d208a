//! Framing of requests and answers: a length, then that many bytes. The length is checked first.
//!
//! ```text
//! request  = length: u32 LE ‖ bytes
//! answer   = tag: u8 ‖ length: u32 LE ‖ bytes      tag 0: here
//!                                                  tag 1: not here, without bytes
//!                                                  tag 2: busy, without bytes
//! ```
//!
//! A peer that announces a long message and sends little costs no memory: the buffer grows only as
//! bytes arrive. A peer that stops in the middle, or moves a byte now and then, is cut off: see
//! [`Patience`].

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::bytes::Bytes;
use libp2p::request_response::Codec;

use crate::patience::Patience;
use crate::rate_limit::RateLimit;

/// The smallest step in which a buffer grows.
const STEP: usize = 64 * 1024;

const HERE: u8 = 0;
const NOT_HERE: u8 = 1;
const BUSY: u8 = 2;

/// A peer's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The bytes asked for.
    Here(Bytes),
    /// The peer does not have them, or does not answer such requests.
    NotHere,
    /// The peer has too many requests open; retry later.
    Busy,
}

/// The codec of the request protocol.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    /// The longest request in bytes.
    pub max_request: usize,
    /// The longest answer in bytes.
    pub max_answer: usize,
    /// Rate limit on answers sent.
    pub upload: Option<Arc<RateLimit>>,
}

impl Codec for Frames {
    type Protocol = StreamProtocol;
    /// `None` is a request that was too long, and was not read. An error would not name the peer.
    type Request = Option<Bytes>;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Option<Bytes>>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read_frame(io, self.max_request).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            request => request.map(Some),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut tag = [0];
        read_all(io, &mut tag, &mut Patience::for_bytes(0)).await?;
        match tag {
            [HERE] => read_frame(io, self.max_answer).await.map(Answer::Here),
            [NOT_HERE] => read_frame(io, 0).await.map(|_| Answer::NotHere),
            [BUSY] => read_frame(io, 0).await.map(|_| Answer::Busy),
            [other] => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("unknown kind of answer: {other}"),
            )),
        }
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Option<Bytes>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        within(request.as_ref().map_or(0, Bytes::len), self.max_request)?;
        write_frame(io, None, &request.unwrap_or_default(), None).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Answer,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match answer {
            Answer::Here(bytes) => {
                within(bytes.len(), self.max_answer)?;
                write_frame(io, Some(HERE), &bytes, self.upload.as_deref()).await
            }
            Answer::NotHere => write_frame(io, Some(NOT_HERE), &[], None).await,
            Answer::Busy => write_frame(io, Some(BUSY), &[], None).await,
        }
    }
}

async fn read_frame<T: AsyncRead + Unpin>(io: &mut T, max_bytes: usize) -> io::Result<Bytes> {
    let mut length = [0; 4];
    read_all(io, &mut length, &mut Patience::for_bytes(0)).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    within(length, max_bytes)?;
    read_body(io, length, None).await
}

/// Reads this many bytes. The buffer grows only as they arrive.
pub(crate) async fn read_body<T: AsyncRead + Unpin>(
    io: &mut T,
    length: usize,
    rate: Option<&RateLimit>,
) -> io::Result<Bytes> {
    let mut patience = Patience::for_bytes(length);
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let had = bytes.len();
        let step = had.max(STEP).min(length - had);
        bytes.resize(had + step, 0);
        let (_, fresh) = bytes.split_at_mut(had);
        for piece in fresh.chunks_mut(rate.map_or(usize::MAX, RateLimit::piece)) {
            read_all(io, piece, &mut patience).await?;
            if let Some(rate) = rate {
                rate.pass(piece.len()).await;
            }
        }
    }
    Ok(bytes.into())
}

async fn write_frame<T: AsyncWrite + Unpin>(
    io: &mut T,
    tag: Option<u8>,
    bytes: &[u8],
    rate: Option<&RateLimit>,
) -> io::Result<()> {
    let length =
        u32::try_from(bytes.len()).map_err(|_| too_long(bytes.len(), u32::MAX as usize))?;
    let mut head = Vec::with_capacity(5);
    head.extend(tag);
    head.extend(length.to_le_bytes());
    write_all(io, &head, &mut Patience::for_bytes(0)).await?;
    write_body(io, bytes, rate).await
}

/// Writes bytes, and passes them all on to the transport.
pub(crate) async fn write_body<T: AsyncWrite + Unpin>(
    io: &mut T,
    bytes: &[u8],
    rate: Option<&RateLimit>,
) -> io::Result<()> {
    let mut patience = Patience::for_bytes(bytes.len());
    for piece in bytes.chunks(rate.map_or(STEP, RateLimit::piece)) {
        if let Some(rate) = rate {
            rate.pass(piece.len()).await;
        }
        write_all(io, piece, &mut patience).await?;
    }
    patience.wait(io.flush()).await
}

/// Fills `buffer`.
pub(crate) async fn read_all<T: AsyncRead + Unpin>(
    io: &mut T,
    mut buffer: &mut [u8],
    patience: &mut Patience,
) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = patience.wait(io.read(buffer)).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = buffer
            .split_at_mut_checked(read)
            .ok_or(io::ErrorKind::Other)?
            .1;
    }
    Ok(())
}

/// Sends `bytes`.
pub(crate) async fn write_all<T: AsyncWrite + Unpin>(
    io: &mut T,
    mut bytes: &[u8],
    patience: &mut Patience,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = patience.wait(io.write(bytes)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes
            .split_at_checked(written)
            .ok_or(io::ErrorKind::Other)?
            .1;
    }
    Ok(())
}

fn within(length: usize, limit: usize) -> io::Result<()> {
    if length > limit {
        Err(too_long(length, limit))
    } else {
        Ok(())
    }
}

fn too_long(length: usize, limit: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message of {length} bytes; the limit is {limit}"),
    )
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    const NAME: StreamProtocol = StreamProtocol::new("/test/1");

    fn frames() -> Frames {
        Frames {
            max_request: 16,
            max_answer: 200_000,
            upload: None,
        }
    }

    async fn written(answer: Answer) -> Vec<u8> {
        let mut wire = Cursor::new(Vec::new());
        frames()
            .write_response(&NAME, &mut wire, answer)
            .await
            .unwrap();
        wire.into_inner()
    }

    #[tokio::test]
    async fn an_answer_is_read_as_written() {
        for answer in [
            Answer::Here(vec![3; 150_000].into()),
            Answer::Here(Bytes::new()),
            Answer::NotHere,
            Answer::Busy,
        ] {
            let mut wire = Cursor::new(written(answer.clone()).await);
            assert_eq!(
                frames().read_response(&NAME, &mut wire).await.unwrap(),
                answer
            );
        }
    }

    #[tokio::test]
    async fn a_message_that_announces_too_many_bytes_is_refused_unread() {
        let announced = [&[HERE], &200_001u32.to_le_bytes()[..]].concat();
        let error = frames()
            .read_response(&NAME, &mut Cursor::new(announced))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);

        let request = 17u32.to_le_bytes();
        assert_eq!(
            frames()
                .read_request(&NAME, &mut Cursor::new(request))
                .await
                .unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn nothing_too_long_is_sent() {
        let mut wire = Cursor::new(Vec::new());
        assert!(
            frames()
                .write_request(&NAME, &mut wire, Some(vec![0; 17].into()))
                .await
                .is_err()
        );
        assert!(wire.into_inner().is_empty());
    }

    #[tokio::test]
    async fn a_truncated_message_and_an_unknown_kind_are_errors() {
        let mut cut = written(Answer::Here(vec![1; 100].into())).await;
        cut.pop();
        let error = frames()
            .read_response(&NAME, &mut Cursor::new(cut))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

        let error = frames()
            .read_response(&NAME, &mut Cursor::new([9, 0, 0, 0, 0]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let busy_with_a_body = [BUSY, 1, 0, 0, 0, 7];
        assert!(
            frames()
                .read_response(&NAME, &mut Cursor::new(busy_with_a_body))
                .await
                .is_err()
        );
    }
}
