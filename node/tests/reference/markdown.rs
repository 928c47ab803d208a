//! Markdown that reads well on a code host.

const COLUMNS: usize = 100;

/// Escapes what Markdown would take for HTML or emphasis, except in code.
pub(crate) fn escape(text: &str) -> String {
    let mut is_code = false;
    let mut escaped = String::new();
    for c in text.chars() {
        if c == '`' {
            is_code = !is_code;
        } else if !is_code && matches!(c, '<' | '*' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Escaped text in lines of at most 100 columns; all but the first are indented.
pub(crate) fn wrap(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in escape(text).split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > COLUMNS {
            lines.push('\n');
            lines.push_str(indent);
            column = indent.len();
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += width;
    }
    lines
}

/// An item of a list.
pub(crate) fn item(text: &str) -> String {
    format!("{}\n", wrap(&format!("- {text}"), "  "))
}
