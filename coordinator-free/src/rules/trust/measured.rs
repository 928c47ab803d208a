//! What the voters of a committee said about a contribution.

use std::collections::BTreeMap;

use weal_proto::manifest::PPM;
use weal_proto::snapshot::{MeasuredContribution, MeasuredGain, MeasuringVoter};
use weal_proto::{PeerId, Score, SlotId};

use super::weighted_median;

/// A chosen contribution of a round, and what voters said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    /// The contributor.
    pub peer: PeerId,
    /// Whether its probation was over when the round was decided.
    pub trusted: bool,
    /// The voters that were drawn, and the voices of each.
    pub committee: BTreeMap<PeerId, u64>,
    /// The voices that the contributor's own weight stands for, in ppm of one.
    pub own_ppm: u64,
    /// What they reported.
    pub reports: BTreeMap<PeerId, Report>,
}

/// What one voter measured, in ppm of the loss; positive is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(super) own: i32,
    pub(super) held: i32,
}

impl From<&Score> for Report {
    fn from(score: &Score) -> Self {
        Self {
            own: score.own_ppm,
            held: score.held_ppm,
        }
    }
}

impl Report {
    /// What counts: the gain on the peer's own samples, but at most twice that on held-out ones, or
    /// the loss on these. So samples that are learnt by heart earn nothing, and neither does a
    /// contribution that was made on other samples than it claims.
    pub(crate) fn gain(self) -> i64 {
        let (own, held) = (i64::from(self.own), i64::from(self.held));
        own.min(held.saturating_add(held.max(0)))
    }
}

impl Measured {
    /// The contribution in this place, as a snapshot holds it. Only those of the committee report.
    pub(super) fn state(&self, slot: SlotId) -> MeasuredContribution {
        let voter = |(peer, voices): (&PeerId, &u64)| MeasuringVoter {
            peer: *peer,
            voices: *voices,
            report: self.reports.get(peer).map(|report| MeasuredGain {
                own_ppm: report.own,
                held_ppm: report.held,
            }),
        };
        MeasuredContribution {
            slot,
            peer: self.peer,
            trusted: self.trusted,
            own_ppm: self.own_ppm,
            committee: self.committee.iter().map(voter).collect(),
        }
    }

    /// The contribution that a snapshot holds.
    pub(super) fn of_state(state: &MeasuredContribution) -> Self {
        let report = |voter: &MeasuringVoter| {
            let report = voter.report.map(|gain| Report {
                own: gain.own_ppm,
                held: gain.held_ppm,
            });
            Some((voter.peer, report?))
        };
        let committee = &state.committee;
        Self {
            peer: state.peer,
            trusted: state.trusted,
            committee: committee.iter().map(|one| (one.peer, one.voices)).collect(),
            own_ppm: state.own_ppm,
            reports: committee.iter().filter_map(report).collect(),
        }
    }

    /// The median over the committee's voices, of those that reported. `None` unless at least half
    /// of the voices did: otherwise whoever alone is not silent would decide.
    ///
    /// The contributor's own voices count as the highest report. Without them a liar would be
    /// judged by honest voters only, and everybody else by committees that the liar sits in: among
    /// four equal voters it is a third of each.
    pub(crate) fn gain(&self) -> Option<i64> {
        let voices: u64 = self.committee.values().sum();
        let heard = self.reports.iter().filter_map(|(voter, report)| {
            let voices = self.committee.get(voter)?;
            Some((report.gain(), *voices))
        });
        let present: u64 = heard.clone().map(|(_, voices)| voices).sum();
        let highest = heard.clone().map(|(gain, _)| gain).max()?;
        let enough = present.saturating_mul(2) >= voices;
        let heard = heard.map(|(gain, voices)| (gain, voices.saturating_mul(PPM.into())));
        weighted_median(heard.chain([(highest, self.own_ppm)])).filter(|_| enough)
    }
}
