//! The structs that prost makes of the schema. They check nothing: only this crate sees them.
#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/commonweal.v1.rs"));
