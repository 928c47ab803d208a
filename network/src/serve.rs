//! Answers the requests of peers on blocking threads, within limits on what is open at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::bytes::Bytes;
use libp2p::request_response::{InboundRequestId, ResponseChannel};
use tokio::task::JoinSet;

use crate::frames::Answer;
use crate::identity::peer_key;
use crate::members::{Members, Standing};
use crate::protocols::MAX_SYNC_ANSWER;
use crate::service::Service;
use crate::status::Counters;
use crate::token_bucket::TokenBucket;

/// Requests answered at once per peer. Further requests are answered "busy".
pub(crate) const PER_PEER: usize = 8;
/// Control requests that a peer may send at once, and per second in the long run. Each of these
/// few bytes may ask for megabytes.
const CONTROL_AT_ONCE: f64 = 64.0;
const CONTROL_PER_SECOND: f64 = 8.0;
/// Peers whose rate is remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 512;

/// Requests that are answered at once for all members or all strangers. The sum bounds the threads,
/// and the memory for answers. Strangers that read slowly do not keep members from their places.
const fn places(standing: Standing) -> usize {
    match standing {
        Standing::Member => 16,
        Standing::Stranger => 8,
    }
}

/// A request of a peer.
pub(crate) struct Inbound {
    pub peer: PeerId,
    pub id: InboundRequestId,
    /// `None` if the request was too long to be read.
    pub request: Option<Bytes>,
    pub channel: ResponseChannel<Answer>,
}

/// An answer that is ready to be sent.
pub(crate) struct Ready {
    pub channel: ResponseChannel<Answer>,
    pub answer: Answer,
    /// The peer that sent the request, if the request was malformed.
    pub malformed: Option<PeerId>,
}

/// The requests that are being answered.
pub(crate) struct Server {
    service: Arc<dyn Service>,
    members: Arc<Members>,
    counters: Arc<Counters>,
    jobs: JoinSet<Ready>,
    open: HashMap<InboundRequestId, (PeerId, Standing)>,
    rates: HashMap<PeerId, TokenBucket>,
}

impl Server {
    pub(crate) fn new(
        service: Arc<dyn Service>,
        members: Arc<Members>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            service,
            members,
            counters,
            jobs: JoinSet::new(),
            open: HashMap::new(),
            rates: HashMap::new(),
        }
    }

    /// Starts to answer a request. The answer comes from [`Self::ready`], or is returned at once if
    /// the request is refused.
    pub(crate) fn accept(&mut self, inbound: Inbound) -> Option<Ready> {
        let Inbound {
            peer,
            id,
            request,
            channel,
        } = inbound;
        let Some(request) = request else {
            return Some(Ready {
                channel,
                answer: Answer::NotHere,
                malformed: Some(peer),
            });
        };
        let standing =
            peer_key(&peer).map_or(Standing::Stranger, |key| self.members.standing(&key));
        if !self.has_place(peer, standing) || !self.keeps_rate(peer) {
            self.counters.requests_busy.one();
            return Some(Ready {
                channel,
                answer: Answer::Busy,
                malformed: None,
            });
        }
        self.open.insert(id, (peer, standing));
        let (service, counters) = (Arc::clone(&self.service), Arc::clone(&self.counters));
        self.jobs.spawn_blocking(move || {
            let found = peer_key(&peer).and_then(|key| service.answer(key, &request));
            let answer = match found {
                Some(bytes) if bytes.len() > MAX_SYNC_ANSWER => {
                    counters.answers_too_long.one();
                    Answer::NotHere
                }
                Some(bytes) => Answer::Here(bytes.into()),
                None => Answer::NotHere,
            };
            Ready {
                channel,
                answer,
                malformed: None,
            }
        });
        None
    }

    fn has_place(&self, peer: PeerId, standing: Standing) -> bool {
        let (mut of_peer, mut in_all) = (0, 0);
        for (by, as_a) in self.open.values() {
            of_peer += usize::from(*by == peer);
            in_all += usize::from(*as_a == standing);
        }
        of_peer < PER_PEER && in_all < places(standing)
    }

    fn keeps_rate(&mut self, peer: PeerId) -> bool {
        let now = Instant::now();
        if self.rates.len() >= REMEMBERED && !self.rates.contains_key(&peer) {
            self.rates.retain(|_, rate| !rate.is_full(now));
        }
        let rate = self
            .rates
            .entry(peer)
            .or_insert_with(|| TokenBucket::full(CONTROL_AT_ONCE, CONTROL_PER_SECOND, now));
        rate.take(now)
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
    pub(crate) fn done(&mut self, id: InboundRequestId) {
        self.open.remove(&id);
    }
}
