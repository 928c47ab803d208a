//! Plays a script: looks whether its current step is due, and takes it.

use weal_proto::RoundNumber;

use super::audit::Violation;
use super::disk::Disk;
use super::event::Event;
use super::network::{Eclipse, OneWay, Partition};
use super::script::{Act, Step, Until};
use super::world::World;
use crate::interface::output::Record;

impl World {
    /// Takes the script's steps whose time has come.
    pub(super) fn follow_script(&mut self) -> Result<(), Violation> {
        while let Some(step) = self.script.current() {
            match step {
                Step::Act(act) => {
                    self.script.next();
                    self.act(act);
                }
                Step::Wait(what) if self.is_true(&what) => self.script.next(),
                Step::Expect { what, .. } if self.is_true(&what) => self.script.next(),
                Step::Refuse { what, .. } if self.is_true(&what) => {
                    return Err(self.unmet(&format!("never {what:?}")));
                }
                Step::Refuse { for_ms, .. } if self.script.is_over(self.now, for_ms) => {
                    self.script.next();
                }
                Step::Expect { within_ms, what } if self.script.is_over(self.now, within_ms) => {
                    return Err(self.unmet(&format!("{what:?}")));
                }
                Step::Wait(_) | Step::Refuse { .. } | Step::Expect { .. } => return Ok(()),
            }
        }
        Ok(())
    }

    fn unmet(&self, what: &str) -> Violation {
        Violation::Unmet {
            step: self.script.taken(),
            what: what.to_owned(),
        }
    }

    fn is_true(&self, what: &Until) -> bool {
        match what {
            Until::Time(ms) => self.now.0 >= *ms,
            Until::Stored(peer, kind, round) => {
                self.script.stored.contains(&(*peer, *kind, *round))
            }
            Until::Signed(peer, kind, round) => {
                self.script.signed.contains(&(*peer, *kind, *round))
            }
            Until::Decided(peer, rounds) => self.nodes[*peer].disk.decided.len() as u64 >= *rounds,
            Until::AnyDecided(rounds) => self.watch.decided_rounds() >= *rounds,
            Until::Trains(peer) => {
                let core = self.nodes[*peer].core.as_ref();
                core.is_some_and(|core| core.view().weights_round == Some(core.chain().round()))
            }
        }
    }

    fn act(&mut self, act: Act) {
        let now = self.now.0;
        let network = &mut self.scenario.network;
        match act {
            Act::Stop(peer) => self.nodes[peer].stop(),
            Act::Start(peer) => self.schedule(0, Event::Start { peer }),
            Act::Retire(peer) => {
                self.nodes[peer].stop();
                self.nodes[peer].is_gone = true;
            }
            Act::LoseRecords(peer) => {
                self.nodes[peer].disk.lose_records();
                self.audit.forgets(peer);
            }
            Act::LoseDisk(peer) => {
                self.nodes[peer].disk = Disk::default();
                self.audit.forgets(peer);
            }
            Act::CopyDisk(peer) => self.nodes[peer].copy = Some(self.nodes[peer].disk.clone()),
            Act::RestoreDisk(peer) => self.roll_back(peer),
            Act::Leave(peer) => self.announce_leave(peer),
            Act::Cut(cut_off, for_ms) => network.partitions.push(Partition {
                during: now..=now.saturating_add(for_ms),
                cut_off,
            }),
            Act::Silence(from, to, for_ms) => network.one_way.push(OneWay {
                during: now..=now.saturating_add(for_ms),
                from,
                to,
            }),
            Act::Eclipse(victim, by, for_ms) => network.eclipses.push(Eclipse {
                during: now..=now.saturating_add(for_ms),
                victim,
                by,
            }),
        }
    }

    /// Notes for the script that a peer has stored a message of its own.
    pub(super) fn note_stored(&mut self, peer: usize, record: &Record) {
        let (Record::OwnCommitment(own) | Record::OwnAttestation(own) | Record::OwnLeave(own)) =
            record
        else {
            return;
        };
        let round = RoundNumber(self.nodes[peer].disk.decided.len() as u64);
        if !self.script.is_empty() {
            self.script.stored.insert((peer, own.kind, round));
        }
    }
}
