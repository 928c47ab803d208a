//! Checks stored weights against the decided roots, and repairs those that are damaged while the
//! node goes on.
//!
//! After a start every stored file is checked once, and one from which a damaged chunk was read is
//! checked again. Peers are served from a file only once it was checked. The newest weights and
//! checkpoints are repaired; others are not kept for long anyway.

use weal_coordinator_free::Input;
use weal_coordinator_free::host::retention;
use weal_dashboard::Level;

use super::event_loop::Daemon;
use super::jobs::{Checked, Done, Fetched, JobContext};
use crate::error::Result;
use crate::store::partial_weights::PartialWeights;
use crate::store::weights::WeightsId;

impl JobContext {
    /// Checks stored weights, and repairs them if they are damaged and `needed`.
    async fn check_weights(self, id: WeightsId, needed: bool) -> Done {
        let mut checked = Checked {
            id,
            weights: self.stored_weights(id).await,
            repair: None,
        };
        let is_damaged = checked.weights.is_none() && self.weight_files.path(id.round).exists();
        if is_damaged && !needed {
            checked.repair = Some("they are no checkpoint".to_owned());
        } else if is_damaged {
            tracing::warn!("{}", damaged(id));
            match self.repair_weights(id).await {
                Ok(Fetched { weights, summary }) => {
                    checked.weights = Some(weights);
                    checked.repair = Some(summary);
                }
                Err(error) => checked.repair = Some(format!("{error:#}")),
            }
        }
        Done::Checked(checked)
    }

    /// Repairs the newest weights on disk before the node takes part.
    async fn repair_newest(self, id: WeightsId) -> Done {
        match self.repair_weights(id).await {
            Ok(fetched) => Done::Fetched(fetched),
            Err(error) => Done::NotRepaired(format!("{error:#}")),
        }
    }
}

impl Daemon {
    /// Tells the core of the weights on disk. If the newest are damaged, it first tries to repair
    /// them.
    pub(super) async fn begin_with_weights(&mut self) -> Result<()> {
        let Some(id) = self.damaged.take() else {
            self.begin_with_newest().await?;
            self.check_next_weights();
            return Ok(());
        };
        self.page.say(Level::Warn, damaged(id));
        self.serve_weights()?;
        let job = self.context.clone().repair_newest(id);
        self.start_weights_job(job);
        self.publish();
        Ok(())
    }

    async fn begin_with_newest(&mut self) -> Result<()> {
        let newest = self.weights.newest();
        match newest.map(|weights| (weights.round, weights.root)) {
            Some((round, root)) => self.weights_ready(round, root).await,
            None => self.step(Input::NoWeights).await,
        }
    }

    /// The newest weights on disk are damaged, and no peer has them.
    pub(super) async fn not_repaired(&mut self, why: &str) -> Result<()> {
        let text = match self.weights.round() {
            Some(round) => format!("{why}; continuing from those of round {round}"),
            None => format!("{why}; fetching others"),
        };
        self.page.say(Level::Warn, text);
        self.begin_with_newest().await
    }

    fn is_catching_up(&self) -> bool {
        let running = self.core.chain().round();
        self.weights.round().is_none_or(|round| round < running)
    }

    /// Starts work on weights, of which there is only one at a time.
    pub(super) fn start_weights_job(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        if let Some(running) = self.weights_job.take() {
            running.abort();
            self.unchecked.interrupted();
        }
        self.weights_job = Some(self.spawn(job));
    }

    /// Checks the next stored weights, if nothing else is being done about weights.
    pub(super) fn check_next_weights(&mut self) {
        let layout = &self.context.plan.layout;
        for file in self.context.blobs.take_damaged() {
            if let Some(id) = self.weights.served_from(&file, layout) {
                self.unchecked.add(id);
            }
        }
        let job = self.weights_job.as_ref();
        let is_busy = job.is_some_and(|job| !job.is_finished());
        if is_busy || self.is_catching_up() {
            return;
        }
        // Whatever fetch was given up, nobody continues it.
        let newest = self.weights.round().unwrap_or_default();
        PartialWeights::delete_until(self.weights.files(), newest);
        if let Some(id) = self.unchecked.start() {
            let needed = id.round == newest || retention::is_checkpoint(id.round);
            let job = self.context.clone().check_weights(id, needed);
            self.start_weights_job(job);
        }
    }

    /// Stored weights were checked. Peers are served from them now, unless they are damaged.
    pub(super) fn checked_weights(&mut self, checked: Checked) -> Result<()> {
        let Checked {
            id,
            weights,
            repair,
        } = checked;
        self.unchecked.finished();
        let round = id.round;
        match (weights, repair) {
            (Some(weights), repair) => {
                if let Some(summary) = repair {
                    let text = format!("repaired the weights of round {round}: {summary}");
                    self.page.say(Level::Info, text);
                }
                self.weights.serve(weights);
                self.serve_weights()?;
            }
            (None, Some(why)) => {
                let text = format!("the weights of round {round} on disk stay damaged: {why}");
                self.page.say(Level::Warn, text);
                self.weights.stop_serving(round);
                self.serve_weights()?;
            }
            // They were deleted meanwhile, being old.
            (None, None) => {}
        }
        self.check_next_weights();
        Ok(())
    }
}

fn damaged(id: WeightsId) -> String {
    format!(
        "the weights of round {} are damaged on disk; fetching what differs from peers",
        id.round
    )
}
