//! Helpers of the whole-system tests.

pub mod browser;
