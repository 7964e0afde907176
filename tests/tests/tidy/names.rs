//! The name of a function is a sentence with a subject, or a verb. It never begins with what or who as a noun.

use crate::{Finding, Source};

/// The words with which no name begins.
const RIDDLES: [&str; 6] = ["what", "who", "whom", "whose", "whatever", "whoever"];

pub fn check(file: &Source) -> Vec<Finding> {
    let introduction = if file.is_rust() {
        "fn "
    } else if file.path.ends_with(".java") {
        "void "
    } else {
        return Vec::new();
    };
    let riddles = file.lines().filter_map(|(line, text)| Some((line, declared(text, introduction)?)));
    riddles
        .filter(|(_, name)| RIDDLES.contains(&first_word(name).as_str()))
        .map(|(line, name)| file.finding(line, format!("`{name}` begins with what or who: subject, verb, object")))
        .collect()
}

/// The name that a line of code declares behind `fn` or `void`.
fn declared<'a>(line: &'a str, introduction: &str) -> Option<&'a str> {
    let code = line.trim_start();
    let at = code.find(introduction).filter(|_| !code.starts_with(['/', '*', '"']))?;
    let is_word = at == 0 || code[..at].ends_with(' ');
    let (name, _) = code[at + introduction.len()..].split_once(['(', '<'])?;
    is_word.then_some(name)
}

/// The first word of a name in snake case or camel case.
fn first_word(name: &str) -> String {
    name.split(|letter: char| letter == '_' || letter.is_ascii_uppercase()).next().unwrap_or(name).to_owned()
}

#[test]
fn a_name_that_begins_with_what_or_who_is_found() {
    let rules = |path: &str, line: &str| check(&Source::new(path, line)).len();
    for name in ["what_is_collected", "who_waits", "whoever_waits", "what"] {
        assert_eq!(rules("x.rs", &format!("    pub async fn {name}(a: A) {{")), 1, "{name}");
        assert_eq!(rules("x.rs", &format!("fn {name}<T>(a: T) {{")), 1, "{name}");
    }
    assert_eq!(rules("X.java", "  void whatIsCollected() throws Exception {"), 1);
    assert_eq!(rules("x.rs", "fn whole_packs() {\n// fn what_is() {\nlet what_else = f(x);"), 0);
    assert_eq!(rules("X.java", "  void wholePacks() {\n  // void whatIs() {"), 0);
}
