//! A blob's outline from a stranger.
#![no_main]

weal_proto_fuzz::target!(weal_proto::Outline);
