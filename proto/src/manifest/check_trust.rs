//! The rules that a manifest's membership, trust and founders must keep.

use super::check::{unless, within};
use super::{Manifest, Membership, PPM, Trust};
use crate::error::ManifestError;
use crate::limits;

/// Limit on a peer's weight. [`limits::VOTERS`] such weights sum to less than 2^60, as the
/// agreement engine requires.
const MOST_PEER_WEIGHT: u64 = 1 << 50;
const MOST_ROUNDS: u32 = 1 << 20;
/// A laptop takes hours for this many.
const MOST_TICKET_BITS: u32 = 40;
/// Limit on a score, in typical contributions.
const MOST_SCORE: u64 = 4;
/// Limit on the rounds until a round is settled: until then its attestations are remembered.
const MOST_SETTLE_ROUNDS: u32 = 8;

pub(super) fn membership(m: &Membership) -> Result<(), ManifestError> {
    within(
        "membership.weight_decay_ppm",
        m.weight_decay_ppm,
        1,
        PPM - 1,
    )?;
    // The weight of a peer that earns the most in every round approaches it / (1 - decay).
    let fading = u64::from(PPM.saturating_sub(m.weight_decay_ppm));
    within(
        "membership.credit",
        m.credit,
        1,
        (MOST_PEER_WEIGHT / u64::from(PPM) / MOST_SCORE).saturating_mul(fading),
    )?;
    within(
        "membership.probation_rounds",
        m.probation_rounds,
        0,
        MOST_ROUNDS,
    )?;
    within(
        "membership.vesting_rounds",
        m.vesting_rounds,
        0,
        MOST_ROUNDS,
    )?;
    within(
        "membership.absence_rounds",
        m.absence_rounds,
        1,
        MOST_ROUNDS,
    )?;
    within("membership.quorum_shrink_ppm", m.quorum_shrink_ppm, 1, PPM)?;
    within("membership.ticket_bits", m.ticket_bits, 0, MOST_TICKET_BITS)
}

pub(super) fn trust(t: &Trust) -> Result<(), ManifestError> {
    let most_score = MOST_SCORE as u32 * PPM;
    within("trust.least_signal_ppm", t.least_signal_ppm, 0, PPM)?;
    within("trust.copy_ppm", t.copy_ppm, 1, PPM)?;
    within("trust.least_compared", t.least_compared, 2, 256)?;
    within("trust.committee", t.committee, 1, limits::VOTERS as u32)?;
    within("trust.probation", t.probation, 0, MOST_ROUNDS)?;
    let most = MOST_SETTLE_ROUNDS;
    within("trust.settle_rounds", t.settle_rounds, 1, most)?;
    within("trust.least_typical_ppm", t.least_typical_ppm, 1, PPM)?;
    within("trust.most_score_ppm", t.most_score_ppm, PPM, most_score)?;
    within("trust.harm_ppm", t.harm_ppm, 1, t.most_score_ppm)?;
    within("trust.memory_rounds", t.memory_rounds, 1, 1_000)?;
    within("trust.full_standing_ppm", t.full_standing_ppm, 1, PPM)?;
    within("trust.pot", t.pot, 1, 1 << 50)?;
    let distance = t.most_distance_ppm;
    within("trust.most_distance_ppm", distance, PPM, 1_000 * PPM)
}

pub(super) fn founders(m: &Manifest) -> Result<(), ManifestError> {
    within("founders (number)", m.founders.len(), 1, limits::FOUNDERS)?;
    for founder in &m.founders {
        within("founders.weight", founder.weight.0, 1, MOST_PEER_WEIGHT)?;
    }
    let rising = m
        .founders
        .iter()
        .zip(m.founders.iter().skip(1))
        .all(|(a, b)| a.peer < b.peer);
    unless(
        rising,
        "founders",
        "not in order, or one twice",
        "strictly rising by key",
    )
}
