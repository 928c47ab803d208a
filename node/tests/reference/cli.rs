//! Commands and flags, as clap knows them.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use super::markdown::{item, wrap};

/// A section for the program and for each of its commands.
pub(crate) fn commands(program: &Command) -> String {
    let mut text = String::new();
    section(&mut text, program.get_name(), program);
    text
}

fn section(text: &mut String, path: &str, command: &Command) {
    let about = command.get_about().map(ToString::to_string);
    let usage = command.clone().bin_name(path).render_usage().to_string();
    let usage: Vec<_> = usage
        .trim_start_matches("Usage: ")
        .lines()
        .map(str::trim)
        .collect();
    let usage = usage.join("\n");
    let about = wrap(&sentence(&about.unwrap_or_default()), "");
    write!(text, "\n## `{path}`\n\n{about}\n\n```text\n{usage}\n```\n").unwrap();
    let (positional, flags): (Vec<_>, Vec<_>) = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .partition(|arg| arg.is_positional());
    for (title, args) in [("Arguments", positional), ("Options", flags)] {
        if !args.is_empty() {
            write!(text, "\n{title}:\n\n").unwrap();
            args.iter().for_each(|arg| text.push_str(&entry(arg)));
        }
    }
    for subcommand in command.get_subcommands() {
        section(
            text,
            &format!("{path} {}", subcommand.get_name()),
            subcommand,
        );
    }
}

fn entry(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string);
    let mut text = format!("{}: {}", name(arg), sentence(&help.unwrap_or_default()));
    let values: Vec<_> = arg
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if takes_value(arg) && !values.is_empty() && !arg.is_hide_possible_values_set() {
        write!(text, " Values: {}.", values.join(", ")).unwrap();
    }
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if takes_value(arg) && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        write!(text, " Default: {}.", defaults.join(", ")).unwrap();
    }
    if let Some(variable) = arg.get_env() {
        write!(text, " Environment: `{}`.", variable.to_string_lossy()).unwrap();
    }
    item(&text)
}

fn name(arg: &Arg) -> String {
    let value = arg
        .get_value_names()
        .and_then(|names| names.first())
        .map(ToString::to_string)
        .unwrap_or_else(|| arg.get_id().as_str().to_uppercase());
    match arg.get_long() {
        None => format!("`<{value}>`"),
        Some(long) if takes_value(arg) => format!("`--{long} <{value}>`"),
        Some(long) => format!("`--{long}`"),
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// clap takes the full stop off a doc comment.
fn sentence(text: &str) -> String {
    let text = text.trim();
    match text.chars().last() {
        Some('.' | '…') | None => text.to_owned(),
        Some(_) => format!("{text}."),
    }
}

/// The flags of a command whose help names this key of `settings.toml`.
pub(crate) fn flags_of_setting(command: &Command, key: &str) -> Vec<String> {
    let mark = format!("[settings: {key}]");
    let names_key = |arg: &&Arg| {
        arg.get_help()
            .is_some_and(|help| help.to_string().contains(&mark))
    };
    command
        .get_arguments()
        .filter(names_key)
        .map(|arg| {
            let variable = arg.get_env().map(|variable| variable.to_string_lossy());
            let variable = variable.map(|variable| format!(" or `{variable}`"));
            format!(
                "`--{}`{}",
                arg.get_long().unwrap_or_default(),
                variable.unwrap_or_default()
            )
        })
        .collect()
}

/// The flags of some commands whose help is the doc of a key.
pub(crate) fn flags_with_help(program: &Command, commands: &[&str], doc: &str) -> Vec<String> {
    let doc = doc.strip_suffix('.').unwrap_or(doc);
    let mut flags = Vec::new();
    for name in commands {
        let command = program.find_subcommand(name).unwrap();
        let is_key = |arg: &&Arg| arg.get_help().is_some_and(|help| help.to_string() == doc);
        for arg in command.get_arguments().filter(is_key) {
            flags.push(format!(
                "`weal {name} --{}`",
                arg.get_long().unwrap_or_default()
            ));
        }
    }
    flags
}
