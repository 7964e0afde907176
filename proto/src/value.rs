//! Values of refs, and the two pseudo-refs of a project.

use std::fmt;
use std::str::FromStr;

use crate::name::{NameError, RefName, serde_as_text};
use crate::oid::Oid;

/// The owner of a version: a ref, or one of the project's pseudo-refs. Pseudo-refs are versioned in the same way as
/// refs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKey {
    /// The state of the project: active, closing, read-only or deleted. Written `@state`.
    State,
    /// The project's `HEAD`, a symbolic ref. Written `@HEAD`.
    Head,
    /// A ref. Written as its full name.
    Ref(RefName),
}

impl RefKey {
    /// The name of the ref. None for a pseudo-ref.
    #[must_use]
    pub fn as_ref_name(&self) -> Option<&RefName> {
        match self {
            Self::Ref(name) => Some(name),
            Self::State | Self::Head => None,
        }
    }
}

impl fmt::Display for RefKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => out.write_str("@state"),
            Self::Head => out.write_str("@HEAD"),
            Self::Ref(name) => fmt::Display::fmt(name, out),
        }
    }
}

impl fmt::Debug for RefKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for RefKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "@state" => Ok(Self::State),
            "@HEAD" => Ok(Self::Head),
            name => Ok(Self::Ref(name.parse()?)),
        }
    }
}

serde_as_text!(RefKey);

/// The phase of a project: whether it takes commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProjectPhase {
    /// The project takes commits.
    Active,
    /// The project is losing its writability. No new commit begins; those in progress may end.
    Closing,
    /// The project is readable, and takes no commits.
    ReadOnly,
    /// The project is deleted. The next creation of the name has the next incarnation.
    Deleted,
}

/// The value of the `@state` pseudo-ref: `active#1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectState {
    /// The phase of the project.
    pub phase: ProjectPhase,
    /// Counts the creations of this name, from 1.
    pub incarnation: u32,
}

impl fmt::Display for ProjectState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            ProjectPhase::Active => "active",
            ProjectPhase::Closing => "closing",
            ProjectPhase::ReadOnly => "read-only",
            ProjectPhase::Deleted => "deleted",
        };
        write!(out, "{phase}#{}", self.incarnation)
    }
}

impl FromStr for ProjectState {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| NameError::new("project state", text, why);
        let (phase, incarnation) = text.split_once('#').ok_or_else(|| refuse("has no '#'"))?;
        let phase = match phase {
            "active" => ProjectPhase::Active,
            "closing" => ProjectPhase::Closing,
            "read-only" => ProjectPhase::ReadOnly,
            "deleted" => ProjectPhase::Deleted,
            _ => return Err(refuse("has an unknown phase")),
        };
        let number: u32 = incarnation.parse().map_err(|_| refuse("has an incarnation that is not a number"))?;
        if number.to_string() != incarnation {
            return Err(refuse("has an incarnation that is not a plain decimal number"));
        }
        Ok(Self { phase, incarnation: number })
    }
}

/// The value of a ref or pseudo-ref at some version.
///
/// As text: `absent`, an object id, `ref:refs/heads/main`, or `state:active#1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefValue {
    /// No value. The version tells whether the ref was never created (zero) or was deleted (a tombstone).
    #[default]
    Absent,
    /// The object that a ref points to.
    Oid(Oid),
    /// The target of `HEAD`.
    Symref(RefName),
    /// The state of a project.
    State(ProjectState),
}

impl RefValue {
    /// Whether the value is the state of a deleted project.
    #[must_use]
    pub fn is_deleted_project(&self) -> bool {
        matches!(self, Self::State(state) if state.phase == ProjectPhase::Deleted)
    }

    /// The object id, if the value is one.
    #[must_use]
    pub fn oid(&self) -> Option<Oid> {
        match self {
            Self::Oid(oid) => Some(*oid),
            Self::Absent | Self::Symref(_) | Self::State(_) => None,
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }
}

impl From<Option<Oid>> for RefValue {
    fn from(oid: Option<Oid>) -> Self {
        oid.map_or(Self::Absent, Self::Oid)
    }
}

impl fmt::Display for RefValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => out.write_str("absent"),
            Self::Oid(oid) => fmt::Display::fmt(oid, out),
            Self::Symref(target) => write!(out, "ref:{target}"),
            Self::State(state) => write!(out, "state:{state}"),
        }
    }
}

impl FromStr for RefValue {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "absent" {
            return Ok(Self::Absent);
        }
        if let Some(target) = text.strip_prefix("ref:") {
            return Ok(Self::Symref(target.parse()?));
        }
        if let Some(state) = text.strip_prefix("state:") {
            return Ok(Self::State(state.parse()?));
        }
        Ok(Self::Oid(text.parse()?))
    }
}

serde_as_text!(RefValue);
