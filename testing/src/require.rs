//! What a test does when the machine lacks something it needs: it prints why and passes, or fails
//! when `WEAL_REQUIRE_ALL=1` forbids skipping.

use std::path::PathBuf;

/// The environment variable that forbids skipping a test when set to `1`.
pub const REQUIRE_ALL: &str = "WEAL_REQUIRE_ALL";

/// The environment variable that asks for the full form of tests when set to `1`.
pub const FULL: &str = "WEAL_FULL";

/// The environment variable that names a file of real text.
pub const TEST_TEXT: &str = "WEAL_TEST_TEXT";

/// Whether `WEAL_REQUIRE_ALL=1` is set, so that no test may be skipped.
pub fn all_required() -> bool {
    std::env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1")
}

/// Whether tests run in full: all seeds, all rows, all pairs of homes, a thousand power cuts. That
/// takes hours, so tests play a few of each by default. `cargo xtask full` sets `WEAL_FULL=1`.
pub fn full() -> bool {
    std::env::var_os(FULL).is_some_and(|value| value == "1")
}

/// Prints why a test is skipped.
///
/// # Panics
/// If `WEAL_REQUIRE_ALL=1` is set.
pub fn skip(test: &str, why: &str) {
    assert!(
        !all_required(),
        "{test}: this machine lacks something: {why} ({REQUIRE_ALL}=1 forbids skipping)"
    );
    eprintln!("SKIPPED: {test}: {why}");
}

/// The file of real text that `WEAL_TEST_TEXT` names. It is not part of the project, so even
/// `WEAL_REQUIRE_ALL=1` does not require it.
///
/// # Panics
/// If `WEAL_TEST_TEXT` names a file that does not exist.
pub fn test_text() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(TEST_TEXT)?);
    assert!(
        path.is_file(),
        "{TEST_TEXT} names {}, which does not exist",
        path.display()
    );
    Some(path)
}
