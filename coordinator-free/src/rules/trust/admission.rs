//! Which contributions a voter refuses in the round itself, before anything is applied.
//!
//! A voter compares the contributions of a round with one another and with what it learnt itself.
//! Neither needs a pass through the model. What points elsewhere than the rest is refused:
//! turned or random signs, training on rubbish, a contribution of an earlier round, a few steps
//! blown up to look like many. Of two copies one is refused. A contribution is left out of the
//! round if voters with half of the weight refuse it, so a voter that errs alone changes nothing.

use std::cmp::Reverse;

use weal_proto::Verdict;
use weal_proto::manifest::Trust;

use super::{ONE, lower_median, scaled};

/// A tenfold lower number of samples makes the threshold about three times lower. It is never less
/// than this part, so that a claim of few samples does not excuse everything.
const LEAST_ALLOWANCE: i64 = ONE / 4;

/// A contribution of the running round, as one voter sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Its net overlap with those of peers with history, in ppm.
    pub net: Option<i32>,
    /// The standard deviation of that by chance, in ppm.
    pub net_noise: u32,
    /// Its agreement with what the voter learnt, in ppm.
    pub work: Option<i32>,
    /// Samples that it claims to be trained on.
    pub samples: u64,
    /// Whether its peer's probation is over.
    pub trusted: bool,
    /// Its peer's standing.
    pub standing: i32,
    /// Other candidates that share more with it than independent work does, by their place in the
    /// list.
    pub alike: Vec<usize>,
    /// Whether it repeats one that an earlier round chose.
    pub repeats: bool,
}

/// Why each candidate is refused, in their order; `None` for those that are not.
pub(crate) fn refusals(candidates: &[Compared], rules: &Trust) -> Vec<Option<Verdict>> {
    let copies = copies(candidates);
    let references = References::of(candidates, &copies, rules);
    let judge = |(candidate, is_copy): (&Compared, &bool)| {
        if *is_copy {
            Some(Verdict::Copy)
        } else {
            references
                .refuse(candidate, rules)
                .then_some(Verdict::Disagrees)
        }
    };
    candidates.iter().zip(&copies).map(judge).collect()
}

/// Which candidates are copies: those that repeat what an earlier round chose, and one of two that
/// are alike. That is the one whose peer has less standing; with equal standing, the later in the
/// list.
///
/// Nobody can copy in time what is revealed only after everybody committed. So two that are alike
/// are usually one peer's work under two names, and it gets one place. If a copier did see the
/// original in time, the original's standing keeps it in.
fn copies(candidates: &[Compared]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&place| (Reverse(candidates.get(place).map(|c| c.standing)), place));
    let mut kept = vec![false; candidates.len()];
    let mut copies = vec![false; candidates.len()];
    for place in order {
        let alike = candidates.get(place).map_or(&[][..], |one| &one.alike);
        let repeats = candidates.get(place).is_some_and(|one| one.repeats);
        let is_copy = repeats
            || alike
                .iter()
                .any(|other| kept.get(*other).is_some_and(|kept| *kept));
        let list = if is_copy { &mut copies } else { &mut kept };
        if let Some(entry) = list.get_mut(place) {
            *entry = true;
        }
    }
    copies
}

/// What a candidate of a peer with history usually has.
struct References {
    net: Option<i64>,
    work: Option<i64>,
    samples: u64,
}

impl References {
    /// The medians over candidates of peers with history, without copies: a crowd of newcomers
    /// cannot move them.
    fn of(candidates: &[Compared], copies: &[bool], rules: &Trust) -> Self {
        let trusted = || {
            let originals = candidates.iter().zip(copies).filter(|(_, copy)| !**copy);
            originals.filter(|(one, _)| one.trusted).map(|(one, _)| one)
        };
        let compared = candidates.iter().filter(|one| one.net.is_some()).count();
        let enough = compared >= rules.least_compared as usize;
        Self {
            net: lower_median(trusted().filter_map(|one| one.net.map(i64::from)))
                .filter(|_| enough),
            work: lower_median(trusted().filter_map(|one| one.work.map(i64::from))),
            samples: lower_median(trusted().map(|one| one.samples)).unwrap_or(0),
        }
    }

    /// Whether a candidate has too little of either signal. One that could not be measured, or
    /// whose usual value is not above zero, refuses nobody.
    fn refuse(&self, candidate: &Compared, rules: &Trust) -> bool {
        let allowance = self.allowance(candidate.samples);
        let is_low = |found: Option<i64>, usual: Option<i64>| match (found, usual) {
            (Some(found), Some(usual)) if usual > 0 => {
                let least = scaled(usual, rules.least_signal_ppm.into(), ONE);
                found < scaled(least, allowance, ONE)
            }
            _ => false,
        };
        let net = candidate
            .net
            .map(|net| i64::from(net).saturating_add(candidate.net_noise.into()));
        is_low(net, self.net) || is_low(candidate.work.map(i64::from), self.work)
    }

    /// The part of the usual signal that a candidate with this many samples can have, in ppm: the
    /// root of its samples over the usual number. A signal against noise grows with the root of
    /// the samples; two steps of ten measured 0.45 of the median.
    fn allowance(&self, samples: u64) -> i64 {
        if samples >= self.samples {
            return ONE;
        }
        let square = u128::from(samples).saturating_mul(u128::from(ONE.unsigned_abs()).pow(2));
        let part = square.checked_div(self.samples.into()).unwrap_or(0).isqrt();
        i64::try_from(part)
            .unwrap_or(ONE)
            .clamp(LEAST_ALLOWANCE, ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn honest(net: i32, work: i32) -> Compared {
        Compared {
            net: Some(net),
            net_noise: 1_000,
            work: Some(work),
            samples: 80,
            trusted: true,
            standing: 1_000_000,
            alike: Vec::new(),
            repeats: false,
        }
    }

    fn verdicts(candidates: &[Compared]) -> Vec<Option<Verdict>> {
        refusals(candidates, &Trust::default())
    }

    /// Eight honest contributions, and one more.
    fn among_honest(one: Compared) -> Option<Verdict> {
        let mut all: Vec<_> = (0..8).map(|n| honest(98_000 + 500 * n, 700_000)).collect();
        all.push(one);
        verdicts(&all).pop().flatten()
    }

    #[test]
    fn what_has_half_of_the_usual_signals_is_let_in_and_less_is_refused() {
        assert_eq!(among_honest(honest(100_000, 700_000)), None);
        assert_eq!(among_honest(honest(50_000, 350_000)), None);
        assert_eq!(
            among_honest(honest(40_000, 700_000)),
            Some(Verdict::Disagrees)
        );
        assert_eq!(
            among_honest(honest(100_000, 300_000)),
            Some(Verdict::Disagrees)
        );
        assert_eq!(
            among_honest(honest(-90_000, -700_000)),
            Some(Verdict::Disagrees)
        );
    }

    #[test]
    fn what_could_not_be_measured_is_let_in() {
        let unmeasured = Compared {
            net: None,
            work: None,
            ..honest(0, 0)
        };
        assert_eq!(among_honest(unmeasured), None);
    }

    #[test]
    fn chance_is_granted_to_a_contribution_of_few_values() {
        let few = Compared {
            net_noise: 30_000,
            ..honest(25_000, 700_000)
        };
        assert_eq!(among_honest(few), None);
    }

    #[test]
    fn a_slow_peer_is_judged_by_its_samples_and_a_claim_of_few_does_not_excuse_all() {
        let slow = |samples, net, work| Compared {
            samples,
            ..honest(net, work)
        };
        // A quarter of the samples: half of the signal, and half of that suffices.
        assert_eq!(among_honest(slow(20, 26_000, 180_000)), None);
        assert_eq!(
            among_honest(slow(80, 26_000, 180_000)),
            Some(Verdict::Disagrees)
        );
        assert_eq!(
            among_honest(slow(20, 20_000, 180_000)),
            Some(Verdict::Disagrees)
        );
        assert_eq!(among_honest(slow(0, 12_500, 88_000)), None);
        assert_eq!(
            among_honest(slow(0, 5_000, 88_000)),
            Some(Verdict::Disagrees)
        );
    }

    #[test]
    fn among_few_contributions_only_the_voters_own_work_counts() {
        let mut four: Vec<_> = (0..3).map(|_| honest(100_000, 700_000)).collect();
        four.push(honest(-100_000, 700_000));
        assert_eq!(verdicts(&four), [None; 4]);
        four.push(honest(100_000, -1));
        let refused = Some(Verdict::Disagrees);
        assert_eq!(verdicts(&four), [None, None, None, refused, refused]);
    }

    #[test]
    fn a_crowd_of_newcomers_does_not_decide_what_is_usual() {
        let crowd = Compared {
            trusted: false,
            ..honest(900_000, 10_000)
        };
        let mut all = vec![honest(100_000, 700_000), honest(90_000, 700_000)];
        all.extend(vec![crowd; 6]);
        let refused = Some(Verdict::Disagrees);
        assert_eq!(verdicts(&all)[..2], [None, None]);
        assert_eq!(verdicts(&all)[2..], [refused; 6]);
    }

    #[test]
    fn of_two_that_are_alike_the_one_with_less_standing_is_the_copy() {
        let alike = |other, standing| Compared {
            alike: vec![other],
            standing,
            ..honest(100_000, 700_000)
        };
        let copy = Some(Verdict::Copy);
        assert_eq!(verdicts(&[alike(1, 5), alike(0, 9)]), [copy, None]);
        assert_eq!(verdicts(&[alike(1, 9), alike(0, 9)]), [None, copy]);
        // A place outside the list is nobody.
        assert_eq!(verdicts(&[alike(7, 5)]), [None]);
    }

    #[test]
    fn what_repeats_an_earlier_round_is_a_copy_whatever_its_standing() {
        let repeated = Compared {
            repeats: true,
            standing: 9,
            alike: vec![1],
            ..honest(100_000, 700_000)
        };
        // Nor does it make copies of others.
        let all = [repeated, honest(100_000, 700_000)];
        assert_eq!(verdicts(&all), [Some(Verdict::Copy), None]);
    }

    #[test]
    fn what_is_like_a_copy_only_is_no_copy() {
        let mut chain = vec![honest(100_000, 700_000); 3];
        chain[0].alike = vec![1];
        chain[1].alike = vec![0, 2];
        chain[2].alike = vec![1];
        assert_eq!(verdicts(&chain), [None, Some(Verdict::Copy), None]);
    }

    fn any_signal() -> impl Strategy<Value = i32> {
        -1_000_000..1_000_000_i32
    }

    proptest! {
        /// However a minority of trusted liars looks, honest peers that agree are let in.
        #[test]
        fn a_minority_of_liars_refuses_nobody_honest(
            liars in prop::collection::vec((any_signal(), any_signal()), 0..5),
            noise in prop::collection::vec(-8_000..8_000_i32, 6..12),
        ) {
            let mut all: Vec<_> = noise.iter().map(|n| honest(100_000 + n, 700_000 + n)).collect();
            let count = all.len();
            all.extend(liars.iter().map(|(net, work)| honest(*net, *work)));
            prop_assert!(verdicts(&all)[..count].iter().all(Option::is_none));
        }
    }
}
