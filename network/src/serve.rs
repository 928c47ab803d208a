//! Answers to others' requests: looked up on blocking threads, with a limit for each peer and for
//! all.

use std::collections::HashMap;
use std::sync::Arc;

use libp2p::PeerId;
use libp2p::bytes::Bytes;
use libp2p::request_response::{InboundRequestId, ResponseChannel};
use tokio::task::JoinSet;
use weal_proto::{BlobPart, BlobRequest, Message};

use super::behaviour::MAX_SYNC_ANSWER;
use super::frames::Answer;
use super::identity::peer_key;
use super::status::Counters;
use super::{Service, blob};

/// Requests of one peer that are answered at once, of each protocol; more are told "busy". Honest
/// peers keep to [`super::fetch::REQUESTS_PER_PEER`], which is less.
pub(super) const PER_PEER: usize = 8;
/// Requests of all peers that are answered at once: bounds the memory for answers, and the threads.
const IN_ALL: usize = 48;

/// The two protocols that carry requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Exchange {
    Blob,
    Sync,
}

/// A request of another peer.
pub(super) struct Inbound {
    pub exchange: Exchange,
    pub peer: PeerId,
    pub id: InboundRequestId,
    /// `None`: it was too long to be read.
    pub request: Option<Bytes>,
    pub channel: ResponseChannel<Answer>,
}

/// An answer that is ready to be sent.
pub(super) struct Ready {
    pub exchange: Exchange,
    pub channel: ResponseChannel<Answer>,
    pub answer: Answer,
    /// The request could not be understood: its sender's offence.
    pub malformed: Option<PeerId>,
}

/// The requests that are being answered.
pub(super) struct Server {
    service: Arc<dyn Service>,
    counters: Arc<Counters>,
    jobs: JoinSet<Ready>,
    open: HashMap<(Exchange, InboundRequestId), PeerId>,
}

impl Server {
    pub(super) fn new(service: Arc<dyn Service>, counters: Arc<Counters>) -> Self {
        Self {
            service,
            counters,
            jobs: JoinSet::new(),
            open: HashMap::new(),
        }
    }

    /// Takes a request; the answer comes from [`Self::ready`], or at once where there is no room
    /// for it.
    pub(super) fn take(&mut self, inbound: Inbound) -> Option<Ready> {
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
            let limit = match exchange {
                Exchange::Blob => blob::MAX_ANSWER,
                Exchange::Sync => MAX_SYNC_ANSWER,
            };
            let malformed = answer.is_none().then_some(peer);
            let answer = match answer.unwrap_or(Answer::NotHere) {
                Answer::Here(bytes) if bytes.len() > limit => {
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

    /// Whether an answer is being looked up.
    pub(super) fn is_working(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The next answer that is ready. Cancel-safe. `None` where a service panicked, or nothing is
    /// looked up.
    pub(super) async fn ready(&mut self) -> Option<Ready> {
        match self.jobs.join_next().await? {
            Ok(ready) => Some(ready),
            Err(panic) => {
                tracing::error!("a service failed on a peer's request: {panic}");
                None
            }
        }
    }

    /// The answer was sent, or never will be.
    pub(super) fn done(&mut self, exchange: Exchange, id: InboundRequestId) {
        self.open.remove(&(exchange, id));
    }
}

/// `None`: the request is malformed.
fn answer_blob(service: &dyn Service, request: &[u8]) -> Option<Answer> {
    let BlobRequest { blob: hash, part } = BlobRequest::decode(request).ok()?;
    let found = match part {
        BlobPart::Outline => service
            .outline(&hash)
            .and_then(|outline| blob::encode_outline(&outline)),
        BlobPart::Chunk(index) => service.chunk(&hash, index),
    };
    Some(Answer::from_option(found))
}

fn answer_sync(service: &dyn Service, peer: &PeerId, request: &[u8]) -> Option<Answer> {
    let answer = peer_key(peer).and_then(|key| service.answer(key, request));
    Some(Answer::from_option(answer))
}
