//! What the voters of a committee said about a contribution.

use std::collections::BTreeMap;

use weal_proto::manifest::PPM;
use weal_proto::{PeerId, Score};

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
