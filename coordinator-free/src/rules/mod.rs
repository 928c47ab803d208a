//! What is decided and what follows from it: pure functions of decided history.

pub mod beacon;
pub mod certificate;
pub mod chain;
pub mod evidence;
pub mod ledger;
pub mod roster;
pub mod round_set;
pub mod signatures;
