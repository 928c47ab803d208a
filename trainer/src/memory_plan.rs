//! The fastest way to use a device that its memory has room for.

use std::fmt;

use crate::compute::{ComputePlan, Place, Precision};
use crate::error::Result;
use crate::memory_model::{MemoryNeed, Workload};
use crate::spec::ModelSpec;

/// What a person has settled; `None` is left to the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The most sequences that are differentiated at once; 0 for all.
    pub micro_batch: Option<usize>,
    /// Whether what a block needs for its gradient is computed again.
    pub recompute: Option<bool>,
    /// Where what is only needed once a step lies.
    pub states: Option<Place>,
    /// What matrices are multiplied in.
    pub precision: Option<Precision>,
}

/// How much memory there is, in bytes; `None` where nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Of the GPU.
    pub device: Option<u64>,
    /// Of the machine.
    pub host: Option<u64>,
}

/// Where training is to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// The threads of the processor that it runs on; `None` on a GPU.
    pub threads: Option<usize>,
    /// Its fastest precision.
    pub precision: Precision,
    /// How much memory there is.
    pub room: Room,
}

/// A plan, and what it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The plan.
    pub plan: ComputePlan,
    /// What it needs.
    pub need: MemoryNeed,
    /// How much there is.
    pub room: Room,
}

impl Choice {
    /// Whether there is room for it, as far as anybody knows.
    pub fn fits(&self) -> bool {
        fits(&self.need, &self.room)
    }
}

/// `micro-batch 4, recompute on, states in host memory, f32: 5.1 of 5.6 GB on the GPU, 20.3 of 31.2 GB in the machine`.
impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.plan)?;
        let part = |need: u64, room: Option<u64>, place: &str| match room {
            Some(room) => format!("{} of {} {place}", gigabytes(need), gigabytes(room)),
            None => format!("{} {place}", gigabytes(need)),
        };
        if !self.need.device.is_empty() {
            write!(
                formatter,
                "{}, ",
                part(self.need.device_bytes(), self.room.device, "on the GPU")
            )?;
        }
        formatter.write_str(&part(
            self.need.host_bytes(),
            self.room.host,
            "in the machine",
        ))
    }
}

/// Bytes as people read them.
pub fn gigabytes(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} GB", bytes as f64 / 1e9)
    }
}

/// Of the memory there is, what a plan may take: the rest is for what no prediction knows.
const USABLE: f64 = 0.9;
/// How many times longer a step takes whose blocks are computed again.
const RECOMPUTING: f64 = 1.3;
/// How many times longer a step takes on a GPU whose states are in host memory.
const FETCHING: f64 = 1.25;
/// What each halving of the sequences that are computed at once adds to a GPU's step.
const HALVING: f64 = 0.05;

impl Site {
    /// The fastest plan for which there is room, among those that fulfil the wishes. Where there is
    /// room for none, the one that needs least.
    ///
    /// # Errors
    /// Where the model is out of range.
    pub fn choose(&self, model: &ModelSpec, batch: usize, wishes: &Wishes) -> Result<Choice> {
        let mut choices: Vec<Choice> = self
            .plans(batch, wishes)
            .into_iter()
            .map(|plan| {
                let workload = Workload {
                    model: model.clone(),
                    batch,
                    plan,
                    threads: self.threads,
                };
                Ok(Choice {
                    plan,
                    need: workload.memory()?,
                    room: self.room,
                })
            })
            .collect::<Result<_>>()?;
        choices.sort_by(|left, right| {
            self.cost(batch, &left.plan)
                .total_cmp(&self.cost(batch, &right.plan))
        });
        let best = choices.iter().position(Choice::fits).or_else(|| {
            let least = choices
                .iter()
                .enumerate()
                .min_by_key(|(_, choice)| least_first(choice))?;
            Some(least.0)
        });
        Ok(choices.swap_remove(best.unwrap_or(0)))
    }

    fn plans(&self, batch: usize, wishes: &Wishes) -> Vec<ComputePlan> {
        let whole = |sequences: usize| (0 < sequences && sequences < batch).then_some(sequences);
        let halves = std::iter::successors(Some(batch), |sequences| {
            (*sequences > 1).then(|| sequences.div_ceil(2))
        });
        let micro_batches: Vec<Option<usize>> = match wishes.micro_batch {
            Some(sequences) => vec![whole(sequences)],
            None => halves.map(whole).collect(),
        };
        // The processor has nothing to win by moving states within one memory.
        let places = match (wishes.states, self.threads) {
            (Some(place), _) => vec![place],
            (None, Some(_)) => vec![Place::Device],
            (None, None) => vec![Place::Device, Place::Host],
        };
        let recomputing = wishes
            .recompute
            .map_or(vec![false, true], |recompute| vec![recompute]);
        let precision = wishes.precision.unwrap_or(self.precision);
        let mut plans = Vec::new();
        for states in places {
            for recompute in &recomputing {
                let plan = |micro_batch| ComputePlan {
                    micro_batch,
                    recompute: *recompute,
                    states,
                    precision,
                };
                plans.extend(micro_batches.iter().copied().map(plan));
            }
        }
        plans
    }

    /// How long a step takes under a plan, next to the fastest.
    fn cost(&self, batch: usize, plan: &ComputePlan) -> f64 {
        let group = plan.micro_batch.unwrap_or(batch).clamp(1, batch.max(1));
        let smaller = match self.threads {
            // Threads that have no sequence of their own stand idle.
            Some(threads) => threads.min(batch).max(1) as f64 / threads.min(group).max(1) as f64,
            None => 1.0 + HALVING * (batch.max(1) as f64 / group as f64).log2(),
        };
        let recompute = if plan.recompute { RECOMPUTING } else { 1.0 };
        let states = if plan.states == Place::Host {
            FETCHING
        } else {
            1.0
        };
        smaller * recompute * states
    }
}

fn fits(need: &MemoryNeed, room: &Room) -> bool {
    let within =
        |need: u64, room: Option<u64>| room.is_none_or(|room| need as f64 <= USABLE * room as f64);
    within(need.device_bytes(), room.device) && within(need.host_bytes(), room.host)
}

/// The scarcer memory comes first.
fn least_first(choice: &Choice) -> (u64, u64) {
    (choice.need.device_bytes(), choice.need.host_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(gigabytes: u64) -> Site {
        let room = Room {
            device: Some(gigabytes * 1_000_000_000),
            host: Some(64_000_000_000),
        };
        Site {
            threads: None,
            precision: Precision::F32,
            room,
        }
    }

    #[test]
    fn with_room_for_all_nothing_is_given_up() {
        let nano = ModelSpec::preset("nano").unwrap();
        let choice = gpu(24).choose(&nano, 8, &Wishes::default()).unwrap();
        assert_eq!(choice.plan, ComputePlan::default());
        assert!(choice.fits());
        let unknown = Site {
            room: Room::default(),
            ..gpu(1)
        };
        let billion = ModelSpec::preset("1b").unwrap();
        assert_eq!(
            unknown
                .choose(&billion, 8, &Wishes::default())
                .unwrap()
                .plan,
            ComputePlan::default()
        );
    }

    #[test]
    fn with_less_room_time_is_given_for_memory_step_by_step() {
        let model = ModelSpec {
            context: 1024,
            ..ModelSpec::preset("1b").unwrap()
        };
        let wishes = Wishes {
            precision: Some(Precision::Bf16),
            ..Wishes::default()
        };
        let mut last = u64::MAX;
        for room in [80, 40, 24, 16, 12, 8, 6] {
            let choice = gpu(room).choose(&model, 8, &wishes).unwrap();
            assert!(choice.fits(), "{room} GB: {choice}");
            assert!(choice.need.device_bytes() <= last);
            last = choice.need.device_bytes();
        }
        let small = gpu(6).choose(&model, 8, &wishes).unwrap().plan;
        assert!(small.recompute && small.states == Place::Host, "{small}");
        let none = gpu(2).choose(&model, 8, &wishes).unwrap();
        assert!(!none.fits() && none.plan.micro_batch == Some(1));
    }

    #[test]
    fn what_a_person_settled_stays() {
        let model = ModelSpec::preset("small").unwrap();
        let wishes = Wishes {
            micro_batch: Some(3),
            recompute: Some(true),
            states: Some(Place::Host),
            precision: None,
        };
        let plan = gpu(100).choose(&model, 8, &wishes).unwrap().plan;
        let expected = ComputePlan {
            micro_batch: Some(3),
            recompute: true,
            states: Place::Host,
            ..plan
        };
        assert_eq!(plan, expected);
        let all = Wishes {
            micro_batch: Some(0),
            ..Wishes::default()
        };
        assert_eq!(
            gpu(100).choose(&model, 8, &all).unwrap().plan.micro_batch,
            None
        );
    }

    #[test]
    fn the_processors_threads_are_kept_busy_as_long_as_possible() {
        let model = ModelSpec::preset("small").unwrap();
        let need = |plan| {
            Workload {
                model: model.clone(),
                batch: 8,
                plan,
                threads: Some(2),
            }
            .memory()
            .unwrap()
            .host_bytes()
        };
        let busy = ComputePlan {
            micro_batch: Some(2),
            ..ComputePlan::default()
        };
        let room = Room {
            device: None,
            host: Some((need(busy) as f64 / USABLE) as u64 + 1),
        };
        let site = Site {
            threads: Some(2),
            precision: Precision::F32,
            room,
        };
        assert_eq!(
            site.choose(&model, 8, &Wishes::default()).unwrap().plan,
            busy
        );
    }

    #[test]
    fn a_choice_says_what_it_takes() {
        let choice = gpu(24)
            .choose(&ModelSpec::preset("micro").unwrap(), 8, &Wishes::default())
            .unwrap();
        let text = choice.to_string();
        assert!(
            text.starts_with("whole batches, recompute off, states on the device, f32: "),
            "{text}"
        );
        assert!(
            text.contains(" of 24.0 GB on the GPU, ")
                && text.ends_with(" of 64.0 GB in the machine"),
            "{text}"
        );
    }
}
