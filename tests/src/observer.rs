//! A silent peer that records what every node signs, and finds equivocations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use weal_network::{self as network, Event, GossipVerdict, Multiaddr, Network, Silent};
use weal_proto::{
    Attestation, Commitment, Envelope, Kind, Message, PeerId, Proposal, Recovery, RunId, Vote,
    VoteStep,
};

/// What a message is about. A peer that signs two different messages for one slot equivocates.
type Slot = (PeerId, Kind, u64, u32, bool);

#[derive(Default)]
struct Book {
    signed: BTreeMap<Slot, Vec<u8>>,
    contradictions: Vec<String>,
}

/// Hears all gossip of a run.
pub struct Observer {
    book: Arc<Mutex<Book>>,
    _runtime: tokio::runtime::Runtime,
    _network: Network,
}

impl Observer {
    /// Connects to the nodes behind these addresses.
    ///
    /// # Panics
    /// When its network cannot start.
    pub fn start(run: RunId, peers: Vec<Multiaddr>) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let settings = network::Settings {
            listen: network::Settings::listen_on_loopback(0).to_vec(),
            bootstrap: peers,
            mdns: false,
            max_gossip_bytes: weal_proto::limits::ENVELOPE_BYTES,
            ..network::Settings::default()
        };
        let started = runtime.block_on(Network::start(
            [0x0b; 32],
            run.into(),
            settings,
            Arc::new(Silent),
        ));
        let (network, mut events) = started.expect("a network that starts");
        let book = Arc::<Mutex<Book>>::default();
        let (heard, verdicts) = (book.clone(), network.clone());
        runtime.spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Gossip { id, bytes, .. } = event {
                    verdicts.verdict(id, GossipVerdict::Accept).await;
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .hear(&bytes, run);
                }
            }
        });
        Self {
            book,
            _runtime: runtime,
            _network: network,
        }
    }

    /// The number of recorded slots.
    pub fn heard(&self) -> usize {
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .signed
            .len()
    }

    /// Equivocations, in words: pairs of messages that no honest node signs.
    pub fn contradictions(&self) -> Vec<String> {
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contradictions
            .clone()
    }
}

impl Book {
    fn hear(&mut self, bytes: &[u8], run: RunId) {
        let Ok(envelope) = Envelope::decode(bytes) else {
            return;
        };
        if envelope.verify(run).is_err() {
            return;
        }
        let Some(slot) = slot(&envelope) else {
            return;
        };
        let first = self
            .signed
            .entry(slot)
            .or_insert_with(|| envelope.payload.clone());
        if *first != envelope.payload {
            self.contradictions.push(format!(
                "{:?} of {} in round {}",
                slot.1,
                slot.0.short(),
                slot.2
            ));
        }
    }
}

fn slot(envelope: &Envelope) -> Option<Slot> {
    let (round, view, precommit) = match envelope.kind {
        Kind::Commitment => (envelope.open::<Commitment>().ok()?.round, 0, false),
        Kind::Attestation => {
            let attestation: Attestation = envelope.open().ok()?;
            (attestation.round, attestation.attempt, false)
        }
        Kind::Proposal => {
            let proposal: Proposal = envelope.open().ok()?;
            (proposal.round, proposal.view.0, false)
        }
        Kind::Vote => {
            let vote: Vote = envelope.open().ok()?;
            (vote.round, vote.view.0, vote.step == VoteStep::Precommit)
        }
        Kind::Recovery => (envelope.open::<Recovery>().ok()?.round, 0, false),
        Kind::ViewCertificate | Kind::Leave | Kind::Ticket | Kind::Closed => return None,
    };
    Some((envelope.signer, envelope.kind, round.0, view, precommit))
}
