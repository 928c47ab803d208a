//! Keeps complaints of graphics drivers off the terminal.

/// Spares the user what the Wayland client of Linux's graphics drivers prints each time a GPU is
/// looked for on a machine without a desktop: that `XDG_RUNTIME_DIR` is not set. This process gets
/// one that does not exist, which the client finds out without a word.
///
/// Call it first in `main`. It does nothing once the process has more than one thread.
pub fn quiet_drivers() {
    #[cfg(target_os = "linux")]
    set_runtime_folder();
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn set_runtime_folder() {
    const NAME: &str = "XDG_RUNTIME_DIR";
    let is_usable =
        std::env::var_os(NAME).is_some_and(|folder| std::path::Path::new(&folder).is_absolute());
    let is_alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if !is_usable && is_alone {
        // SAFETY: no other thread reads the environment, because there is no other thread.
        unsafe { std::env::set_var(NAME, "/nonexistent") };
    }
}
