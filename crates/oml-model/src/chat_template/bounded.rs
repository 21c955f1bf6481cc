//! The built-in filters and methods that make a long text out of short ones, refused where the text would pass the cap.
//!
//! The interpreter charges a step for every 64 bytes that an operator or a filter of its own makes. Methods of Python's texts are not
//! among them, and what would pass the cap anyway is refused here before it is made.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, Rest, StringInput, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{MAX_PROMPT_BYTES, OUTPUT_TOO_LARGE};

/// Widest field of a format.
const MAX_FIELD: usize = 999;

/// Puts the bounded filters and methods in place, and takes away those that no chat template needs and that have no bound.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_filter("indent", indent);
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("format", format);
    environment.add_filter("string", string);
    for unbounded in ["batch", "slice", "pprint"] {
        environment.remove_filter(unbounded);
    }
    environment.set_unknown_method_callback(method);
}

pub(super) fn too_large() -> Error {
    Error::new(ErrorKind::InvalidOperation, OUTPUT_TOO_LARGE)
}

fn ensure(bytes: Option<usize>) -> Result<(), Error> {
    match bytes {
        Some(bytes) if bytes <= MAX_PROMPT_BYTES => Ok(()),
        _ => Err(too_large()),
    }
}

/// Counts what is written, up to the cap.
#[derive(Default)]
struct Count(usize);

impl Write for Count {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        if self.0 > MAX_PROMPT_BYTES {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Bytes of a value as text.
fn length(value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.len());
    }
    let mut count = Count::default();
    write!(count, "{value}").map_err(|_| too_large())?;
    Ok(count.0)
}

fn indent(
    value: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let spaces = match width {
        Some(width) => width,
        None => kwargs.get::<Option<usize>>("width")?.unwrap_or(4),
    };
    let text = value.as_str();
    let lines = text.matches('\n').count() + 1;
    ensure(
        spaces
            .checked_mul(lines)
            .and_then(|n| n.checked_add(text.len() + 2)),
    )?;
    filters::indent(value, width, first, blank, kwargs)
}

fn join(
    state: &mut State,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let between = match &joiner {
        Some(joiner) => joiner.as_str().len(),
        None => match kwargs.get::<Option<Value>>("d")? {
            Some(joiner) => length(&joiner)?,
            None => 0,
        },
    };
    ensure_joined(value, between)?;
    filters::join(state, value, joiner, attribute, kwargs)
}

fn ensure_joined(values: &Value, between: usize) -> Result<(), Error> {
    // what cannot be iterated is left to the filter to refuse
    let Ok(values) = values.try_iter() else {
        return Ok(());
    };
    let mut bytes = 0;
    for value in values {
        bytes += length(&value)? + between;
        ensure(Some(bytes.saturating_sub(between)))?;
    }
    Ok(())
}

fn replace(
    state: &mut State,
    value: StringInput<'_>,
    from: StringInput<'_>,
    to: StringInput<'_>,
) -> Result<Value, Error> {
    ensure_replaced(value.as_str(), from.as_str(), to.as_str())?;
    filters::replace(state, value, from, to)
}

fn ensure_replaced(text: &str, from: &str, to: &str) -> Result<(), Error> {
    let count = text.matches(from).count();
    ensure(
        count
            .checked_mul(to.len())
            .and_then(|n| n.checked_add(text.len())),
    )
}

fn string(state: &State, value: &Value) -> Result<Value, Error> {
    ensure(Some(length(value)?))?;
    filters::string(state, value)
}

fn format(state: &mut State, text: &Value, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    if let Some(text) = text.as_str() {
        let values: Vec<Value> = values.iter().map(|v| v.clone().into_value()).collect();
        ensure_formatted(text, '%', &values)?;
    }
    filters::format(state, text, values)
}

/// Every field may hold the longest value, or be as wide as fields may be. Widths out of the values are not taken.
fn ensure_formatted(text: &str, mark: char, values: &[Value]) -> Result<(), Error> {
    let mut fields = 0;
    for part in text.split(mark).skip(1) {
        let specification = if mark == '%' {
            let named = part.strip_prefix('(').and_then(|p| p.split_once(')'));
            let part = named.map_or(part, |(_, after)| after);
            part.split(char::is_alphabetic).next()
        } else if part.contains('}') || part.is_empty() {
            let field = part.split('}').next();
            field
                .and_then(|field| field.split_once(':'))
                .map(|(_, specification)| specification)
        } else {
            // a field in a field
            Some("*")
        };
        let specification = specification.unwrap_or_default();
        let wide = |digits: &str| {
            digits.parse::<usize>().is_ok_and(|width| width > MAX_FIELD) || digits.len() > 18
        };
        if specification.contains('*')
            || specification.split(|c: char| !c.is_ascii_digit()).any(wide)
        {
            let reason = "format: expected fields of a width of at most 999";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
        fields += 1;
    }
    let mut longest = MAX_FIELD;
    for value in values {
        longest = longest.max(length(value)?);
    }
    ensure(
        longest
            .checked_mul(fields)
            .and_then(|n| n.checked_add(text.len())),
    )
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if value.kind() == ValueKind::String
        && let Some(text) = value.as_str()
    {
        match (name, args) {
            ("replace", [from, to, ..]) => {
                if let (Some(from), Some(to)) = (from.as_str(), to.as_str()) {
                    ensure_replaced(text, from, to)?;
                }
            }
            ("join", [values]) => ensure_joined(values, text.len())?,
            ("format", values) => ensure_formatted(text, '{', values)?,
            _ => {}
        }
    }
    unknown_method_callback(state, value, name, args)
}
