//! Plays whole runs in virtual time: peers learn, lie and come and go, from one seed.
//!
//! The simulator of `weal-coordinator-free` drives the rules of a run under a network, disks and
//! clocks. This crate puts a small language model behind it. Peers train it with real gradients,
//! send contributions through the real codec, and apply them with the real outer step. So a
//! dishonest peer costs loss, credit and weight, and all of these can be measured.
//!
//! ```
//! use weal_simulator::{Options, parse_mix, play};
//!
//! let options = Options {
//!     rounds: 2,
//!     dishonest: parse_mix("sign-flip=1")?,
//!     ..Options::new(5, 1)
//! };
//! let played = play(&options, |_| ())?;
//! assert_eq!(played.rounds_decided(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `options`, `simulation` | what to play; playing it |
//! | `source`, `model`, `learner` | text, a small language model, one peer's training |
//! | `lab`, `peer`, `judging` | the learning of all peers, behind the simulator's names |
//! | `forging` | copies of others' contributions, under another name |
//! | `behaviour` | every way to be dishonest, by name |
//! | `craft`, `scoring` | what they contribute, what they report about others |
//! | `conduct`, `theft`, `crowd` | what they reveal, steal, and do under many keys |
//! | `mischief`, `grinding` | what they attest and propose |
//! | `history`, `summary`, `separation` | what happened round by round, in one line, and by signal |
//! | `report`, `chart` | a page with plots |

#![forbid(unsafe_code)]
#![allow(clippy::indexing_slicing)] // peers, tokens and parameters are numbered here, not outside

mod behaviour;
mod chart;
mod conduct;
mod craft;
mod crowd;
mod forging;
mod grinding;
mod history;
mod judging;
mod lab;
mod learner;
mod mischief;
mod model;
mod options;
mod peer;
mod report;
mod scoring;
mod separation;
mod simulation;
mod source;
mod summary;
mod theft;

pub use behaviour::{BEHAVIOURS, Behaviour, find};
pub use conduct::Conduct;
pub use craft::Craft;
pub use history::{After, History, Measured, Round};
pub use mischief::Mischief;
pub use options::{Conditions, Options, OptionsError, parse_mix};
pub use report::report;
pub use scoring::Scoring;
pub use separation::Separation;
pub use simulation::{Error, Played, play, play_by};
pub use summary::{HONEST, Summary};
pub use theft::Theft;
