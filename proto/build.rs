//! Compiles the schema without `protoc`.

use std::error::Error;

const SCHEMA: [&str; 4] = [
    "manifest.proto",
    "round.proto",
    "exchange.proto",
    "snapshot.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=schema");
    let descriptors = protox::compile(SCHEMA, ["schema"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
