//! Everything as it is now.

use std::collections::BTreeMap;

use weal_dashboard::{MonthTraffic, Node, Peer, PeerRound, Run, Snapshot, Traffic};
use weal_network as network;
use weal_proto::PeerId;
use weal_proto::manifest::PPM;

use super::feed::PageFeed;
use super::observed::Observed;
use super::{reach, state};
use crate::traffic_meter::MonthlyUse;
use crate::wall_clock::unix_ms;

impl PageFeed {
    /// Everything as it is now.
    pub(crate) fn snapshot(&self, observed: &Observed<'_>) -> Snapshot {
        let core = observed.core;
        let set = self
            .message
            .clone()
            .filter(|_| observed.full_disk.is_none());
        let (state, message) = set.unwrap_or_else(|| self.state(observed));
        Snapshot {
            unix_ms: unix_ms(),
            run: Run {
                link: observed.link.clone(),
                ..self.run.clone()
            },
            node: Node {
                uptime_seconds: self.started.elapsed().as_secs_f64(),
                device: observed.health.device.clone(),
                state,
                message,
                reachability: reach::words(observed.network),
                reachability_advice: reach::advice(observed.network).into(),
                ..self.node.clone()
            },
            fetch: observed.fetch.clone(),
            learner: state::learner(&observed.health),
            round: self.clock.round(
                core.round.0,
                observed.learner.steps_done,
                self.run.inner_steps,
            ),
            history: self
                .records
                .iter()
                .filter(|record| !record.root.is_empty())
                .cloned()
                .collect(),
            peers: self.peers(observed),
            floors: self.floors.clone(),
            traffic: traffic(observed.network),
            month: month(observed.monthly_use),
            dropped: self.drops(observed.network),
            events: self.lines.iter().cloned().collect(),
        }
    }

    fn peers(&self, observed: &Observed<'_>) -> Vec<Peer> {
        let mut peers: BTreeMap<PeerId, Peer> = BTreeMap::new();
        for peer in &observed.core.peers {
            let this_round = match self.this_round.get(&peer.peer) {
                Some(state) => state.clone(),
                None if peer.committed => PeerRound::Committed,
                None => PeerRound::None,
            };
            peers.insert(
                peer.peer,
                Peer {
                    id: peer.peer.to_string(),
                    name: peer.peer.short(),
                    voter: peer.voting_weight.0 > 0,
                    weight: peer.voting_weight.0,
                    contributions: peer.contributions,
                    measured: peer.measured.into(),
                    coefficient: f64::from(peer.coefficient_ppm) / f64::from(PPM),
                    placed: peer.placed,
                    last_round: self.last_rounds.get(&peer.peer).copied(),
                    connected: peer.peer.to_string() == self.node.id,
                    this_round,
                    ..Peer::default()
                },
            );
        }
        for connection in &observed.network.peers {
            let id = PeerId::from(connection.peer);
            let peer = peers.entry(id).or_insert_with(|| Peer {
                id: id.to_string(),
                name: id.short(),
                ..Peer::default()
            });
            peer.connected = true;
            peer.address = connection.address.to_string();
            peer.relayed = connection.relayed;
            peer.bytes_sent = connection.traffic.sent;
            peer.bytes_received = connection.traffic.received;
        }
        peers.into_values().collect()
    }

    /// Drops by cause: those of the rules, and those of the network.
    fn drops(&self, network: &network::Status) -> BTreeMap<String, u64> {
        let mut dropped = self.dropped.clone();
        for (cause, count) in network.drops.by_cause() {
            if count > 0 {
                dropped.insert(cause.to_owned(), count);
            }
        }
        dropped
    }
}

fn month(used: &MonthlyUse) -> MonthTraffic {
    MonthTraffic {
        month: used.month.to_string(),
        bytes_sent: used.sent,
        bytes_received: used.received,
        max_bytes_sent: used.most_sent,
        max_bytes_received: used.most_received,
    }
}

fn traffic(network: &network::Status) -> BTreeMap<String, Traffic> {
    let bytes = &network.traffic;
    let kinds = [
        ("gossip", bytes.gossip),
        ("blob", bytes.blob),
        ("sync", bytes.sync),
        ("relay", bytes.relay),
        ("upkeep", bytes.upkeep),
    ];
    kinds
        .into_iter()
        .map(|(kind, count)| {
            let traffic = Traffic {
                bytes_sent: count.sent,
                bytes_received: count.received,
            };
            (kind.to_owned(), traffic)
        })
        .collect()
}
