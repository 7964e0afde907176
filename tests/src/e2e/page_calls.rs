//! The calls that docs/bridge-api.md shows (`$ curl ...`), and the answers below them.
//!
//! An answer is compared field by field. Numbers, hashes, and ids, origins, projects and transactions may differ, and
//! `{...}` of the page stands for any object.

use serde::Serialize;
use serde_json::Value;

use super::documented::{masked, read};

const PAGE: &str = "bridge-api.md";
/// The fields whose values are others in each installation.
const ANY: [&str; 4] = ["id", "origin", "project", "txn"];

/// A call of the page.
pub struct PageCall {
    /// The HTTP method.
    pub method: String,
    /// The path of the URL.
    pub path: String,
    /// The body of the request, as the page shows it.
    pub body: String,
    answer: String,
}

/// The calls of the page, in its order. `curl ... -d` without a URL repeats the one before.
///
/// # Panics
/// If a command of the page has no end.
#[must_use]
pub fn page_calls() -> Vec<PageCall> {
    let text = read(PAGE);
    let mut lines = text.lines().peekable();
    let mut calls: Vec<PageCall> = Vec::new();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ curl ") else { continue };
        let mut command = command.to_owned();
        while command.ends_with('\\') || command.matches('\'').count() % 2 == 1 {
            let more = lines.next().expect("the end of a command");
            command = format!("{} {}", command.trim_end_matches('\\'), more.trim());
        }
        let mut answer = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```")) {
            answer += line;
            answer.push(' ');
        }
        let word = |mark: &str| {
            let (_, rest) = command.split_once(mark)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        let before = || calls.last().map(|call| call.path.clone()).unwrap_or_default();
        let path = word("http://lockstep").unwrap_or_else(before);
        let body = command.split_once("-d '").map(|(_, body)| body.trim_end_matches('\'').to_owned());
        let (method, body) = (word("-X ").unwrap_or_else(|| "POST".to_owned()), body.unwrap_or_default());
        calls.push(PageCall { method, path, body, answer });
    }
    calls
}

/// Holds an answer against the one that the page shows for a path.
///
/// # Panics
/// If the page shows another one, or no such call.
pub fn documented_answer(path: &str, answer: &impl Serialize) {
    let calls = page_calls();
    let call = calls.iter().find(|call| call.path == path);
    call.unwrap_or_else(|| panic!("docs/{PAGE} has no call of {path}")).is_answered(answer);
}

impl PageCall {
    /// Holds an answer against the one of the page.
    ///
    /// # Panics
    /// If the page shows another one: both are printed.
    pub fn is_answered(&self, answer: &impl Serialize) {
        let text = serde_json::to_string(answer).expect("JSON");
        let real: Value = serde_json::from_str(&text).expect("JSON");
        let shown = self.answer.replace("{...}", "\"...\"");
        let shown: Value = serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
        let (method, path) = (&self.method, &self.path);
        assert!(alike(&shown, &real), "{method} {path}: docs/{PAGE} shows\n{shown}\nand the answer is\n{text}");
    }
}

fn alike(shown: &Value, real: &Value) -> bool {
    match (shown, real) {
        (Value::String(any), _) if any == "..." => true,
        (Value::Object(shown), Value::Object(real)) => {
            let is_alike = |key: &String, one: &Value, other: &Value| ANY.contains(&key.as_str()) || alike(one, other);
            let has = |(key, one): (&String, &Value)| real.get(key).is_some_and(|other| is_alike(key, one, other));
            shown.len() == real.len() && shown.iter().all(has)
        }
        (Value::Array(shown), Value::Array(real)) => {
            shown.len() == real.len() && shown.iter().zip(real).all(|(one, other)| alike(one, other))
        }
        (Value::Number(_), Value::Number(_)) => true,
        (Value::String(shown), Value::String(real)) => masked(shown) == masked(real),
        (shown, real) => shown == real,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_compared_by_their_fields_and_words() {
        let shown = json!({"outcome": "refused", "txn": "a.1", "results": [{"why": "8 of 9", "body": "..."}]});
        let same = json!({"outcome": "refused", "txn": "b.2", "results": [{"why": "1 of 2", "body": {"x": 1}}]});
        assert!(alike(&shown, &same));
        for other in [
            json!({"outcome": "committed", "txn": "a.1", "results": [{"why": "8 of 9", "body": 1}]}),
            json!({"outcome": "refused", "txn": "a.1", "results": []}),
            json!({"outcome": "refused", "txn": "a.1", "results": [{"why": "8 of 9"}]}),
            json!({"outcome": "refused", "results": [{"why": "8 of 9", "body": 1}]}),
        ] {
            assert!(!alike(&shown, &other), "{other}");
        }
    }

    #[test]
    fn the_page_has_calls_with_their_answers() {
        let calls = page_calls();
        let first = &calls[0];
        assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/v1/projects/app/ref-transactions"));
        assert!(serde_json::from_str::<Value>(&first.body).is_ok(), "{}", first.body);
        assert!(first.answer.starts_with("{\"outcome\":\"committed\""), "{}", first.answer);
        assert_eq!(calls[1].path, first.path, "a command without a URL");
        assert!(calls.iter().any(|call| call.method == "DELETE" && call.path == "/v1/projects/tools%2Flint"));
    }
}
