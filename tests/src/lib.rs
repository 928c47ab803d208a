//! Helpers of the whole-system tests.
//!
//! | module | gives |
//! |---|---|
//! | [`net`] | real `weal` processes on loopback, to be watched, killed and started again |
//! | [`compose`] | the testnet of `deploy/`, in containers |
//! | [`observer`] | a silent peer that writes down what everyone signs |
//! | [`browser`] | a headless Chromium |
//! | [`require`] | what to do where a machine lacks something |

pub mod browser;
pub mod compose;
pub mod net;
pub mod observer;
pub mod require;
