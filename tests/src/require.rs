//! What to do where a machine lacks something a test needs: say so and pass, or fail where nothing
//! may be left out.

use std::path::PathBuf;

/// Set to 1 where no test may be left out.
pub const REQUIRE_ALL: &str = "WEAL_REQUIRE_ALL";

/// Whether no test may be left out.
pub fn all_required() -> bool {
    std::env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1")
}

/// Says why a test is left out.
///
/// # Panics
/// Where nothing may be left out.
pub fn leave_out(test: &str, why: &str) {
    assert!(
        !all_required(),
        "{test} needs what this machine lacks: {why} ({REQUIRE_ALL}=1 forbids leaving it out)"
    );
    eprintln!("LEFT OUT: {test}: {why}");
}

/// Real text, if there is some: what `WEAL_TEST_TEXT` names, or tinyshakespeare beside the
/// checkout. It is not part of the project, so no run demands it; where it is named, it must be
/// there.
pub fn test_text() -> Option<PathBuf> {
    let beside = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/tinyshakespeare.txt"
    );
    match std::env::var_os("WEAL_TEST_TEXT").map(PathBuf::from) {
        Some(named) => {
            assert!(
                named.is_file(),
                "WEAL_TEST_TEXT names {}, which is not there",
                named.display()
            );
            Some(named)
        }
        None => Some(PathBuf::from(beside)).filter(|path| path.is_file()),
    }
}
