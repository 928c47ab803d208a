//! The `weal` program.

fn main() {}
