//! The `weal-dishonest` program: the node with behaviours that are not honest, for tests.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    weal::cli::main()
}
