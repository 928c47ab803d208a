//! Flows that share uplinks and downlinks equally.

use std::collections::BTreeMap;
use std::time::Duration;

use weal_proto::BlobHash;

use crate::swarm::picker::GiftId;

/// Bytes a second: 20 Mbit/s up, 200 down.
pub(super) const UP: f64 = 2.5e6;
const DOWN: f64 = 25e6;
/// A flow that drips, just above the least rate of a stream.
const DRIP: f64 = 5e3;

/// A piece on its way.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub from: usize,
    pub to: usize,
    pub blob: BlobHash,
    pub piece: u32,
    pub gift: GiftId,
    pub bytes: f64,
    pub left: f64,
    pub drips: bool,
    /// Whether the receiver has said that it wants the piece.
    pub flows: bool,
}

/// The links of all peers, and the flows on them.
pub(super) struct Links {
    flows: BTreeMap<u64, Flow>,
    sending: Vec<usize>,
    receiving: Vec<usize>,
    next: u64,
}

impl Links {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            flows: BTreeMap::new(),
            sending: vec![0; nodes],
            receiving: vec![0; nodes],
            next: 0,
        }
    }

    /// A piece is offered.
    pub(super) fn add(&mut self, flow: Flow) -> u64 {
        self.next += 1;
        self.flows.insert(self.next, flow);
        self.next
    }

    /// The bytes of an offered piece begin to flow.
    pub(super) fn begin(&mut self, id: u64) -> Option<GiftId> {
        let flow = self.flows.get_mut(&id)?;
        if flow.flows || flow.left == 0.0 {
            return None;
        }
        flow.flows = true;
        let flow = flow.clone();
        self.count(&flow, 1);
        Some(flow.gift)
    }

    /// Whether a node's uplink is busy.
    pub(super) fn is_sending(&self, node: usize) -> bool {
        self.sending[node] > 0
    }

    pub(super) fn flow(&self, id: u64) -> Option<&Flow> {
        self.flows.get(&id)
    }

    pub(super) fn find(&self, from: usize, to: usize, blob: &BlobHash, piece: u32) -> Option<u64> {
        let same = |flow: &Flow| {
            flow.from == from && flow.to == to && flow.blob == *blob && flow.piece == piece
        };
        let mut flows = self.flows.iter();
        flows.find(|(_, flow)| same(flow)).map(|(id, _)| *id)
    }

    /// A flow has left its sender, and no longer takes room on the links.
    pub(super) fn drained(&mut self, id: u64) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.left = 0.0;
            flow.flows = false;
            let flow = flow.clone();
            self.count(&flow, -1);
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Flow> {
        let flow = self.flows.remove(&id)?;
        if flow.flows {
            self.count(&flow, -1);
        }
        Some(flow)
    }

    /// Removes the flows to and from a node.
    pub(super) fn remove_of(&mut self, node: usize) -> Vec<Flow> {
        let of_node = |flow: &Flow| flow.from == node || flow.to == node;
        let ids: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, flow)| of_node(flow))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// The flow that ends next, and when.
    pub(super) fn next(&self, now: Duration) -> Option<(Duration, u64)> {
        let flowing = self.flows.iter().filter(|(_, flow)| flow.flows);
        flowing
            .map(|(id, flow)| {
                let left = Duration::from_secs_f64(flow.left / self.rate(flow));
                (now + left + Duration::from_nanos(1), *id)
            })
            .min()
    }

    pub(super) fn flow_for(&mut self, time: Duration) {
        let rates: Vec<_> = self.flows.values().map(|flow| self.rate(flow)).collect();
        for (flow, rate) in self.flows.values_mut().zip(rates) {
            if flow.flows {
                flow.left = (flow.left - rate * time.as_secs_f64()).max(1e-9);
            }
        }
    }

    fn rate(&self, flow: &Flow) -> f64 {
        if flow.drips {
            return DRIP;
        }
        let up = UP / self.sending[flow.from].max(1) as f64;
        up.min(DOWN / self.receiving[flow.to].max(1) as f64)
    }

    fn count(&mut self, flow: &Flow, by: isize) {
        if !flow.drips {
            self.sending[flow.from] = self.sending[flow.from].saturating_add_signed(by);
            self.receiving[flow.to] = self.receiving[flow.to].saturating_add_signed(by);
        }
    }
}
