//! Taking over weights, which are in memory and on disk by then: the page, peers and the core learn
//! of them.

use weal_coordinator_free::Input;
use weal_dashboard::Level;
use weal_kernels::state::StateOutline;
use weal_proto::{Outline, RoundNumber, StateRoot};

use super::event_loop::Daemon;
use super::jobs::Fetched;
use crate::error::Result;
use crate::store::weights::{Durability, Weights};

impl Daemon {
    /// The initial weights were computed.
    pub(super) async fn initial_weights(&mut self, weights: Weights) -> Result<()> {
        let (round, root) = (weights.round, weights.root);
        self.weights.replace(weights, Durability::Synced);
        self.weights_ready(round, root).await
    }

    /// Weights were fetched.
    pub(super) async fn fetched(&mut self, fetched: Fetched) -> Result<()> {
        self.page.say(Level::Info, fetched.summary);
        self.new_weights(fetched.weights, Durability::Synced).await
    }

    /// Weights were fetched, or a decided round led to them.
    pub(super) async fn new_weights(
        &mut self,
        weights: Weights,
        durability: Durability,
    ) -> Result<()> {
        let (round, root) = (weights.round, weights.root);
        self.weights.replace(weights, durability);
        let status = self.network.status().borrow().clone();
        if let Some(record) = self.page.applied(round, root, &status) {
            self.save_record(&record)?;
        }
        self.weights_ready(round, root).await
    }

    /// Serves the newest weights, and tells the core of them.
    pub(super) async fn weights_ready(
        &mut self,
        round: RoundNumber,
        root: StateRoot,
    ) -> Result<()> {
        self.serve_weights()?;
        self.step(Input::WeightsReady { round, root }).await?;
        self.publish();
        Ok(())
    }

    /// Serves the weights that were checked to newcomers, and deletes those that are not kept.
    pub(super) fn serve_weights(&mut self) -> Result<()> {
        self.weights.prune(self.core.chain().round())?;
        let served = self.weights.served();
        let layout = &self.context.plan.layout;
        let files = self.weights.files();
        self.context.blobs.show_weights(layout, files, served);
        let hashes = |outline: &StateOutline| outline.tensors.iter().map(Outline::hash).collect();
        let tensors = served
            .iter()
            .map(|(round, outline)| (*round, hashes(outline)));
        let tensors = tensors.collect();
        self.change_position(|position| position.tensors = tensors);
        Ok(())
    }
}
