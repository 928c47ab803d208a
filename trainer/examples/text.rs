//! Prints text of the built-in generator, for use in other programs.
//!
//! ```sh
//! cargo run --example text -- 4000000 > generated.txt
//! ```

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::env::args()
        .nth(1)
        .ok_or("expected a number of bytes")?
        .parse()?;
    std::io::stdout().write_all(&weal_trainer::generate_text(&[0; 32], bytes).text)?;
    Ok(())
}
