//! Every way to be dishonest, by name.

use weal_coordinator_free::sim::Lie;

use crate::conduct::Conduct;
use crate::craft::Craft;
use crate::mischief::Mischief;
use crate::scoring::Scoring;
use crate::theft::Theft;

/// A way to be dishonest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Its name on the command line.
    pub name: &'static str,
    /// What such a peer does, in a sentence.
    pub does: &'static str,
    /// How it makes its contributions.
    pub craft: Craft,
    /// How it reports what it finds in others' contributions.
    pub scoring: Scoring,
    /// What it does with messages.
    pub conduct: Conduct,
}

/// Sends wrong contributions, and keeps to the rules otherwise.
const fn sends(name: &'static str, craft: Craft, does: &'static str) -> Behaviour {
    Behaviour {
        name,
        does,
        craft,
        scoring: Scoring::Honest,
        conduct: Conduct::Plain,
    }
}

/// Reports what it did not find, and contributes as `craft` says.
const fn reports(
    name: &'static str,
    (craft, scoring): (Craft, Scoring),
    does: &'static str,
) -> Behaviour {
    Behaviour {
        scoring,
        ..sends(name, craft, does)
    }
}

/// Trains honestly, and cheats with its messages.
const fn acts(name: &'static str, conduct: Conduct, does: &'static str) -> Behaviour {
    Behaviour {
        conduct,
        ..sends(name, Craft::Honest, does)
    }
}

/// Makes nothing, and does this with messages.
const fn idles(name: &'static str, conduct: Conduct, does: &'static str) -> Behaviour {
    Behaviour {
        craft: Craft::Idle,
        ..acts(name, conduct, does)
    }
}

/// Every way to be dishonest.
pub const BEHAVIOURS: &[Behaviour] = &[
    sends(
        "sign-flip",
        Craft::SignFlip,
        "Send the negative of what it learnt.",
    ),
    sends(
        "scaled",
        Craft::Scaled,
        "Send the negative of what it learnt, times 1,000.",
    ),
    sends(
        "small-poison",
        Craft::SmallPoison,
        "Send the negative of what it learnt at half the usual norm, which no clip touches.",
    ),
    sends(
        "noise",
        Craft::Noise,
        "Send random values of an honest norm.",
    ),
    sends("zeros", Craft::Zeros, "Send zeros."),
    sends(
        "free-rider",
        Craft::Replay,
        "Train once, then send the same contribution every round.",
    ),
    sends(
        "copier",
        Craft::Copy,
        "Send what an honest peer sent in the round before.",
    ),
    sends(
        "noisy-copier",
        Craft::NoisyCopy,
        "Send what an honest peer sent in the round before, with a tenth of the signs turned.",
    ),
    idles(
        "thief",
        Conduct::Steal(Theft::Running),
        "Commit to the blob that another peer has committed to.",
    ),
    idles(
        "old-thief",
        Conduct::Steal(Theft::Old),
        "Commit to a blob of the round before, which everybody holds.",
    ),
    idles(
        "late-copier",
        Conduct::Steal(Theft::Revealed),
        "Wait until another peer reveals, then commit to a copy of that body under its own name.",
    ),
    idles(
        "crowd",
        Conduct::Crowd,
        "Without a GPU, ask for places under 100 keys, and send noisy copies of the round before.",
    ),
    sends(
        "inner-product",
        Craft::InnerProduct,
        "Collude to send the negative of the mean of honest work.",
    ),
    sends(
        "little-is-enough",
        Craft::LittleIsEnough,
        "Collude to send values just inside the spread of honest ones, on the harmful side.",
    ),
    sends("wrong-labels", Craft::Reversed, "Train on wrong answers."),
    sends(
        "stale",
        Craft::Stale,
        "Train from the weights of four rounds ago.",
    ),
    sends(
        "lazy",
        Craft::Lazy,
        "Take one step of ten and scale the result to an honest norm.",
    ),
    sends(
        "betrayal",
        Craft::Betrayal,
        "Work honestly for 15 rounds, then send the negative of what it learns.",
    ),
    sends(
        "late-betrayal",
        Craft::LateBetrayal,
        "Work honestly for 30 rounds, then send the negative of what it learns.",
    ),
    sends(
        "slow-betrayal",
        Craft::SlowBetrayal,
        "Work honestly for 10 rounds, then turn a fortieth more of the signs in each round.",
    ),
    sends(
        "hide",
        Craft::Hiding,
        "Turn a fifth of the signs, so few that voters do not refuse it.",
    ),
    acts(
        "withhold",
        Conduct::WithholdAll,
        "Commit, and never reveal.",
    ),
    acts(
        "withhold-some",
        Conduct::WithholdSome,
        "Commit, and reveal to every other peer only.",
    ),
    acts(
        "drip",
        Conduct::Drip,
        "Commit, and reveal so late that only some peers get it in time.",
    ),
    acts(
        "vanish",
        Conduct::Vanish,
        "Keep to the rules for 15 rounds, then be silent from one moment to the next.",
    ),
    acts(
        "two-commitments",
        Conduct::Equivocate(Lie::TwoCommitments),
        "Commit to two contributions in one round.",
    ),
    acts(
        "two-proposals",
        Conduct::Equivocate(Lie::TwoProposals),
        "Propose two sets in one view, and vote for both.",
    ),
    acts(
        "two-votes",
        Conduct::Equivocate(Lie::TwoVotes),
        "Vote for the set towards some peers and against it towards others.",
    ),
    acts(
        "two-attestations",
        Conduct::Agreement(Mischief::TwoAttestations),
        "Attest two state roots, each towards half of the peers.",
    ),
    acts(
        "bad-attestations",
        Conduct::Agreement(Mischief::BadAttestations),
        "Attest weights that nobody has, and refuse every contribution.",
    ),
    acts(
        "refuse-all",
        Conduct::Agreement(Mischief::RefuseAll),
        "Attest the right weights, and refuse every contribution.",
    ),
    acts(
        "garbage",
        Conduct::Agreement(Mischief::Garbage),
        "Attest random bytes, more bytes than fit, and made-up scores of all places.",
    ),
    acts(
        "censor",
        Conduct::Agreement(Mischief::Censor),
        "Propose sets without contributions.",
    ),
    acts(
        "narrow-sets",
        Conduct::Agreement(Mischief::Narrow),
        "Propose sets with as few attestations as possible.",
    ),
    acts(
        "flood",
        Conduct::Agreement(Mischief::Flood),
        "Send 20 commitments and tickets of unknown keys for each member's commitment.",
    ),
    acts(
        "no-proposals",
        Conduct::NoProposals,
        "Propose nothing when it is its turn.",
    ),
    acts("no-votes", Conduct::NoVotes, "Never vote."),
    reports(
        "praise-friends",
        (Craft::SignFlip, Scoring::Partial),
        "Send the negative of what it learnt, praise those who do, and damn the rest.",
    ),
    reports(
        "flatter",
        (Craft::Honest, Scoring::Flattering),
        "Praise every contribution without looking.",
    ),
    reports(
        "damn",
        (Craft::Honest, Scoring::Damning),
        "Damn every contribution but its own and its friends'.",
    ),
    reports(
        "tilt",
        (Craft::Honest, Scoring::Tilted),
        "Report that its friends' work does twice as much as it does, and others' nothing.",
    ),
    Behaviour {
        name: "grind",
        does: "As tilt, and propose the sets that draw its friends to measure most.",
        craft: Craft::Honest,
        scoring: Scoring::Tilted,
        conduct: Conduct::Agreement(Mischief::Grind),
    },
    reports(
        "silent-judge",
        (Craft::Honest, Scoring::Silent),
        "Never report what others' contributions do.",
    ),
];

/// The behaviour with this name.
pub fn find(name: &str) -> Option<&'static Behaviour> {
    BEHAVIOURS.iter().find(|behaviour| behaviour.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_used_once() {
        for (place, behaviour) in BEHAVIOURS.iter().enumerate() {
            let first = BEHAVIOURS.iter().position(|one| one.name == behaviour.name);
            assert_eq!(first, Some(place), "{}", behaviour.name);
        }
    }
}
