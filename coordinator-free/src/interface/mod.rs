//! The contract between the rules and whoever runs them: what goes in, and what comes out.

pub mod error;
pub mod event;
pub mod input;
pub mod output;
pub mod time;
pub mod view;
