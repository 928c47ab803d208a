//! The outputs of several steps: their records are stored in one transaction, and only then is
//! anything else carried out.
//!
//! Voters send a burst of votes, and each is a record. One transaction for each would make the
//! disk's latency the pace of agreement.

use weal_coordinator_free::{Output, Record};
use weal_network::GossipId;

/// Messages that are stepped before their records are stored. More would delay timers.
pub(super) const MESSAGES: usize = 64;

/// Outputs that wait to be carried out.
#[derive(Debug, Default)]
pub(super) struct Batch {
    records: Vec<Record>,
    rest: Vec<Waiting>,
    steps: usize,
}

/// An output that is no record. A verdict goes to the gossip message that its step was about.
#[derive(Debug)]
pub(super) struct Waiting {
    pub output: Output,
    pub gossip: Option<GossipId>,
}

impl Batch {
    /// Adds the outputs of a step. `gossip` is the message that the step was about, if it came
    /// through gossip.
    pub(super) fn add(&mut self, outputs: Vec<Output>, mut gossip: Option<GossipId>) {
        self.steps += 1;
        for output in outputs {
            match output {
                Output::Persist(record) => self.records.push(record),
                Output::Verdict(_) => {
                    let gossip = gossip.take();
                    self.rest.push(Waiting { output, gossip });
                }
                output => self.rest.push(Waiting {
                    output,
                    gossip: None,
                }),
            }
        }
    }

    /// Whether no further message should be added.
    pub(super) fn is_full(&self) -> bool {
        self.steps >= MESSAGES
    }

    /// What to store first, and what to carry out then, both in the order of the steps.
    pub(super) fn into_parts(self) -> (Vec<Record>, Vec<Waiting>) {
        (self.records, self.rest)
    }
}

#[cfg(test)]
mod tests {
    use weal_coordinator_free::{Acceptance, TimerId};
    use weal_proto::RoundNumber;

    use super::*;

    fn log(byte: u8) -> Output {
        Output::Persist(Record::AgreementLog {
            round: RoundNumber(1),
            bytes: vec![byte],
        })
    }

    fn cancel(round: u64) -> Output {
        let id = TimerId::FetchClose(RoundNumber(round));
        Output::CancelTimer { id }
    }

    #[test]
    fn records_of_all_steps_come_first_and_everything_keeps_its_order() {
        let mut batch = Batch::default();
        let verdict = Output::Verdict(Acceptance::Accept);
        batch.add(vec![log(1), cancel(1), log(2), verdict.clone()], None);
        batch.add(vec![cancel(2), log(3)], None);
        let (records, rest) = batch.into_parts();
        let stored: Vec<_> = records.into_iter().map(Output::Persist).collect();
        assert_eq!(stored, [log(1), log(2), log(3)]);
        let carried_out: Vec<_> = rest.into_iter().map(|waiting| waiting.output).collect();
        assert_eq!(carried_out, [cancel(1), verdict, cancel(2)]);
    }

    #[test]
    fn a_batch_is_full_after_so_many_steps() {
        let mut batch = Batch::default();
        for _ in 0..MESSAGES {
            assert!(!batch.is_full());
            batch.add(Vec::new(), None);
        }
        assert!(batch.is_full());
    }
}
