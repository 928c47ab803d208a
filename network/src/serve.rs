//! Answers the requests of peers on blocking threads, within limits on what is open at once.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::bytes::Bytes;
use libp2p::request_response::{InboundRequestId, ResponseChannel};
use tokio::task::JoinSet;

use crate::frames::Answer;
use crate::identity::peer_key;
use crate::limits::{ANSWER_BYTES, ANSWER_BYTES_BESIDE_MEMBERS, REQUESTS};
use crate::members::Standing;
use crate::protocols::MAX_SYNC_ANSWER;
use crate::quota::{Quota, User};
use crate::service::Service;
use crate::status::Counters;
use crate::uplink::Uplink;

/// Requests answered at once per peer. Further requests are answered "busy".
pub(crate) const PER_PEER: usize = 8;

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
    pub user: User,
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
    /// Who has to pay for the bytes of the answer.
    pub pays: Option<User>,
}

impl Ready {
    fn refusal(channel: ResponseChannel<Answer>, answer: Answer) -> Self {
        Self {
            channel,
            answer,
            malformed: None,
            pays: None,
        }
    }
}

/// The requests that are being answered.
pub(crate) struct Server {
    service: Arc<dyn Service>,
    counters: Arc<Counters>,
    jobs: JoinSet<Ready>,
    open: HashMap<InboundRequestId, (PeerId, Standing)>,
    requests: Quota,
    answer_bytes: Quota,
    /// The same while members use the uplink.
    beside_members: Quota,
    uplink: Arc<Uplink>,
}

impl Server {
    /// A server that answers with `service`. `rate` is the limit on uploads.
    pub(crate) fn new(
        service: Arc<dyn Service>,
        counters: Arc<Counters>,
        (uplink, rate): (Arc<Uplink>, Option<NonZeroU64>),
    ) -> Self {
        let now = Instant::now();
        let mut beside_members = ANSWER_BYTES_BESIDE_MEMBERS;
        if let Some(rate) = rate {
            let tenth = rate.get() as f64 / 10.0;
            let strangers = &mut beside_members.strangers;
            strangers.per_second = strangers.per_second.min(tenth);
        }
        Self {
            service,
            counters,
            jobs: JoinSet::new(),
            open: HashMap::new(),
            requests: Quota::new(REQUESTS, now),
            answer_bytes: Quota::new(ANSWER_BYTES, now),
            beside_members: Quota::new(beside_members, now),
            uplink,
        }
    }

    /// Starts to answer a request. The answer comes from [`Self::ready`], or is returned at once if
    /// the request is refused.
    pub(crate) fn accept(&mut self, inbound: Inbound) -> Option<Ready> {
        let Inbound {
            user,
            id,
            request,
            channel,
        } = inbound;
        let User { peer, standing, .. } = user;
        let Some(request) = request else {
            return Some(Ready {
                malformed: Some(peer),
                ..Ready::refusal(channel, Answer::NotHere)
            });
        };
        if !self.has_place(peer, standing) || !self.has_share(&user) {
            self.counters.requests_busy.one();
            return Some(Ready::refusal(channel, Answer::Busy));
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
                pays: Some(user),
                ..Ready::refusal(channel, answer)
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

    /// Whether this user may have one more request answered. Bytes are paid for once their number
    /// is known.
    fn has_share(&mut self, user: &User) -> bool {
        let now = Instant::now();
        let beside_members = !self.uplink.is_used(now) || self.beside_members.is_left(user, now);
        beside_members && self.answer_bytes.is_left(user, now) && self.requests.take(user, now)
    }

    /// Whether a request is being answered.
    pub(crate) fn is_working(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Waits for the next answer. `None` if the service panicked, or no request is being answered.
    /// Cancel-safe.
    pub(crate) async fn ready(&mut self) -> Option<Ready> {
        match self.jobs.join_next().await? {
            Ok(ready) => {
                if let (Some(user), Answer::Here(bytes)) = (&ready.pays, &ready.answer) {
                    let (bytes, now) = (bytes.len() as f64, Instant::now());
                    self.answer_bytes.spend(user, bytes, now);
                    if self.uplink.is_used(now) {
                        self.beside_members.spend(user, bytes, now);
                    }
                }
                Some(ready)
            }
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
