//! Whether another machine uses this node's key.
//!
//! Each process of a node draws a random session. It tells its peers which session it is, in a
//! statement signed with the node's key, and each peer hands back the statements that it heard
//! lately from other sessions of that key. So two machines with one key learn of each other through
//! any peer that both reach, and a peer can neither invent a session nor hide one from the others.
//!
//! The session of an earlier process is no other machine: the node knows its earlier sessions. If
//! one of them is alive all the same, because the folder was copied, it says so: it hears of the
//! new session, and names it in its next statement.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey};

/// Identifies a process of a node.
pub type SessionId = [u8; 16];

/// Time for which a statement is handed on.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Limit on the sessions of a peer that are remembered, and on those handed back.
const SESSIONS: usize = 8;
/// Limit on the peers of which sessions are remembered.
const PEERS: usize = 1024;
/// Bytes of a statement without its signature.
const CONTENT: usize = 16 + 16 + 8;
/// Bytes of a statement.
pub(crate) const STATEMENT: usize = CONTENT + 64;
/// The longest answer, in bytes.
pub(crate) const ANSWER: usize = SESSIONS * STATEMENT;
/// What is signed begins with this.
const DOMAIN: &[u8] = b"commonweal session 1";

/// The session of this process, and those that it knows to be over.
#[derive(Debug, Clone)]
pub struct Session {
    /// This process.
    pub id: SessionId,
    /// When it began, in seconds since 1970. Of two machines with one key, the one that began later
    /// should stop.
    pub started: u64,
    /// Earlier processes of this node.
    pub earlier: BTreeSet<SessionId>,
}

/// What is known about other users of this node's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// Whether any peer has answered.
    pub answered: bool,
    /// A peer heard an earlier session of this node lately. It is over, unless it says otherwise
    /// within seconds.
    pub earlier_heard: bool,
    /// Another machine uses the key.
    pub other: Option<OtherUse>,
}

/// Another machine that uses this node's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherUse {
    /// When its process began, by its own clock, in seconds since 1970.
    pub started: u64,
    /// Whether it began before this process, so that this one should stop. Both machines give the
    /// same answer to that.
    pub began_first: bool,
}

/// What a session says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Statement {
    session: SessionId,
    /// The newest other session of which this one has heard; zero if none.
    heard: SessionId,
    started: u64,
}

impl Statement {
    fn content(&self) -> [u8; CONTENT] {
        let mut bytes = [0; CONTENT];
        bytes[..16].copy_from_slice(&self.session);
        bytes[16..32].copy_from_slice(&self.heard);
        bytes[32..].copy_from_slice(&self.started.to_be_bytes());
        bytes
    }

    fn sign(&self, run: &[u8; 32], key: &Keypair) -> Option<Vec<u8>> {
        let content = self.content();
        let signature = key.sign(&[DOMAIN, run, &content].concat()).ok()?;
        Some([&content[..], &signature].concat())
    }

    /// The statement in these bytes, if `key` has signed it for this run.
    fn open(bytes: &[u8], run: &[u8; 32], key: &PublicKey) -> Option<Self> {
        let (content, signature) = bytes.split_first_chunk::<CONTENT>()?;
        let is_signed = key.verify(&[DOMAIN, run, content].concat(), signature);
        let (session, rest) = content.split_first_chunk()?;
        let (heard, started) = rest.split_first_chunk()?;
        is_signed.then_some(Self {
            session: *session,
            heard: *heard,
            started: u64::from_be_bytes(started.try_into().ok()?),
        })
    }
}

/// This node's side: what it says, and what it hears about its own key.
pub(crate) struct OwnSession {
    key: Keypair,
    run: [u8; 32],
    session: Session,
    /// The newest other session; zero if there is none.
    heard: SessionId,
    /// Other sessions that have been told of this one.
    told: BTreeSet<SessionId>,
}

impl OwnSession {
    pub(crate) fn new(key: Keypair, run: [u8; 32], session: Session) -> Self {
        Self {
            key,
            run,
            session,
            heard: [0; 16],
            told: BTreeSet::new(),
        }
    }

    /// What to tell peers now.
    pub(crate) fn statement(&self) -> Option<Vec<u8>> {
        let statement = Statement {
            session: self.session.id,
            heard: self.heard,
            started: self.session.started,
        };
        statement.sign(&self.run, &self.key)
    }

    /// A peer handed back statements. Returns whether the peer should hear of this session again,
    /// because there is another one that has not heard of it.
    pub(crate) fn answered(&mut self, answer: &[u8], known: &mut KeyUse) -> bool {
        known.answered = true;
        let mut tells_again = false;
        let key = self.key.public();
        let opened = answer
            .chunks(STATEMENT)
            .take(SESSIONS)
            .filter_map(|bytes| Statement::open(bytes, &self.run, &key));
        for other in opened.filter(|other| other.session != self.session.id) {
            self.heard = other.session;
            tells_again |= self.told.len() < PEERS && self.told.insert(other.session);
            let is_alive = other.heard == self.session.id;
            if self.session.earlier.contains(&other.session) && !is_alive {
                known.earlier_heard = true;
                continue;
            }
            let ours = (self.session.started, self.session.id);
            known.other = Some(OtherUse {
                started: other.started,
                began_first: (other.started, other.session) < ours,
            });
        }
        tells_again
    }
}

/// What peers said about their sessions, to hand it to other processes with the same key. It stays
/// when connections close: a second machine may be gone before the first one, which it has thrown
/// out of its connections, is back to hear of it.
#[derive(Debug, Default)]
pub(crate) struct HeardSessions {
    peers: HashMap<PeerId, Vec<(Instant, Vec<u8>)>>,
}

impl HeardSessions {
    /// A peer said which session it is. Returns what other sessions of the same key said lately, or
    /// `None` if this is no statement.
    pub(crate) fn heard(&mut self, peer: PeerId, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        if bytes.len() != STATEMENT {
            return None;
        }
        let is_fresh =
            |(when, _): &(Instant, Vec<u8>)| now.saturating_duration_since(*when) < REMEMBERED;
        if self.peers.len() >= PEERS && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, said| said.iter().any(is_fresh));
            if self.peers.len() >= PEERS {
                return Some(Vec::new());
            }
        }
        let said = self.peers.entry(peer).or_default();
        let session = bytes.get(..16);
        said.retain(|entry| is_fresh(entry) && entry.1.get(..16) != session);
        let others = said.iter().flat_map(|(_, bytes)| bytes.iter().copied());
        let others = others.collect();
        if said.len() >= SESSIONS {
            said.remove(0);
        }
        said.push((now, bytes.to_vec()));
        Some(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: [u8; 32] = [5; 32];

    fn key() -> Keypair {
        Keypair::ed25519_from_bytes([1; 32]).unwrap()
    }

    fn own(id: u8, earlier: &[u8]) -> OwnSession {
        let session = Session {
            id: [id; 16],
            started: id.into(),
            earlier: earlier.iter().map(|id| [*id; 16]).collect(),
        };
        OwnSession::new(key(), RUN, session)
    }

    /// A process that asks a peer, as often as it should.
    fn ask(own: &mut OwnSession, peer: &mut HeardSessions, known: &mut KeyUse) {
        let id = key().public().to_peer_id();
        loop {
            let statement = own.statement().unwrap();
            let answer = peer.heard(id, &statement, Instant::now()).unwrap();
            if !own.answered(&answer, known) {
                return;
            }
        }
    }

    #[test]
    fn two_machines_with_one_key_learn_of_each_other_and_agree_which_came_first() {
        let mut peer = HeardSessions::default();
        let (mut first, mut second) = (own(1, &[]), own(2, &[]));
        let (mut first_knows, mut second_knows) = (KeyUse::default(), KeyUse::default());
        ask(&mut first, &mut peer, &mut first_knows);
        assert!(first_knows.answered && first_knows.other.is_none());
        ask(&mut second, &mut peer, &mut second_knows);
        assert!(second_knows.other.unwrap().began_first);
        ask(&mut first, &mut peer, &mut first_knows);
        assert!(!first_knows.other.unwrap().began_first);
    }

    #[test]
    fn an_earlier_process_is_no_other_machine_unless_it_is_alive() {
        let mut peer = HeardSessions::default();
        let (mut first, mut second) = (own(1, &[]), own(2, &[1]));
        let (mut first_knows, mut second_knows) = (KeyUse::default(), KeyUse::default());
        ask(&mut first, &mut peer, &mut first_knows);
        ask(&mut second, &mut peer, &mut second_knows);
        assert!(second_knows.earlier_heard && second_knows.other.is_none());
        // The folder was copied, and the first machine is alive.
        ask(&mut first, &mut peer, &mut first_knows);
        ask(&mut second, &mut peer, &mut second_knows);
        assert!(first_knows.other.is_some() && second_knows.other.is_some());
    }

    #[test]
    fn what_the_key_has_not_signed_for_this_run_counts_for_nothing() {
        let other = Statement {
            session: [9; 16],
            heard: [0; 16],
            started: 0,
        };
        let stranger = Keypair::generate_ed25519();
        let mut bent = other.sign(&RUN, &key()).unwrap();
        bent[CONTENT - 1] ^= 1;
        for forged in [
            other.sign(&RUN, &stranger).unwrap(),
            other.sign(&[6; 32], &key()).unwrap(),
            bent,
            vec![0; ANSWER],
            vec![1; 3],
        ] {
            let mut known = KeyUse::default();
            own(1, &[]).answered(&forged, &mut known);
            assert_eq!(known.other, None);
        }
        let mut known = KeyUse::default();
        own(1, &[]).answered(&other.sign(&RUN, &key()).unwrap(), &mut known);
        assert!(known.other.is_some());
    }

    #[test]
    fn statements_are_forgotten_and_bounded() {
        let (mut heard, start) = (HeardSessions::default(), Instant::now());
        let peer = PeerId::random();
        assert_eq!(heard.heard(peer, &[0; 7], start), None);
        for session in 0..3 * SESSIONS as u8 {
            heard.heard(peer, &[session; STATEMENT], start).unwrap();
        }
        let answer = heard.heard(peer, &[255; STATEMENT], start).unwrap();
        assert_eq!(answer.len(), ANSWER);
        let later = start + REMEMBERED;
        assert_eq!(heard.heard(peer, &[254; STATEMENT], later), Some(vec![]));
        for _ in 0..2 * PEERS {
            heard
                .heard(PeerId::random(), &[1; STATEMENT], later)
                .unwrap();
        }
        assert!(heard.peers.len() <= PEERS);
    }
}
