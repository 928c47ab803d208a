//! The text of a caught panic. GPU drivers and decoders report failures by panicking below us.

use std::any::Any;

/// The message that a panic carried, or a placeholder where it carried none.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it gave no reason")
        .to_owned()
}
