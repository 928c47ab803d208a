//! The memory plan: the fastest [`ComputePlan`] that fits the free memory.

use std::fmt;

use crate::compute_plan::{ComputePlan, ErrorFormat, MomentFormat, Precision, StatePlacement};
use crate::error::Result;
use crate::memory_model::{MemoryNeed, Workload};
use crate::spec::ModelSpec;

/// What the run and the user have fixed; the planner chooses the settings that are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    /// The most sequences that go through the model at once; 0 for the whole batch.
    pub micro_batch: Option<usize>,
    /// Whether to recompute activations in the backward pass instead of storing them.
    pub recompute: Option<bool>,
    /// Whether blocks that are recomputed take all micro-batches before the next block does.
    pub by_block: Option<bool>,
    /// Where f32 weights, gradient sums and moments live.
    pub states: Option<StatePlacement>,
    /// The type of matrix products.
    pub precision: Option<Precision>,
    /// How moments are kept, where the host or the CPU updates them.
    pub moments: Option<MomentFormat>,
    /// The type of the error feedback in host memory.
    pub error_feedback: Option<ErrorFormat>,
    /// Whether the run's optimiser is Muon, which needs no second moment of the blocks' matrices.
    pub muon: bool,
}

/// How much memory training may use, in bytes; `None` if unknown, which counts as unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryBudget {
    /// GPU memory.
    pub device: Option<u64>,
    /// Host memory.
    pub host: Option<u64>,
    /// The largest buffer that the GPU's driver allocates.
    pub buffer: Option<u64>,
}

/// Plans training for one device and one memory budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryPlanner {
    /// CPU threads that train; `None` on a GPU.
    pub threads: Option<usize>,
    /// The device's fastest precision, used unless the request fixes one.
    pub precision: Precision,
    /// A precision of 16 bits that is no faster, used where f32 would need a slower plan.
    pub shorter: Option<Precision>,
    /// The memory that training may use.
    pub budget: MemoryBudget,
}

/// A compute plan, the memory it needs, and the budget it was made for.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// How to use the device.
    pub compute: ComputePlan,
    /// The predicted need.
    pub need: MemoryNeed,
    /// The budget.
    pub budget: MemoryBudget,
}

impl MemoryPlan {
    /// Whether the need fits the budget. An unknown budget fits everything.
    pub fn fits(&self) -> bool {
        fits(&self.need, &self.budget)
    }
}

/// The compute plan, and the need of the budget: `…, f32: 5.1 GB of 5.6 GB on the GPU, 20.3 GB of
/// 31.2 GB in the machine`.
impl fmt::Display for MemoryPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.compute)?;
        let part = |need: u64, budget: Option<u64>, place: &str| match budget {
            Some(budget) => format!("{} of {} {place}", format_bytes(need), format_bytes(budget)),
            None => format!("{} {place}", format_bytes(need)),
        };
        if !self.need.device.is_empty() {
            write!(
                formatter,
                "{}, ",
                part(self.need.device_bytes(), self.budget.device, "on the GPU")
            )?;
        }
        formatter.write_str(&part(
            self.need.host_bytes(),
            self.budget.host,
            "in the machine",
        ))?;
        let need = self.need.largest_buffer;
        match self.budget.buffer.filter(|most| need > *most) {
            Some(most) => write!(
                formatter,
                ", a buffer of {} where the GPU's driver allows {}",
                format_bytes(need),
                format_bytes(most)
            ),
            None => Ok(()),
        }
    }
}

/// A number of bytes in megabytes or gigabytes, such as `5.1 GB`.
pub fn format_bytes(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} GB", bytes as f64 / 1e9)
    }
}

/// The share of the budget that a plan may need; the rest absorbs what the memory model misses.
const USABLE: f64 = 0.9;
/// How many times longer a step takes with recomputation.
const RECOMPUTE_COST: f64 = 1.3;
/// Tokens that a GPU could train in the time that all gradients take to host memory.
const CROSSING_TOKENS: f64 = 400.0;
/// Tokens that a GPU could train in the time that the host takes to update all weights and to send
/// them back.
const UPDATE_TOKENS: f64 = 700.0;
/// How many times longer a GPU's step takes in 16 bits without units for them.
const SHORTER_COST: f64 = 1.1;
/// How many times longer a step takes with moments in eight bits.
const SHORT_MOMENTS_COST: f64 = 1.02;
/// How many times longer a step takes with an error feedback in 16 bits: nothing, but a longer one
/// is preferred.
const SHORT_ERROR_COST: f64 = 1.001;
/// The share that each halving of the micro-batch adds to a GPU's step.
const HALVING_COST: f64 = 0.05;

impl MemoryPlanner {
    /// The fastest plan that meets the request and fits the budget; if none fits, the one that
    /// needs the least memory.
    ///
    /// # Errors
    /// If the model is out of range.
    pub fn plan(
        &self,
        model: &ModelSpec,
        batch: usize,
        request: &PlanRequest,
    ) -> Result<MemoryPlan> {
        let mut plans: Vec<MemoryPlan> = self
            .candidates(batch, request)
            .into_iter()
            .map(|compute| {
                let workload = Workload {
                    model: model.clone(),
                    batch,
                    plan: compute,
                    threads: self.threads,
                    muon: request.muon,
                };
                Ok(MemoryPlan {
                    compute,
                    need: workload.memory()?,
                    budget: self.budget,
                })
            })
            .collect::<Result<_>>()?;
        let cost = |plan: &MemoryPlan| self.cost(model, batch, &plan.compute);
        plans.sort_by(|left, right| cost(left).total_cmp(&cost(right)));
        let best = plans.iter().position(MemoryPlan::fits).or_else(|| {
            let least = plans
                .iter()
                .enumerate()
                .min_by_key(|(_, plan)| least_first(plan))?;
            Some(least.0)
        });
        Ok(plans.swap_remove(best.unwrap_or(0)))
    }

    fn candidates(&self, batch: usize, request: &PlanRequest) -> Vec<ComputePlan> {
        let smaller = |sequences: usize| (0 < sequences && sequences < batch).then_some(sequences);
        let halves = std::iter::successors(Some(batch), |sequences| {
            (*sequences > 1).then(|| sequences.div_ceil(2))
        });
        let micro_batches: Vec<Option<usize>> = match request.micro_batch {
            Some(sequences) => vec![smaller(sequences)],
            None => halves.map(smaller).collect(),
        };
        // On the CPU both placements are the same memory.
        let placements = match (request.states, self.threads) {
            (Some(placement), _) => vec![placement],
            (None, Some(_)) => vec![StatePlacement::Device],
            (None, None) => vec![StatePlacement::Device, StatePlacement::Host],
        };
        let recompute_options = request
            .recompute
            .map_or(vec![false, true], |recompute| vec![recompute]);
        let precisions = match request.precision {
            Some(precision) => vec![precision],
            None => [self.precision].into_iter().chain(self.shorter).collect(),
        };
        let with_formats = |states| {
            let formats = self.state_formats(states, request).into_iter();
            formats.map(move |formats| (states, formats))
        };
        let kept: Vec<_> = placements.into_iter().flat_map(with_formats).collect();
        let mut plans = Vec::new();
        for precision in precisions {
            for (states, (moments, error_feedback)) in &kept {
                for recompute in &recompute_options {
                    let plan = |micro_batch| ComputePlan {
                        micro_batch,
                        recompute: *recompute,
                        by_block: false,
                        states: *states,
                        precision,
                        moments: *moments,
                        error_feedback: *error_feedback,
                    };
                    plans.extend(micro_batches.iter().copied().map(plan));
                }
            }
        }
        self.with_block_order(plans, request.by_block)
    }

    /// The plans, and those that take all micro-batches through a block before the next, where that
    /// saves transfers.
    fn with_block_order(
        &self,
        plans: Vec<ComputePlan>,
        by_block: Option<bool>,
    ) -> Vec<ComputePlan> {
        let crosses = |plan: &ComputePlan| {
            let is_split = plan.recompute && plan.micro_batch.is_some();
            self.threads.is_none() && plan.states == StatePlacement::Host && is_split
        };
        let orders = |plan: ComputePlan| {
            let orders: &[bool] = match by_block {
                Some(true) if plan.recompute => &[true],
                None if crosses(&plan) => &[false, true],
                _ => &[false],
            };
            orders.iter().map(move |by_block| ComputePlan {
                by_block: *by_block,
                ..plan
            })
        };
        plans.into_iter().flat_map(orders).collect()
    }

    /// The formats of moments and error feedback to choose from. A GPU that keeps them itself keeps
    /// f32.
    fn state_formats(
        &self,
        states: StatePlacement,
        request: &PlanRequest,
    ) -> Vec<(MomentFormat, ErrorFormat)> {
        if self.threads.is_none() && states == StatePlacement::Device {
            return vec![Default::default()];
        }
        let moments = match request.moments {
            Some(format) => vec![format],
            None => vec![MomentFormat::F32, MomentFormat::Bits8],
        };
        let error_feedback = match request.error_feedback {
            Some(format) => vec![format],
            None => vec![ErrorFormat::F32, ErrorFormat::Bf16],
        };
        let of_moments = |moments: MomentFormat| {
            let both = error_feedback.iter().map(move |error| (moments, *error));
            both.collect::<Vec<_>>()
        };
        moments.into_iter().flat_map(of_moments).collect()
    }

    /// How long a step takes under a plan, relative to the fastest plan.
    fn cost(&self, model: &ModelSpec, batch: usize, plan: &ComputePlan) -> f64 {
        let group = plan.micro_batch.unwrap_or(batch).clamp(1, batch.max(1));
        let smaller = match self.threads {
            // Threads without a sequence of their own are idle.
            Some(threads) => threads.min(batch).max(1) as f64 / threads.min(group).max(1) as f64,
            None => 1.0 + HALVING_COST * (batch.max(1) as f64 / group as f64).log2(),
        };
        let recompute = if plan.recompute { RECOMPUTE_COST } else { 1.0 };
        let states = if plan.states == StatePlacement::Host && self.threads.is_none() {
            let crossings = if plan.by_block {
                1
            } else {
                batch.div_ceil(group)
            };
            let tokens = crossings as f64 * CROSSING_TOKENS + UPDATE_TOKENS;
            tokens / (batch.max(1) * model.context) as f64
        } else {
            0.0
        };
        let precision = if self.shorter == Some(plan.precision) {
            SHORTER_COST
        } else {
            1.0
        };
        let moments = match plan.moments {
            MomentFormat::F32 => 1.0,
            MomentFormat::Bits8 => SHORT_MOMENTS_COST,
        };
        let error_feedback = match plan.error_feedback {
            ErrorFormat::F32 => 1.0,
            ErrorFormat::Bf16 => SHORT_ERROR_COST,
        };
        (smaller * recompute * precision + states) * moments * error_feedback
    }
}

fn fits(need: &MemoryNeed, budget: &MemoryBudget) -> bool {
    let within = |need: u64, budget: Option<u64>| {
        budget.is_none_or(|budget| need as f64 <= USABLE * budget as f64)
    };
    let is_allowed = budget.buffer.is_none_or(|most| need.largest_buffer <= most);
    is_allowed
        && within(need.device_bytes(), budget.device)
        && within(need.host_bytes(), budget.host)
}

/// Orders plans by need; GPU memory is scarcer and comes first.
fn least_first(plan: &MemoryPlan) -> (u64, u64) {
    (plan.need.device_bytes(), plan.need.host_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(gigabytes: u64) -> MemoryPlanner {
        let budget = MemoryBudget {
            device: Some(gigabytes * 1_000_000_000),
            host: Some(64_000_000_000),
            buffer: None,
        };
        MemoryPlanner {
            threads: None,
            precision: Precision::F32,
            shorter: None,
            budget,
        }
    }

    #[test]
    fn without_units_for_them_16_bits_are_for_cards_that_f32_does_not_fit() {
        let model = ModelSpec {
            context: 1024,
            ..ModelSpec::preset("1b").unwrap()
        };
        let planner = |gigabytes| MemoryPlanner {
            shorter: Some(Precision::F16),
            ..gpu(gigabytes)
        };
        let precision = |gigabytes, request: &PlanRequest| {
            let plan = planner(gigabytes).plan(&model, 8, request).unwrap();
            assert!(plan.fits(), "{gigabytes} GB: {plan}");
            plan.compute.precision
        };
        let any = PlanRequest::default();
        assert_eq!(precision(120, &any), Precision::F32);
        assert_eq!(precision(6, &any), Precision::F16);
        let f32 = PlanRequest {
            precision: Some(Precision::F32),
            ..any
        };
        assert_eq!(precision(24, &f32), Precision::F32);
        assert!(!planner(6).plan(&model, 8, &f32).unwrap().fits());
    }

    #[test]
    fn with_enough_memory_the_fastest_plan_is_chosen() {
        let nano = ModelSpec::preset("nano").unwrap();
        let choice = gpu(24).plan(&nano, 8, &PlanRequest::default()).unwrap();
        assert_eq!(choice.compute, ComputePlan::default());
        assert!(choice.fits());
        let unknown = MemoryPlanner {
            budget: MemoryBudget::default(),
            ..gpu(1)
        };
        let billion = ModelSpec::preset("1b").unwrap();
        assert_eq!(
            unknown
                .plan(&billion, 8, &PlanRequest::default())
                .unwrap()
                .compute,
            ComputePlan::default()
        );
    }

    #[test]
    fn with_less_memory_plans_get_slower_step_by_step() {
        let model = ModelSpec {
            context: 1024,
            ..ModelSpec::preset("1b").unwrap()
        };
        let request = PlanRequest {
            precision: Some(Precision::Bf16),
            ..PlanRequest::default()
        };
        let mut last = u64::MAX;
        for gigabytes in [80, 40, 24, 16, 12, 8, 6, 4] {
            let choice = gpu(gigabytes).plan(&model, 8, &request).unwrap();
            assert!(choice.fits(), "{gigabytes} GB: {choice}");
            assert!(choice.need.device_bytes() <= last);
            last = choice.need.device_bytes();
        }
        let small = gpu(4).plan(&model, 8, &request).unwrap().compute;
        assert!(
            small.recompute && small.states == StatePlacement::Host,
            "{small}"
        );
        let none = gpu(2).plan(&model, 8, &request).unwrap();
        assert!(!none.fits() && none.compute.micro_batch == Some(1));
    }

    #[test]
    fn no_plan_asks_for_a_larger_buffer_than_the_driver_allocates() {
        // wgpu's limit under Vulkan and DirectX 12. Whole scores of these would take twice as much.
        let limit = (1 << 31) - 1;
        for (name, gigabytes) in [
            ("1b", 24),
            ("1b", 48),
            ("1b", 16),
            ("medium", 16),
            ("1b", 80),
        ] {
            let model = ModelSpec::preset(name).unwrap();
            let mut planner = gpu(gigabytes);
            planner.budget.buffer = Some(limit);
            let plan = planner.plan(&model, 8, &PlanRequest::default()).unwrap();
            assert!(
                plan.fits() && plan.need.largest_buffer <= limit,
                "{name}: {plan}"
            );
        }
        // An embedding whose gradient is one buffer of 4 GiB fits no card under that limit.
        let wide = ModelSpec {
            vocabulary: 1 << 17,
            width: 8192,
            ..ModelSpec::preset("nano").unwrap()
        };
        let mut planner = gpu(100_000);
        planner.budget.host = None;
        assert!(
            planner
                .plan(&wide, 8, &PlanRequest::default())
                .unwrap()
                .fits()
        );
        planner.budget.buffer = Some(limit);
        let plan = planner.plan(&wide, 8, &PlanRequest::default()).unwrap();
        assert!(!plan.fits());
        let text = plan.to_string();
        assert!(
            text.contains("a buffer of 4.3 GB where the GPU's driver allows 2.1 GB"),
            "{text}"
        );
    }

    #[test]
    fn a_longer_context_needs_memory_in_proportion() {
        let need = |context| {
            let model = ModelSpec {
                context,
                ..ModelSpec::preset("small").unwrap()
            };
            let plan = ComputePlan {
                micro_batch: Some(1),
                ..ComputePlan::default()
            };
            let workload = Workload {
                model,
                batch: 1,
                plan,
                threads: None,
                muon: false,
            };
            let need = workload.memory().unwrap();
            let working = ["activations", "tables"];
            let items = need
                .device
                .iter()
                .filter(|item| working.contains(&item.what));
            items.map(|item| item.bytes).sum::<u64>()
        };
        assert!(need(16_384) < 5 * need(4096));
    }

    #[test]
    fn settings_that_the_user_fixed_stay() {
        let model = ModelSpec::preset("small").unwrap();
        let request = PlanRequest {
            micro_batch: Some(3),
            recompute: Some(true),
            states: Some(StatePlacement::Host),
            ..PlanRequest::default()
        };
        let plan = gpu(100).plan(&model, 8, &request).unwrap().compute;
        let expected = ComputePlan {
            micro_batch: Some(3),
            recompute: true,
            states: StatePlacement::Host,
            ..plan
        };
        assert_eq!(plan, expected);
        let all = PlanRequest {
            micro_batch: Some(0),
            ..PlanRequest::default()
        };
        assert_eq!(
            gpu(100).plan(&model, 8, &all).unwrap().compute.micro_batch,
            None
        );
    }

    #[test]
    fn all_cpu_threads_stay_busy_as_long_as_memory_allows() {
        let model = ModelSpec::preset("small").unwrap();
        let need = |plan| {
            Workload {
                model: model.clone(),
                batch: 8,
                plan,
                threads: Some(2),
                muon: false,
            }
            .memory()
            .unwrap()
            .host_bytes()
        };
        let busy = ComputePlan {
            micro_batch: Some(2),
            ..ComputePlan::default()
        };
        let budget = MemoryBudget {
            device: None,
            host: Some((need(busy) as f64 / USABLE) as u64 + 1),
            buffer: None,
        };
        let planner = MemoryPlanner {
            threads: Some(2),
            precision: Precision::F32,
            shorter: None,
            budget,
        };
        assert_eq!(
            planner
                .plan(&model, 8, &PlanRequest::default())
                .unwrap()
                .compute,
            busy
        );
    }

    #[test]
    fn a_memory_plan_prints_its_need_and_its_budget() {
        let choice = gpu(24)
            .plan(
                &ModelSpec::preset("micro").unwrap(),
                8,
                &PlanRequest::default(),
            )
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
