//! Plays a run.

use std::cell::RefCell;
use std::rc::Rc;

use thiserror::Error;
use weal_coordinator_free::sim::{Actors, Learning, Outcome, Task, Trained, Violation, run_with};
use weal_coordinator_free::{Apply, Candidate, Chain, Fetch, Judge, Millis, Signal};
use weal_proto::manifest::Manifest;
use weal_proto::{BlobHash, Decided, RoundNumber, Score, StateRoot, Verdict};

use crate::behaviour::Behaviour;
use crate::conduct::actor;
use crate::history::History;
use crate::lab::Lab;
use crate::options::{Options, OptionsError, adjust};

/// Why a run cannot be played.
#[derive(Debug, Error)]
pub enum Error {
    /// The options leave nothing to play.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The model cannot be built.
    #[error("the model cannot be built")]
    Model(#[from] weal_kernels::Error),
}

/// A run that was played.
#[derive(Debug)]
pub struct Played {
    /// What was asked for.
    pub options: Options,
    /// How each peer behaved, by index; `None` for honest ones. After the peers come the keys that
    /// crowds act for.
    pub behaviours: Vec<Option<&'static Behaviour>>,
    /// What the simulator saw, or what went wrong.
    pub outcome: Result<Outcome, Violation>,
    /// What was learnt and earned, round by round.
    pub history: History,
}

/// Plays a run. Calls `on_round` with the number of rounds decided, whenever it rises.
///
/// # Errors
/// If the options leave nothing to play. What goes wrong in the run is part of the result.
pub fn play(options: &Options, on_round: impl FnMut(u64) + 'static) -> Result<Played, Error> {
    play_by(options, |_| (), on_round)
}

/// Plays a run by other rules: `change` makes the simulator's manifest one that has them.
///
/// # Errors
/// As [`play`].
pub fn play_by(
    options: &Options,
    change: impl Fn(&mut Manifest) + 'static,
    on_round: impl FnMut(u64) + 'static,
) -> Result<Played, Error> {
    options.check()?;
    let mut behaviours = options.behaviours();
    let conduct: Vec<_> = behaviours
        .iter()
        .map(|one| one.map(|one| (one.craft, one.scoring)).unwrap_or_default())
        .collect();
    let lab = Rc::new(RefCell::new(Lab::new(options.seed, &conduct)?));
    let scenario = options.scenario();
    let shared = Shared {
        lab: Rc::clone(&lab),
        on_round: Box::new(on_round),
    };
    let mut actors = Actors::learning(&scenario, Box::new(shared));
    actors.adjust = Box::new(move |manifest| {
        adjust(manifest);
        change(manifest);
    });
    for (index, behaviour) in behaviours.iter().enumerate() {
        if let Some(actor) = behaviour.and_then(|one| actor(one.conduct, index, &lab)) {
            actors.dishonest.insert(index, actor);
        }
    }
    let crowds = lab.borrow().crowds.clone();
    behaviours.extend(
        crowds
            .into_iter()
            .map(|index| behaviours[index])
            .collect::<Vec<_>>(),
    );
    let outcome = run_with(&scenario, actors);
    let history = std::mem::take(&mut lab.borrow_mut().history);
    Ok(Played {
        options: options.clone(),
        behaviours,
        outcome,
        history,
    })
}

/// A lab that the world and dishonest peers share.
struct Shared {
    lab: Rc<RefCell<Lab>>,
    on_round: Box<dyn FnMut(u64)>,
}

impl Learning for Shared {
    fn initial(&self) -> StateRoot {
        self.lab.borrow().initial()
    }

    fn train(&mut self, task: &Task) -> Option<Trained> {
        self.lab.borrow_mut().train(task)
    }

    fn examine(&mut self, fetch: &Fetch) -> Verdict {
        self.lab.borrow_mut().examine(fetch)
    }

    fn compare(
        &mut self,
        index: usize,
        round: RoundNumber,
        found: &[Candidate],
        earlier: &[BlobHash],
    ) -> Vec<Signal> {
        self.lab.borrow_mut().compare(index, round, found, earlier)
    }

    fn judge(&mut self, index: usize, judge: &Judge) -> Vec<Score> {
        self.lab.borrow_mut().judge(index, judge)
    }

    fn apply(&mut self, base: StateRoot, apply: &Apply) -> StateRoot {
        self.lab.borrow_mut().apply(base, apply)
    }

    fn decided(&mut self, now: Millis, decided: &Decided, chain: &Chain) {
        self.lab.borrow_mut().decided(now, decided, chain);
        (self.on_round)(chain.round().0);
    }
}
