//! What is decided, and what follows from it: pure functions of decided history.
//!
//! | file | holds |
//! |---|---|
//! | `chain` | the end of decided history: all that the next round depends on |
//! | `history` | checking all of it from the manifest on |
//! | `verified` | a decision that may extend the chain |
//! | `round_set` | how a round set is built, and when it is valid |
//! | `certificate` | proof that voters decided a round set |
//! | `ledger`, `roster` | what each peer has earned, and who may vote |
//! | `places` | who may commit in a round |
//! | `past` | what is remembered of the last decided rounds |
//! | `recovery` | going on without voters that are gone for ever |
//! | `trust` | how contributions are judged: admission, scores, standing, credit |
//! | `shares` | which samples each peer trains on |
//! | `beacon` | the public random seed of each round |
//! | `content`, `slot` | a signed message's payload, and what a peer may say only once |
//! | `evidence` | proof that a peer contradicted itself |
//! | `signatures` | checking each signature once |
//! | `invalid` | the rules that a round set or a decision can break |

pub(crate) mod beacon;
pub(crate) mod certificate;
pub(crate) mod chain;
pub(crate) mod content;
pub(crate) mod evidence;
pub(crate) mod history;
pub(crate) mod invalid;
pub(crate) mod ledger;
pub(crate) mod past;
pub(crate) mod places;
pub(crate) mod recovery;
pub(crate) mod roster;
pub(crate) mod round_set;
pub(crate) mod shares;
pub(crate) mod signatures;
pub(crate) mod slot;
pub(crate) mod trust;
pub(crate) mod verified;
