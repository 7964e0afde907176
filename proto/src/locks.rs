//! Locks of operators and bridges (JSON): the document in the refdb, and the bodies of the API.
//!
//! All locks of an installation are one document. Its revision grows with each change, so the revision that a lock was
//! acquired with is a fencing token that grows, too. The token begins each lock in the text of the document, and the
//! commit point looks for that text.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{ProjectName, RefName, SiteId};

/// The most locks at the same time. Every node reads the whole document.
pub const MOST_LOCKS: usize = 64;
/// The longest name of an owner, in bytes.
pub const OWNER_BYTES: usize = 128;
/// The longest reason, in bytes. Users read it.
pub const LOCK_REASON_BYTES: usize = 256;
/// The longest token, in bytes.
pub const TOKEN_BYTES: usize = 64;
/// The shortest time to live of a lock, in milliseconds.
pub const SHORTEST_TTL_MS: u64 = 10_000;
/// The longest time to live of a lock, in milliseconds: 30 days.
pub const LONGEST_TTL_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// The document: every lock that is held, or is being acquired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locks {
    /// The locks, in the order in which they were acquired.
    pub locks: Vec<Lock>,
}

/// A lock. Its first two fields are the text that the commit point looks for: see [`held_text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The fencing token: the revision of the document with which the lock was acquired, and a random part. No later
    /// lock has it.
    pub token: String,
    /// Whether it is held: every node that can commit obeys it. Until then it keeps others out, and nobody can commit
    /// with its token.
    pub held: bool,
    /// The revision of the document with which it was acquired. People name the lock by it.
    pub id: u64,
    /// The kind of the lock.
    pub kind: LockKind,
    /// The locked project, ref or site.
    pub target: LockTarget,
    /// The owner, as its users read it.
    pub owner: String,
    /// The reason, as the users read it.
    pub reason: String,
    /// The id of the request that acquired it. A repetition of that request gets the same lock.
    pub request_id: String,
    /// The authenticated identity of the caller that acquired it.
    pub by: String,
    /// When it was acquired, by the clock of the node that was asked, in milliseconds since 1970. For people alone.
    pub since_ms: u64,
    /// The number of renewals. A node that has watched the same number for the whole time to live ends the lock.
    pub renewals: u64,
    /// The time to live without a renewal, in milliseconds. None if it lives until it is released or broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The expected end, as its users read it. No decision depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// The text with which a held lock begins in the document. The commit point demands that the document contains it.
#[must_use]
pub fn held_text(token: &str) -> String {
    format!("{{\"token\":\"{token}\",\"held\":true,")
}

impl Lock {
    /// The lock as everybody may see it: without its token.
    #[must_use]
    pub fn shown(&self) -> LockStatus {
        let Self { held, id, kind, target, owner, reason, by, since_ms, renewals, ttl_ms, until, .. } = self.clone();
        LockStatus { id, kind, target, owner, reason, held, by, since_ms, renewals, ttl_ms, until }
    }
}

/// A lock as everybody may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockStatus {
    /// The number of the lock. A later lock has a higher one.
    pub id: u64,
    /// The kind of the lock.
    pub kind: LockKind,
    /// The locked project, ref or site.
    pub target: LockTarget,
    /// The owner of the lock.
    pub owner: String,
    /// The reason, as the users read it.
    pub reason: String,
    /// Whether every node that can commit obeys it.
    pub held: bool,
    /// The authenticated identity of the caller that acquired it.
    pub by: String,
    /// When it was acquired, in milliseconds since 1970.
    pub since_ms: u64,
    /// The number of renewals.
    pub renewals: u64,
    /// The time to live without a renewal, in milliseconds. None if it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The expected end, as its users read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// The kind of a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// A lock of a program or a person that works on a project or a ref.
    #[default]
    Lock,
    /// Maintenance of a project or of a site.
    Maintenance,
}

impl LockKind {
    /// Every kind of lock, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Lock, Self::Maintenance];

    /// The name of the kind, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Maintenance => "maintenance",
        }
    }
}

/// The locked thing: a project, one ref of a project, or a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockTarget {
    /// The project. The name may be free: then nobody creates a project with it.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// One ref of the project. None if all refs, `HEAD` and the state of the project are locked.
    #[schema(value_type = Option<String>)]
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub name: Option<RefName>,
    /// The site whose nodes take no commits.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
}

impl LockTarget {
    /// A project with all its refs.
    #[must_use]
    pub fn project(project: ProjectName) -> Self {
        Self { project: Some(project), ..Self::default() }
    }

    /// One ref of a project.
    #[must_use]
    pub fn of_ref(project: ProjectName, name: RefName) -> Self {
        Self { project: Some(project), name: Some(name), site: None }
    }

    /// A site, for maintenance.
    #[must_use]
    pub fn site(site: SiteId) -> Self {
        Self { site: Some(site), ..Self::default() }
    }

    /// Whether it names exactly one thing.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.project.is_some() != self.site.is_some() && (self.name.is_none() || self.project.is_some())
    }

    /// Whether no two owners may have both: the same site, the same project, or the same ref of it.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_name = self.name.is_none() || other.name.is_none() || self.name == other.name;
        self.site == other.site && self.project == other.project && same_name
    }
}

impl fmt::Display for LockTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.project, &self.name, &self.site) {
            (Some(project), Some(name), _) => write!(out, "{name} of project {project}"),
            (Some(project), None, _) => write!(out, "project {project}"),
            (None, _, Some(site)) => write!(out, "site {site}"),
            (None, _, None) => out.write_str("nothing"),
        }
    }
}

/// Acquires a lock, or goes on with an acquisition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcquireRequest {
    /// A unique id that the caller chooses. A repetition with the same id gets the same lock.
    pub request_id: String,
    /// The kind of the lock. Maintenance, and every lock of a site, are for operators alone.
    #[serde(default)]
    pub kind: LockKind,
    /// The thing to lock: a project, one of its refs, or a site.
    pub target: LockTarget,
    /// The owner, at most 128 bytes. Users read it.
    pub owner: String,
    /// The reason, at most 256 bytes. Users read it.
    pub reason: String,
    /// The time to live without a renewal, in milliseconds: 10 seconds to 30 days. Without it, the lock lives until it
    /// is released or broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The expected end, at most 64 bytes. Users read it, and no decision depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// The lock that a request has acquired, or is acquiring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acquired {
    /// The fencing token. A commit under the lock carries it.
    pub token: String,
    /// Whether the lock is held. If not, others are kept out already; repeat the request.
    pub held: bool,
    /// The nodes that can commit and may not know the lock yet, with the reason of each. Empty if it is held.
    pub waits_for: Vec<String>,
    /// The lock, as everybody may see it.
    pub lock: LockStatus,
}

/// Renews a lock: its time to live begins again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The token of the lock.
    pub token: String,
    /// Another time to live, in milliseconds. Without it, the last one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Releases a lock by its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The token of the lock.
    pub token: String,
}

/// Breaks a lock without its token. From then on nobody commits with that token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakRequest {
    /// The kind of the lock.
    #[serde(default)]
    pub kind: LockKind,
    /// The locked project, ref or site.
    pub target: LockTarget,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// All locks of the installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockList {
    /// The revision of the list.
    pub revision: u64,
    /// The locks, oldest first.
    pub locks: Vec<LockStatus>,
}

impl LockList {
    /// The list as everybody may see it.
    #[must_use]
    pub fn of(revision: u64, locks: &Locks) -> Self {
        Self { revision, locks: locks.locks.iter().map(Lock::shown).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(token: &str, held: bool, reason: &str) -> Lock {
        Lock {
            token: token.to_owned(),
            held,
            id: 7,
            kind: LockKind::Lock,
            target: LockTarget::project("p".parse().unwrap()),
            owner: "o".to_owned(),
            reason: reason.to_owned(),
            request_id: "r".to_owned(),
            by: "uid 0".to_owned(),
            since_ms: 1,
            renewals: 0,
            ttl_ms: None,
            until: None,
        }
    }

    #[test]
    fn the_document_contains_the_text_of_held_locks_alone() {
        let forged = format!("x {} y", held_text("8-bb"));
        let locks = Locks { locks: vec![lock("7-aa", true, &forged), lock("9-cc", false, "r")] };
        let body = serde_json::to_string(&locks).unwrap();
        assert!(body.contains(&held_text("7-aa")), "{body}");
        for other in ["8-bb", "9-cc", "7-a", "-aa", ""] {
            assert!(!body.contains(&held_text(other)), "{other}: {body}");
        }
        assert_eq!(serde_json::from_str::<Locks>(&body).unwrap(), locks);
    }

    #[test]
    fn a_lock_is_shown_without_its_token() {
        let shown = serde_json::to_string(&lock("7-aa", true, "r").shown()).unwrap();
        assert!(!shown.contains("7-aa") && !shown.contains("request_id"), "{shown}");
    }

    #[test]
    fn a_project_overlaps_with_its_refs_and_with_nothing_else() {
        let project = |name: &str| LockTarget::project(name.parse().unwrap());
        let of_ref = |name: &str, of: &str| LockTarget::of_ref(name.parse().unwrap(), of.parse().unwrap());
        let site = LockTarget::site("a".parse().unwrap());
        assert!(project("p").overlaps(&project("p")) && project("p").overlaps(&of_ref("p", "refs/heads/a")));
        assert!(of_ref("p", "refs/heads/a").overlaps(&project("p")));
        assert!(!of_ref("p", "refs/heads/a").overlaps(&of_ref("p", "refs/heads/b")));
        assert!(!project("p").overlaps(&project("q")) && !project("p").overlaps(&site) && site.overlaps(&site));
        assert!(project("p").is_one() && site.is_one() && !LockTarget::default().is_one());
        assert!(!LockTarget { project: Some("p".parse().unwrap()), ..site }.is_one());
    }
}
