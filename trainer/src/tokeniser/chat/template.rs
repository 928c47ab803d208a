//! Renders a chat template as transformers does.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value as Jinja, ValueKind};
use minijinja::{Environment, Error as JinjaError, ErrorKind};
use serde_json::Value;

use super::date::strftime;

/// Steps that a template may take: enough for thousands of messages, and an end to every loop.
const FUEL: u64 = 5_000_000;
/// Functions that a template may call within one another.
const DEPTH: usize = 100;
/// The most bytes of a template.
const MOST_BYTES: usize = 1 << 20;
/// The only template of an environment.
const NAME: &str = "chat_template";

/// What stands before and after an answer, where the template marks answers itself.
pub(super) const ANSWER: [char; 2] = ['\u{fdd1}', '\u{fdd2}'];

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// Names of special tokens: `bos_token` and so on.
    names: Vec<(&'static str, String)>,
}

impl Template {
    /// Compiles a template, which sees no files and nothing of this machine. `seconds` since 1970
    /// is the time that it may show.
    pub(super) fn new(
        source: &str,
        names: Vec<(&'static str, String)>,
        seconds: u64,
    ) -> Result<Self, JinjaError> {
        if source.len() > MOST_BYTES {
            return Err(wrong(format!("it has {} bytes", source.len())));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Jinja, JinjaError> { Err(wrong(message)) },
        );
        environment.add_function("strftime_now", move |format: String| {
            strftime(&format, seconds)
        });
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, marked(source))?;
        Ok(Self { environment, names })
    }

    /// Renders messages; with `answers`, marks answers by [`ANSWER`] where the template says where
    /// they are.
    pub(super) fn render(
        &self,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, JinjaError> {
        let mut context: Vec<(&str, Jinja)> = vec![
            ("messages", messages.iter().map(value_of).collect::<Jinja>()),
            ("add_generation_prompt", add_generation_prompt.into()),
            // transformers gives these even if it has none.
            ("tools", Jinja::from(())),
            ("documents", Jinja::from(())),
        ];
        for (key, name) in &self.names {
            context.push((key, name.as_str().into()));
        }
        let template = self.environment.get_template(NAME)?;
        template.render(Jinja::from_pairs(context))
    }
}

/// A value without its nulls, on which many templates stumble.
fn value_of(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(yes) => (*yes).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(fraction)) => fraction.into(),
            (None, None) => Jinja::from(()),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(list) => list.iter().map(value_of).collect(),
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Jinja::from_pairs(kept.map(|(key, value)| (key.as_str(), value_of(value))))
        }
    }
}

fn wrong(message: String) -> JinjaError {
    JinjaError::new(ErrorKind::InvalidOperation, message)
}

/// The template with its marks of answers, `{% generation %}` and `{% endgeneration %}`, replaced
/// by ones that every Jinja knows.
fn marked(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        let (left, inner) = side(inner, str::strip_prefix);
        let (right, inner) = side(inner, str::strip_suffix);
        let [begins, ends] = ANSWER;
        match inner.trim() {
            "generation" => text.push_str(&format!(
                "{{%{left} if true %}}{begins}{{% endif {right}%}}"
            )),
            "endgeneration" => {
                text.push_str(&format!("{{%{left} if true %}}{ends}{{% endif {right}%}}"))
            }
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// The sign beside a tag's percent sign, and the tag without it.
fn side<'a>(tag: &'a str, strip: fn(&'a str, char) -> Option<&'a str>) -> (&'static str, &'a str) {
    for (sign, text) in [('-', "-"), ('+', "+")] {
        if let Some(inner) = strip(tag, sign) {
            return (text, inner);
        }
    }
    ("", tag)
}

/// Python's `json.dumps(value, ensure_ascii=False)`.
fn to_json(value: &Jinja, options: Kwargs) -> Result<Jinja, JinjaError> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let mut text = String::new();
    write_json(value, indent.map(|indent| indent.min(16)), 0, &mut text)?;
    Ok(Jinja::from_safe_string(text))
}

fn write_json(
    value: &Jinja,
    indent: Option<usize>,
    depth: usize,
    text: &mut String,
) -> Result<(), JinjaError> {
    if depth > DEPTH {
        return Err(wrong("tojson: too deep".to_owned()));
    }
    let (open, close) = match value.kind() {
        ValueKind::Map => ('{', '}'),
        ValueKind::Seq | ValueKind::Iterable => ('[', ']'),
        ValueKind::String => {
            text.push_str(&Value::from(value.to_string()).to_string());
            return Ok(());
        }
        ValueKind::Bool => {
            text.push_str(if value.is_true() { "true" } else { "false" });
            return Ok(());
        }
        ValueKind::Number => {
            text.push_str(&value.to_string());
            return Ok(());
        }
        ValueKind::None => {
            text.push_str("null");
            return Ok(());
        }
        kind => return Err(wrong(format!("tojson: {kind} is not JSON"))),
    };
    let line = |depth: usize, text: &mut String| {
        if let Some(indent) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    text.push(open);
    let mut is_first = true;
    for entry in value.try_iter()? {
        if !is_first {
            text.push_str(if indent.is_some() { "," } else { ", " });
        }
        is_first = false;
        line(depth + 1, text);
        if open == '{' {
            text.push_str(&Value::from(entry.to_string()).to_string());
            text.push_str(": ");
            write_json(&value.get_item(&entry)?, indent, depth + 1, text)?;
        } else {
            write_json(&entry, indent, depth + 1, text)?;
        }
    }
    if !is_first {
        line(depth, text);
    }
    text.push(close);
    Ok(())
}
