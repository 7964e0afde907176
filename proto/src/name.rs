//! Names of projects, refs, sites and nodes, parsed once at the edge.
//!
//! The rules are git's (`git-check-ref-format`), Gerrit's (a project name is a folder path, without `.git` tricks), and
//! stricter ones of our own where a name becomes a file on another site.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// A text that breaks a naming rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {why}")]
pub struct NameError {
    /// The kind of name that was expected: `project name`, `ref name`, ...
    pub what: &'static str,
    /// The text, cut to 120 characters.
    pub value: String,
    /// The rule that the text breaks, as the end of a sentence.
    pub why: &'static str,
}

impl NameError {
    /// An error for `value`, which should have been a `what` and breaks the rule `why`.
    pub fn new(what: &'static str, value: impl AsRef<str>, why: &'static str) -> Self {
        let value = value.as_ref().chars().take(120).collect();
        Self { what, value, why }
    }
}

/// Serialises a type as the text that its `Display` writes and its `FromStr` reads.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        serde_as_text!($name);
    };
}

text_name!(
    /// A project name: a folder path below the root, without the `.git` at the end of the folder's own name.
    ProjectName,
    check_project
);
text_name!(
    /// A full ref name below `refs/`, with at least three components (`refs/heads/x`).
    RefName,
    check_ref
);
text_name!(
    /// The name of a site: one region or data centre (`eu-aws`).
    SiteId,
    check_site
);
text_name!(
    /// The name of a node: one Gerrit replica with its sidecar and its git volume (`eu-aws-0`). Unique across all
    /// sites.
    NodeId,
    check_node
);

impl RefName {
    /// Whether git treats the ref as a branch. A branch holds commits only.
    #[must_use]
    pub fn is_branch(&self) -> bool {
        self.0.starts_with("refs/heads/")
    }
}

/// A project and its incarnation: the scope of ref keys. The incarnation keeps anything of a deleted project from
/// coming back with its successor. Written `tools/build#2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectKey {
    /// The name, which all incarnations share.
    pub name: ProjectName,
    /// The number of this creation among all creations of the name, counted from 1.
    pub incarnation: u32,
}

impl ProjectKey {
    /// The key of one incarnation of a name.
    #[must_use]
    pub fn new(name: &ProjectName, incarnation: u32) -> Self {
        Self { name: name.clone(), incarnation }
    }

    /// The key for a name where the incarnation does not matter. The pseudo-ref `@state` belongs to the name, so every
    /// incarnation finds the same one.
    #[must_use]
    pub fn of_name(name: &ProjectName) -> Self {
        Self::new(name, 0)
    }
}

impl fmt::Display for ProjectKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}#{}", self.name, self.incarnation)
    }
}

impl fmt::Debug for ProjectKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for ProjectKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| NameError::new("project key", text, why);
        let (name, number) = text.rsplit_once('#').ok_or_else(|| refuse("has no '#' before its incarnation"))?;
        let incarnation: u32 = number.parse().map_err(|_| refuse("has an incarnation that is not a number"))?;
        if number != incarnation.to_string() {
            return Err(refuse("has an incarnation that is not a plain decimal number"));
        }
        Ok(Self { name: name.parse()?, incarnation })
    }
}

serde_as_text!(ProjectKey);

/// Checks the rules for one component of a project's name. Each component is a folder or file name on every site.
fn check_component(what: &'static str, whole: &str, part: &str) -> Result<(), NameError> {
    let refuse = |why| Err(NameError::new(what, whole, why));
    if part.is_empty() {
        return refuse("has an empty component (a leading, trailing or doubled '/')");
    }
    if part.len() > limits::NAME_COMPONENT_BYTES {
        return refuse("has a component longer than 250 bytes");
    }
    if part.starts_with('.') {
        return refuse("has a component that begins with '.'");
    }
    if part.ends_with('.') {
        return refuse("has a component that ends with '.'");
    }
    if part.to_ascii_lowercase().ends_with(".lock") {
        return refuse("has a component that ends with '.lock'");
    }
    if part.contains("..") {
        return refuse("contains '..'");
    }
    if part.contains("@{") {
        return refuse("contains '@{'");
    }
    if part.chars().any(char::is_control) {
        return refuse("contains a control character");
    }
    if part.contains([' ', '~', '^', ':', '?', '*', '[', '\\']) {
        return refuse("contains one of: space ~ ^ : ? * [ \\");
    }
    Ok(())
}

fn check_project(text: &str) -> Result<(), NameError> {
    const WHAT: &str = "project name";
    let refuse = |why| Err(NameError::new(WHAT, text, why));
    if text.is_empty() {
        return refuse("is empty");
    }
    if text.len() > limits::PROJECT_NAME_BYTES {
        return refuse("is longer than 512 bytes");
    }
    for part in text.split('/') {
        check_component(WHAT, text, part)?;
        if part.to_ascii_lowercase().ends_with(".git") {
            return refuse("has a component that ends with '.git'; leave the suffix off, the sidecar adds it");
        }
        if part.starts_with('-') {
            return refuse("has a component that begins with '-', which commands would take for an option");
        }
        if part.contains(['#', '%', '<', '>', '|', '"']) {
            return refuse("contains one of: # % < > | \"");
        }
    }
    Ok(())
}

/// Checks a ref name by git's rules (`git check-ref-format`), and by three of our own: it begins with `refs/`, has at
/// least three components, and is short enough for a file of every file system.
fn check_ref(text: &str) -> Result<(), NameError> {
    const WHAT: &str = "ref name";
    let refuse = |why| Err(NameError::new(WHAT, text, why));
    if text.len() > limits::REF_NAME_BYTES {
        return refuse("is longer than 768 bytes");
    }
    if !text.starts_with("refs/") {
        return refuse("does not begin with 'refs/'");
    }
    for part in text.split('/') {
        if let Some(why) = bad_ref_component(part) {
            return refuse(why);
        }
    }
    if text.ends_with('.') {
        return refuse("ends with '.'");
    }
    if text.split('/').count() < 3 {
        return refuse("has fewer than three components; 'refs/x' would exclude every name below it");
    }
    Ok(())
}

/// The rule of git that one component of a ref name breaks. A component `@` breaks none: only a name that *is* `@`
/// does.
fn bad_ref_component(part: &str) -> Option<&'static str> {
    if part.is_empty() {
        return Some("has an empty component (a leading, trailing or doubled '/')");
    }
    if part.len() > limits::NAME_COMPONENT_BYTES {
        return Some("has a component longer than 250 bytes");
    }
    if part.starts_with('.') {
        return Some("has a component that begins with '.'");
    }
    if part.ends_with(".lock") {
        return Some("has a component that ends with '.lock'");
    }
    if part.contains("..") {
        return Some("contains '..'");
    }
    if part.contains("@{") {
        return Some("contains '@{'");
    }
    if part.bytes().any(|byte| byte.is_ascii_control()) {
        return Some("contains a control character");
    }
    let special = [' ', '~', '^', ':', '?', '*', '[', '\\'];
    part.contains(special).then_some("contains one of: space ~ ^ : ? * [ \\")
}

fn check_short(what: &'static str, text: &str) -> Result<(), NameError> {
    let refuse = |why| Err(NameError::new(what, text, why));
    if text.is_empty() || text.len() > limits::SITE_NAME_BYTES {
        return refuse("is not 1 to 48 bytes long");
    }
    if !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return refuse("has a character other than a-z, 0-9 and '-'");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return refuse("begins or ends with '-'");
    }
    Ok(())
}

fn check_site(text: &str) -> Result<(), NameError> {
    check_short("site name", text)
}

fn check_node(text: &str) -> Result<(), NameError> {
    check_short("node name", text)
}
