//! What the learner reports: progress, a round's training, losses.

/// The progress of a round's training, reported after every inner step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Inner steps done in this call.
    pub steps: u64,
    /// Inner steps of the round (H).
    pub of_steps: u64,
    /// Samples trained on in this call.
    pub samples: u64,
    /// Tokens trained on in this call.
    pub tokens: u64,
    /// Loss of the last step before its update, in nats per token; not finite if the step was
    /// skipped.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Global norm of the last step's gradient before clipping.
    pub gradient_norm: f64,
    /// Seconds since the call began.
    pub seconds: f64,
}

/// What a call of [`Learner::train`](crate::Learner::train) did.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Inner steps done, skipped ones included.
    pub steps: u64,
    /// Steps skipped because their loss or gradient was not finite.
    pub skipped_steps: u64,
    /// How often training diverged and returned to the agreed weights.
    pub restorations: u64,
    /// Samples trained on: the peer's samples `0..samples` of the round.
    pub samples: u64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Mean loss of the steps that were learnt from, each before its update, in nats per token.
    pub mean_loss: f32,
    /// Seconds that the call took.
    pub seconds: f64,
    /// Seconds of these in which training waited for data.
    pub data_seconds: f64,
}

/// How well weights predict a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss, in nats per byte of text.
    pub nats_per_byte: f64,
    /// Mean loss, in nats per predicted token.
    pub nats_per_token: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text that these tokens stand for.
    pub bytes: u64,
}
