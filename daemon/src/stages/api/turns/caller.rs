//! The sender of a batch, as far as turns are concerned: a user, or all users of a project whose names are not known.

use std::fmt;
use std::sync::Arc;

use lockstep_proto::ProjectName;
use lockstep_proto::status::CallerClass;

/// The class of a caller.
pub(super) type Class = CallerClass;

/// The most characters of a name that count.
const LONGEST: usize = 64;

/// A caller that takes turns with others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    pub(super) class: Class,
    pub(super) name: Arc<str>,
}

/// The names of some users: a name, with a `*` at its beginning, its end or both for any other text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPattern {
    text: String,
    any_before: bool,
    any_after: bool,
}

/// A text that is no [`UserPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of users: write a name, with a * only at its beginning or its end")]
pub struct UserPatternError(pub String);

impl std::str::FromStr for UserPattern {
    type Err = UserPatternError;

    fn from_str(text: &str) -> Result<Self, UserPatternError> {
        let inner = text.strip_prefix('*').unwrap_or(text);
        let (any_before, rest) = (inner.len() < text.len(), inner);
        let inner = rest.strip_suffix('*').unwrap_or(rest);
        if inner.is_empty() || inner.contains('*') {
            return Err(UserPatternError(text.to_owned()));
        }
        Ok(Self { text: inner.to_owned(), any_before, any_after: inner.len() < rest.len() })
    }
}

impl fmt::Display for UserPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = |is: bool| if is { "*" } else { "" };
        write!(out, "{}{}{}", star(self.any_before), self.text, star(self.any_after))
    }
}

impl UserPattern {
    fn matches(&self, name: &str) -> bool {
        match (self.any_before, self.any_after) {
            (false, false) => name == self.text,
            (true, false) => name.ends_with(&self.text),
            (false, true) => name.starts_with(&self.text),
            (true, true) => name.contains(&self.text),
        }
    }
}

/// The caller of a batch, by its `actor`: a name, or `NAME <MAIL>` as Gerrit writes it. Control characters are left
/// out, because operators read the name in a terminal. Unknown callers share one place per project.
pub(super) fn caller(actor: Option<&str>, project: &ProjectName, agents: &[UserPattern]) -> Caller {
    let name = actor.map(|actor| actor.split(" <").next().unwrap_or(actor));
    let name: String = name.into_iter().flat_map(str::chars).filter(|one| !one.is_control()).take(LONGEST).collect();
    let name = name.trim();
    if name.is_empty() {
        return Caller { class: Class::People, name: format!("unknown users of {project}").into() };
    };
    let is_agent = agents.iter().any(|pattern| pattern.matches(name));
    Caller { class: if is_agent { Class::Agents } else { Class::People }, name: name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_by_its_user_name() {
        let agents: Vec<UserPattern> = ["ci-*", "*-bot", "zuul", "*agent*"].map(|text| text.parse().unwrap()).into();
        let project: ProjectName = "tools/build".parse().unwrap();
        let of = |actor: Option<&str>| caller(actor, &project, &agents);
        for name in ["ci-1", "merge-bot", "zuul", "the-agent-7", "zuul <zuul|account-1000012@unknown>"] {
            assert_eq!(of(Some(name)).class, Class::Agents, "{name}");
        }
        for name in ["alice", "ci", "bot", "zuul2", "alice <ci-1@example.org>"] {
            assert_eq!(of(Some(name)).class, Class::People, "{name}");
        }
        assert_eq!(&*of(Some("alice <alice|account-1@unknown>")).name, "alice");
        assert_eq!(&*of(Some("al\u{1b}[2Jice")).name, "al[2Jice");
        assert_eq!(of(Some(&"x".repeat(900))).name.len(), LONGEST);
        assert_eq!(of(None), of(Some(" ")));
        assert_eq!(&*of(None).name, "unknown users of tools/build");
        for text in ["", "*", "a*b", "**"] {
            assert!(text.parse::<UserPattern>().unwrap_err().to_string().contains("is no name of users"), "{text}");
        }
        assert_eq!("*agent*".parse::<UserPattern>().unwrap().to_string(), "*agent*");
    }
}
