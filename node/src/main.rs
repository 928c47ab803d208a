//! The `weal` program.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    weal::cli::main()
}
