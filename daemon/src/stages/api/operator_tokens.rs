//! Tokens of operators: named, and kept as hashes.
//!
//! The file has one token per line: the name of its holder, `sha256:` with the hash of the token in hexadecimal, and
//! the holder's role, `viewer`, `approver` or `operator`. A line without a role is one of an operator, as in earlier
//! releases. Empty lines and lines that begin with `#` do not count. A holder may have several lines, so that an old
//! token and a new one are both accepted while callers move. The file is read on each request: no change needs a
//! restart. It holds no token, so a thief of the file can do nothing with it. Tokens are random numbers of 256 bits, so
//! a hash without salt and without cost hides them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::time::Instant;

use super::error::Failure;
use super::out_of_reach::User;
use crate::base::clock::Entropy;
use crate::stages::ports::{OperatorRole, TokenHash};

/// The beginning of each token, by which scanners of leaked secrets recognise it.
const TOKEN: &str = "lockstep-operator-";
/// The beginning of each hash.
const HASH: &str = "sha256:";
/// Longest name of a holder, in bytes.
const LONGEST_NAME: usize = 64;

/// The name of the holder of a token, as the audit trail shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A text that is no name of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write 1 to {} of the characters a-z A-Z 0-9 - _ . @", LONGEST_NAME)]
pub struct HolderError;

impl FromStr for Holder {
    type Err = HolderError;

    fn from_str(text: &str) -> Result<Self, HolderError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        if (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(HolderError)
    }
}

/// A token that was just made.
pub struct NewToken {
    /// The token, for its holder.
    pub token: String,
    /// The line of the token file, which does not reveal the token.
    pub line: String,
}

/// Makes a token for a holder. The line of an operator names no role, so that earlier releases can read it.
#[must_use]
pub fn new_token(holder: &Holder, role: OperatorRole, entropy: &dyn Entropy) -> NewToken {
    let secret: String = (0..4).map(|_| format!("{:016x}", entropy.next())).collect();
    let token = format!("{TOKEN}{secret}");
    let line = format!("{holder} {HASH}{}", hex::encode(Sha256::digest(&token)));
    match role {
        OperatorRole::Operator => NewToken { token, line },
        OperatorRole::Viewer | OperatorRole::Approver => NewToken { token, line: format!("{line} {}", role.name()) },
    }
}

/// The file with the tokens of operators.
#[derive(Clone, Debug)]
pub(super) struct OperatorTokens(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    /// A user who must not be able to write the file.
    others: Option<User>,
    /// When the log last said that the file cannot be used.
    told: Mutex<Option<Instant>>,
}

/// The shortest time between two log lines about the file. Strangers cause them, too.
const QUIET: Duration = Duration::from_secs(10);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("this sidecar's own user could change {0}, but api.operators does not list that user")]
    WithinReach(PathBuf),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Thread(#[from] tokio::task::JoinError),
}

/// One line of the file.
struct Entry {
    holder: Holder,
    hash: TokenHash,
    role: OperatorRole,
}

impl OperatorTokens {
    pub(super) fn at(path: PathBuf, others: Option<User>) -> Self {
        Self(Arc::new(Kept { path, others, told: Mutex::default() }))
    }

    /// The text of the file, or the reason why it cannot be used.
    fn text(&self) -> Result<String, FileError> {
        let Kept { path, others, .. } = &*self.0;
        let part = others.as_ref().map(|others| others.reaches(path)).transpose()?;
        match part.flatten() {
            Some(part) => Err(FileError::WithinReach(part)),
            None => Ok(std::fs::read_to_string(path)?),
        }
    }

    /// The answer while it cannot be known whether a token is valid. A caller may be a stranger, so the reason is for
    /// the log alone.
    fn unusable(&self, why: &str) -> Failure {
        let mut told = self.0.told.lock();
        if told.is_none_or(|at| at.elapsed() >= QUIET) {
            *told = Some(Instant::now());
            let path = self.0.path.display();
            tracing::error!(why, "operators.token_file {path} cannot be used: restore it");
        }
        Failure::unavailable(
            "it is not known whether this token is valid, because operators.token_file cannot be used now; the log of \
             this sidecar says why; nothing was changed",
        )
    }

    /// The holder of the token that a request presents, and the holder's role.
    ///
    /// # Errors
    /// The request has no token, the file does not list it, or the file cannot be read.
    pub(super) async fn holder(&self, headers: &HeaderMap) -> Result<(Holder, OperatorRole), Failure> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let presented = value.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
            Failure::unauthorized(
                "this listener is for operators: present a certificate that operators.allow lists, or send header \
                 authorization: `Bearer <token>` with a token of operators.token_file",
            )
        })?;
        let found = self.find(Sha256::digest(presented.trim()).into()).await?;
        found.ok_or_else(|| {
            Failure::unauthorized(
                "the token in header authorization is not in operators.token_file; it may have been replaced",
            )
        })
    }

    /// The holder of the token with this hash. None if every line can be read, and none lists the hash.
    pub(super) async fn find(&self, hash: TokenHash) -> Result<Option<(Holder, OperatorRole)>, Failure> {
        let file = self.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "the disk may block; the simulator has no listener for operators"
        )]
        let read_file = tokio::task::spawn_blocking(move || file.text());
        let text = read_file.await.unwrap_or_else(|error| Err(error.into()));
        let text = text.map_err(|why| self.unusable(&why.to_string()))?;
        let (entries, unreadable) = read(&text);
        match (find(&entries, &hash), unreadable) {
            (Some(found), _) => Ok(Some(found)),
            (None, None) => Ok(None),
            (None, Some(line)) => Err(self.unusable(&format!(
                "line {line} cannot be read, so it is not known whether it has a token that was presented; `lockstep \
                 operators token` makes a line"
            ))),
        }
    }
}

/// The entries of the file, and the number of the first line that cannot be read.
fn read(text: &str) -> (Vec<Entry>, Option<usize>) {
    let (mut entries, mut unreadable) = (Vec::new(), None);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line) {
            Some(entry) => entries.push(entry),
            None => unreadable = unreadable.or(Some(number)),
        }
    }
    (entries, unreadable)
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let (holder, hash) = (words.next()?.parse().ok()?, words.next()?.strip_prefix(HASH)?);
    let hash = hex::decode(hash).ok()?.try_into().ok()?;
    let role = match words.next() {
        None => OperatorRole::Operator,
        Some(word) => OperatorRole::ALL.into_iter().find(|role| role.name() == word)?,
    };
    words.next().is_none().then_some(Entry { holder, hash, role })
}

/// The holder of the token with this hash. Every entry is compared in full, so that the time of an answer reveals
/// nothing about any of them.
fn find(entries: &[Entry], presented: &TokenHash) -> Option<(Holder, OperatorRole)> {
    let equal: Vec<Choice> = entries.iter().map(|entry| entry.hash.as_slice().ct_eq(presented.as_slice())).collect();
    let found = entries.iter().zip(equal).find(|(_, equal)| equal.unwrap_u8() == 1);
    found.map(|(entry, _)| (entry.holder.clone(), entry.role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SeededEntropy;

    const OPERATOR: OperatorRole = OperatorRole::Operator;

    fn hash(token: &str) -> TokenHash {
        Sha256::digest(token).into()
    }

    #[test]
    fn a_line_without_a_role_is_one_of_an_operator_and_the_other_roles_are_named() {
        let (holder, entropy) = ("alice".parse().unwrap(), SeededEntropy::new(3));
        let role_of = |line: &str| entry(line).map(|entry| entry.role);
        let operator = new_token(&holder, OPERATOR, &entropy).line;
        let viewer = new_token(&holder, OperatorRole::Viewer, &entropy).line;
        assert_eq!(operator.split(' ').count(), 2, "earlier releases read it: {operator}");
        assert_eq!((role_of(&operator), role_of(&viewer)), (Some(OPERATOR), Some(OperatorRole::Viewer)));
        let approver = new_token(&holder, OperatorRole::Approver, &entropy).line;
        assert!(approver.ends_with(" approver") && role_of(&approver) == Some(OperatorRole::Approver), "{approver}");
        assert_eq!(role_of(&format!("{operator} operator")), Some(OPERATOR));
        assert_eq!(role_of(&format!("{operator} Viewer")), None, "a role that is misspelt makes no operator");
    }

    #[test]
    fn a_line_names_the_holder_and_does_not_reveal_the_token() {
        let (holder, entropy) = ("alice@example.org".parse().unwrap(), SeededEntropy::new(3));
        let (old, new) = (new_token(&holder, OPERATOR, &entropy), new_token(&holder, OPERATOR, &entropy));
        assert_ne!(old.token, new.token);
        assert!(!new.line.contains(new.token.strip_prefix(TOKEN).unwrap()));
        let text = format!("# operators\n\n{}\n  {}  \nbob sha256:12\n", old.line, new.line);
        let (entries, unreadable) = read(&text);
        assert_eq!(unreadable, Some(5));
        for token in [&old.token, &new.token] {
            assert_eq!(find(&entries, &hash(token)), Some((holder.clone(), OPERATOR)));
        }
        for wrong in ["", "x", &old.token[1..], &old.line, TOKEN] {
            assert_eq!(find(&entries, &hash(wrong)), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_file_that_another_user_could_write_makes_no_operator_and_strangers_learn_nothing_of_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("operators");
        let made = new_token(&"alice".parse().unwrap(), OPERATOR, &SeededEntropy::new(3));
        std::fs::write(&path, format!("{}\n", made.line)).unwrap();
        let headers =
            HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {}", made.token).parse().unwrap())]);
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap());
        let (holder, role) = OperatorTokens::at(path.clone(), None).holder(&headers).await.unwrap();
        assert_eq!((Ok(holder), role), ("alice".parse(), OPERATOR));
        let others = User { uid: owner, groups: Vec::new() };
        let told = format!("{:?}", OperatorTokens::at(path.clone(), Some(others)).holder(&headers).await.unwrap_err());
        assert!(told.contains("it is not known whether") && !told.contains(path.to_str().unwrap()), "{told}");
    }

    #[test]
    fn a_line_of_another_form_is_no_entry() {
        let good = new_token(&"a".parse().unwrap(), OPERATOR, &SeededEntropy::new(3)).line;
        assert!(entry(&good).is_some());
        for bad in
            ["a", "a sha256:", "sha256:00", &good[..good.len() - 1], &format!("{good} b"), &good.replace(':', "=")]
        {
            assert!(entry(bad).is_none(), "{bad}");
        }
        for name in ["", "a b", "a/b", &"x".repeat(65)] {
            assert!(name.parse::<Holder>().is_err(), "{name}");
        }
    }
}
