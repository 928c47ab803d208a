//! Answers the requests of peers on blocking threads, with a limit per peer and one for all peers.

use std::collections::HashMap;
use std::sync::Arc;

use libp2p::PeerId;
use libp2p::bytes::Bytes;
use libp2p::request_response::{InboundRequestId, ResponseChannel};
use tokio::task::JoinSet;
use weal_proto::{BlobPart, BlobRequest, Message};

use crate::blob_protocol;
use crate::frames::Answer;
use crate::identity::peer_key;
use crate::protocols::Exchange;
use crate::service::Service;
use crate::status::Counters;

/// Requests answered at once per peer and protocol. Further requests are answered "busy". Honest
/// peers send fewer blob requests at once (see [`Slots`](crate::slots::Slots)).
pub(crate) const PER_PEER: usize = 8;
/// Requests answered at once for all peers. Bounds the threads, and the memory for answers.
const IN_ALL: usize = 48;

/// A request of a peer.
pub(crate) struct Inbound {
    pub exchange: Exchange,
    pub peer: PeerId,
    pub id: InboundRequestId,
    /// `None` if the request was too long to be read.
    pub request: Option<Bytes>,
    pub channel: ResponseChannel<Answer>,
}

/// An answer that is ready to be sent.
pub(crate) struct Ready {
    pub exchange: Exchange,
    pub channel: ResponseChannel<Answer>,
    pub answer: Answer,
    /// The peer that sent the request, if the request was malformed.
    pub malformed: Option<PeerId>,
}

/// The requests that are being answered.
pub(crate) struct Server {
    service: Arc<dyn Service>,
    counters: Arc<Counters>,
    jobs: JoinSet<Ready>,
    open: HashMap<(Exchange, InboundRequestId), PeerId>,
}

impl Server {
    pub(crate) fn new(service: Arc<dyn Service>, counters: Arc<Counters>) -> Self {
        Self {
            service,
            counters,
            jobs: JoinSet::new(),
            open: HashMap::new(),
        }
    }

    /// Starts to answer a request. The answer comes from [`Self::ready`], or is returned at once if
    /// the request is refused.
    pub(crate) fn accept(&mut self, inbound: Inbound) -> Option<Ready> {
        let Inbound {
            exchange,
            peer,
            id,
            request,
            channel,
        } = inbound;
        let Some(request) = request else {
            return Some(Ready {
                exchange,
                channel,
                answer: Answer::NotHere,
                malformed: Some(peer),
            });
        };
        let of_peer = self
            .open
            .iter()
            .filter(|((e, _), p)| *e == exchange && **p == peer)
            .count();
        if of_peer >= PER_PEER || self.open.len() >= IN_ALL {
            self.counters.requests_busy.one();
            return Some(Ready {
                exchange,
                channel,
                answer: Answer::Busy,
                malformed: None,
            });
        }
        self.open.insert((exchange, id), peer);
        let (service, counters) = (Arc::clone(&self.service), Arc::clone(&self.counters));
        self.jobs.spawn_blocking(move || {
            let answer = match exchange {
                Exchange::Blob => answer_blob(&*service, &request),
                Exchange::Sync => answer_sync(&*service, &peer, &request),
            };
            let malformed = answer.is_none().then_some(peer);
            let answer = match answer.unwrap_or(Answer::NotHere) {
                Answer::Here(bytes) if bytes.len() > exchange.max_answer() => {
                    counters.answers_too_long.one();
                    Answer::NotHere
                }
                answer => answer,
            };
            Ready {
                exchange,
                channel,
                answer,
                malformed,
            }
        });
        None
    }

    /// Whether a request is being answered.
    pub(crate) fn is_working(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Waits for the next answer. `None` if the service panicked, or no request is being answered.
    /// Cancel-safe.
    pub(crate) async fn ready(&mut self) -> Option<Ready> {
        match self.jobs.join_next().await? {
            Ok(ready) => Some(ready),
            Err(panic) => {
                tracing::error!("the service panicked while answering a peer's request: {panic}");
                None
            }
        }
    }

    /// Forgets a request whose answer was sent or failed.
    pub(crate) fn done(&mut self, exchange: Exchange, id: InboundRequestId) {
        self.open.remove(&(exchange, id));
    }
}

/// `None` if the request is malformed.
fn answer_blob(service: &dyn Service, request: &[u8]) -> Option<Answer> {
    let BlobRequest { blob: hash, part } = BlobRequest::decode(request).ok()?;
    let found = match part {
        BlobPart::Outline => service
            .outline(&hash)
            .and_then(|outline| blob_protocol::encode_outline(&outline)),
        BlobPart::Chunk(index) => service.chunk(&hash, index),
    };
    Some(Answer::from_option(found))
}

fn answer_sync(service: &dyn Service, peer: &PeerId, request: &[u8]) -> Option<Answer> {
    let answer = peer_key(peer).and_then(|key| service.answer(key, request));
    Some(Answer::from_option(answer))
}
