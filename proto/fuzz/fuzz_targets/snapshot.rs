//! What decided rounds lead to, for a newcomer that begins with it.
#![no_main]

weal_proto_fuzz::target!(weal_proto::ChainSnapshot);
