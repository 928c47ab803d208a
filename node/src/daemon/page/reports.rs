//! What the core reports, in words.

use weal_coordinator_free::{Event, Phase as CorePhase};
use weal_dashboard::{Level, Phase};
use weal_proto::limits::RULES;

use super::feed::PageFeed;

impl PageFeed {
    /// Shows something that the core reports.
    pub(crate) fn report(&mut self, event: &Event) {
        match event {
            Event::PhaseChanged { phase, .. } => self.clock.enter(page_phase(*phase)),
            Event::Dropped { cause, .. } => self.count_drop(cause.name()),
            event => {
                let Some((level, text)) = describe(event) else {
                    return;
                };
                match is_up_to_strangers(event) {
                    true => self.say_of_stranger(level, text),
                    false => self.say(level, text),
                }
            }
        }
    }
}

/// Whether peers that are nobody in the run decide how often this happens.
fn is_up_to_strangers(event: &Event) -> bool {
    matches!(
        event,
        Event::SyncRefused { .. }
            | Event::ProposalRefused { .. }
            | Event::OtherRules { .. }
            | Event::Behind { .. }
    )
}

fn page_phase(phase: CorePhase) -> Phase {
    match phase {
        CorePhase::Waiting => Phase::Apply,
        CorePhase::Committing | CorePhase::Closing => Phase::Train,
        CorePhase::Fetching => Phase::Fetch,
        CorePhase::Attesting => Phase::Attest,
        CorePhase::Deciding => Phase::Decide,
    }
}

fn describe(event: &Event) -> Option<(Level, String)> {
    Some(match event {
        Event::PhaseChanged { .. } | Event::Dropped { .. } | Event::Decided { .. } => return None,
        Event::Equivocation { peer, round, kind } => (
            Level::Warn,
            format!(
                "{} signed two different messages of one kind in round {round} ({kind:?}); the next decision will contain the evidence",
                peer.short()
            ),
        ),
        Event::Banned { peer } => (
            Level::Warn,
            format!("{} was banned by decision", peer.short()),
        ),
        Event::Joined { peer } => (Level::Info, format!("{} joined", peer.short())),
        Event::Left { peer } => (Level::Info, format!("{} left", peer.short())),
        Event::RootMismatch {
            round,
            ours,
            theirs,
        } => (
            Level::Error,
            format!(
                "our weights for round {round} (root {}) differ from our peers' (root {}); fetching theirs",
                ours.short(),
                theirs.short()
            ),
        ),
        Event::WeightsUnsure { round, back_to } => (
            Level::Warn,
            format!(
                "round {round}: voters do not agree on the weights; computing ours again from those of round {back_to}"
            ),
        ),
        Event::SyncRefused { round, cause } => (
            Level::Warn,
            format!("refused a decision of round {round} from a peer: {cause}"),
        ),
        Event::ProposalRefused { round, cause, .. } => (
            Level::Warn,
            format!("refused a proposal for round {round}: {cause}"),
        ),
        Event::OwnKeyElsewhere { round, kind } => (
            Level::Error,
            format!(
                "round {round}: another machine signed a message ({kind:?}) with this node's key; two machines must never share a key"
            ),
        ),
        Event::EngineFault { round, cause } => (
            Level::Error,
            format!("round {round}: the agreement engine stopped: {cause}"),
        ),
        Event::AttestedAgain { round, attempt } => (
            Level::Warn,
            format!(
                "round {round}: voters do not agree on the weights they start from; attempt {attempt} to attest"
            ),
        ),
        Event::Recovering { round } => (
            Level::Warn,
            format!(
                "round {round} is stuck: this node has signed to go on without the voters that are gone; it goes on once voters with half of the weight have signed the same"
            ),
        ),
        Event::OtherRules { peer, rules } => (
            Level::Warn,
            format!(
                "{} follows version {rules} of the rules, and this node version {RULES}",
                peer.short()
            ),
        ),
        Event::Behind { round, ahead } => (
            Level::Info,
            format!("catching up: this node is in round {round}, its peers are in round {ahead}"),
        ),
    })
}
