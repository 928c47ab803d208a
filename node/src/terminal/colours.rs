//! Whether to use colours.

use std::ffi::OsString;
use std::io::IsTerminal;

/// Whether what goes to standard error may be coloured: it is a terminal that knows colours, and
/// nobody asked for none. `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE` and `TERM` mean what they mean
/// to other programs.
pub(crate) fn colours() -> bool {
    wanted(std::io::stderr().is_terminal(), &|name| {
        std::env::var_os(name)
    })
}

fn wanted(is_terminal: bool, variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let value = |name: &str| variable(name).filter(|value| !value.is_empty());
    if value("NO_COLOR").is_some() {
        return false;
    }
    if value("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    let knows_colours = match value("TERM") {
        Some(terminal) => terminal != "dumb",
        None => cfg!(windows),
    };
    let refused = value("CLICOLOR").is_some_and(|value| value == "0");
    is_terminal && knows_colours && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_users_want_them() {
        for (is_terminal, variables, colours) in [
            (true, &[("TERM", "xterm")][..], true),
            (false, &[("TERM", "xterm")], false),
            (true, &[("TERM", "dumb")], false),
            (true, &[], cfg!(windows)),
            (true, &[("TERM", "xterm"), ("NO_COLOR", "1")], false),
            (true, &[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (true, &[("TERM", "xterm"), ("CLICOLOR", "0")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(wanted(is_terminal, &variable), colours, "{variables:?}");
        }
    }
}
