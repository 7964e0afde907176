//! Reads the fields of a configuration one by one, and collects all problems.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use figment::value::Value;

use super::raw::Leaf;

/// Least similarity (0 to 1) at which a known name is suggested in place of an unknown one.
const ALIKE: f64 = 0.7;

/// All problems of a configuration, one line per problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the configuration has {} wrong value(s):", self.0.len())?;
        self.0.iter().try_for_each(|line| write!(out, "\n  {line}"))
    }
}

impl Problems {
    /// Whether there are no problems.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the problem `field = value: why`, or `field is not set: why`.
    pub(super) fn wrong(&mut self, field: &str, value: &Leaf, why: impl fmt::Display) {
        self.0.push(match value {
            Some(value) => format!("{field} = {}: {why}", show(value)),
            None => format!("{field} is not set: {why}"),
        });
    }

    /// Adds a problem for each unknown name in a section.
    pub(super) fn unknown(&mut self, section: &str, unknown: &BTreeMap<String, Value>, known: &[&str]) {
        for name in unknown.keys() {
            let alike = known.iter().map(|one| (strsim::jaro_winkler(name, one), *one));
            let best = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness >= ALIKE);
            let remedy = match best {
                Some((_, one)) => format!("did you mean {}?", path(section, one)),
                None => format!("remove it; valid here: {}", known.join(", ")),
            };
            self.0.push(format!("{} is not a setting: {remedy}", path(section, name)));
        }
    }

    /// Reads a required field. `remedy` is the advice if it is missing.
    pub(super) fn need<T>(
        &mut self,
        field: &str,
        leaf: &Leaf,
        remedy: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if leaf.is_none() {
            self.wrong(field, leaf, remedy);
        }
        self.optional(field, leaf, read)
    }

    /// Reads an optional field. Returns `None` if it is missing or wrong.
    pub(super) fn optional<T>(
        &mut self,
        field: &str,
        leaf: &Leaf,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = leaf.as_ref()?;
        let answer = match scalar(value) {
            Some(text) => read(&text),
            None => Err("write one value, not a list or table".to_owned()),
        };
        answer.map_err(|why| self.wrong(field, leaf, why)).ok()
    }

    /// Reads a field with a default. Returns the default also if the value is wrong.
    pub(super) fn or<T>(
        &mut self,
        field: &str,
        leaf: &Leaf,
        default: T,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.optional(field, leaf, read).unwrap_or(default)
    }
}

/// A reader of whole numbers within `bounds`.
pub(super) fn number<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    move |text| {
        let wrong = || format!("write a whole number from {} to {}", bounds.start(), bounds.end());
        text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(wrong)
    }
}

/// Parses a text with the `FromStr` of its type.
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

pub(super) fn path(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// A single value as text, or `None` for a list or table. Numbers are accepted, because figment parses a numeric value
/// of an environment variable as a number, even if the setting is a text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, c) => Some(c.to_string()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => {
            let signed = number.to_i128().map(|n| n.to_string());
            signed
                .or_else(|| number.to_u128().map(|n| n.to_string()))
                .or_else(|| number.to_f64().map(|n| n.to_string()))
        }
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

fn show(value: &Value) -> String {
    match (value, scalar(value)) {
        (Value::String(..) | Value::Char(..), Some(text)) => format!("{text:?}"),
        (_, Some(text)) => text,
        (Value::Array(_, items), None) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        (_, None) => "{...}".to_owned(),
    }
}
