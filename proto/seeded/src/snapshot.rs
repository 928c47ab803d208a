//! Random snapshots.

use weal_proto::snapshot::{
    AccountState, ChainSnapshot, MeasuredContribution, MeasuredGain, MeasuringVoter, PastAttesters,
    PastBlobs, PastDecision, SampleRange, StandingState, UnsettledRound, VoterState, WaitingTicket,
};
use weal_proto::{BlobHash, SlotId};

use crate::{Seeded, Source, peers};

impl Seeded for ChainSnapshot {
    fn seeded(source: &mut Source) -> Self {
        Self {
            rules: source.short_number(),
            run: source.any(),
            round: source.any(),
            parent: source.bytes().into(),
            seed: source.bytes().into(),
            accounts: source.rising(4, AccountState::seeded, |account| account.peer),
            tickets: source.rising(4, WaitingTicket::seeded, |ticket| ticket.peer),
            voters: voters(source),
            returned: source.rising(4, SampleRange::seeded, |range| range.start),
            next_sample: source.number(),
            decisions: source.rising(4, PastDecision::seeded, |past| past.round),
            attesters: source.rising(4, PastAttesters::seeded, |past| past.round),
            blobs: source.rising(4, PastBlobs::seeded, |past| past.round),
            unsettled: source.rising(4, UnsettledRound::seeded, |round| round.round),
        }
    }
}

fn voters(source: &mut Source) -> Vec<VoterState> {
    source.rising(4, VoterState::seeded, |voter| voter.peer)
}

impl Seeded for AccountState {
    fn seeded(source: &mut Source) -> Self {
        Self {
            peer: source.bytes().into(),
            weight: source.number(),
            contributions: source.number(),
            standing: source.any(),
            seen_until: source.any(),
            contributed_until: source.any(),
            member: source.coin(),
            banned: source.coin(),
            founder: source.coin(),
            priority: source.number() as i64,
            turn: source.number() as i64,
            departing: source.number(),
        }
    }
}

impl Seeded for StandingState {
    fn seeded(source: &mut Source) -> Self {
        Self {
            level: source.short_number() as i32,
            worth: source.short_number() as i32,
            measured: source.short_number(),
            distance: source.short_number(),
            missed: source.short_number(),
        }
    }
}

impl Seeded for WaitingTicket {
    fn seeded(source: &mut Source) -> Self {
        Self {
            peer: source.bytes().into(),
            round: source.any(),
        }
    }
}

impl Seeded for VoterState {
    fn seeded(source: &mut Source) -> Self {
        Self {
            peer: source.bytes().into(),
            weight: source.number(),
            priority: source.number() as i64,
        }
    }
}

impl Seeded for SampleRange {
    fn seeded(source: &mut Source) -> Self {
        Self {
            start: source.number(),
            end: source.number(),
        }
    }
}

impl Seeded for PastDecision {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            decision: source.bytes().into(),
            voters: voters(source),
        }
    }
}

impl Seeded for PastAttesters {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            peers: peers(source),
        }
    }
}

impl Seeded for PastBlobs {
    fn seeded(source: &mut Source) -> Self {
        let blobs = source.below(4);
        Self {
            round: source.any(),
            blobs: (0..blobs).map(|_| BlobHash::from(source.bytes())).collect(),
        }
    }
}

impl Seeded for UnsettledRound {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            base_root: source.bytes().into(),
            contributions: source.rising(4, MeasuredContribution::seeded, |one| one.slot),
        }
    }
}

impl Seeded for MeasuredContribution {
    fn seeded(source: &mut Source) -> Self {
        Self {
            slot: SlotId(source.below(256) as u8),
            peer: source.bytes().into(),
            trusted: source.coin(),
            own_ppm: source.number(),
            committee: source.rising(4, MeasuringVoter::seeded, |voter| voter.peer),
        }
    }
}

impl Seeded for MeasuringVoter {
    fn seeded(source: &mut Source) -> Self {
        Self {
            peer: source.bytes().into(),
            voices: source.number(),
            report: source.coin().then(|| source.any()),
        }
    }
}

impl Seeded for MeasuredGain {
    fn seeded(source: &mut Source) -> Self {
        Self {
            own_ppm: source.short_number() as i32,
            held_ppm: source.short_number() as i32,
        }
    }
}
