//! Sessions in the memory of this node. A restart ends all of them.
//!
//! A session has the hash of the token that began it, and never the token; or it has the person whom the provider of
//! logins told. It ends half an hour after the last request of a person, and twelve hours after its begin. The live
//! parts of an open page keep no session alive.
//!
//! At most [`OF_ONE`] sessions per login, a token or a person, exist, and [`MOST`] in all. A further one ends the
//! session that was not used for the longest time among those of the same login. Beyond the bound of all, one of the
//! login with the most sessions ends. So nobody ends the sessions of others by many logins.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::stages::ports::{TokenHash, TokenHolder};

/// The most sessions of one login at the same time.
const OF_ONE: usize = 8;
/// The most sessions at the same time.
const MOST: usize = 256;
/// How long a session lasts without a request of a person.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long a session lasts at most.
pub(super) const LONGEST: Duration = Duration::from_secs(12 * 3_600);

/// The way by which a session began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// A token, by its hash. Each request looks for its holder.
    Token(TokenHash),
    /// A person whom the provider of logins told, with the role of the groups at that time.
    Person(TokenHolder),
}

impl From<TokenHash> for Login {
    fn from(hash: TokenHash) -> Self {
        Self::Token(hash)
    }
}

impl From<TokenHolder> for Login {
    fn from(holder: TokenHolder) -> Self {
        Self::Person(holder)
    }
}

impl Login {
    /// The token or the person, for the bound on sessions.
    fn key(&self) -> [u8; 32] {
        match self {
            Self::Token(hash) => *hash,
            Self::Person(holder) => key(&holder.actor),
        }
    }
}

/// A session that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The token or the person that began it.
    pub(super) login: Login,
    /// The text that each form of the session carries.
    pub(super) csrf: String,
    began: Instant,
    used: Instant,
}

impl Session {
    fn has_ended(&self) -> bool {
        self.used.elapsed() >= IDLE || self.began.elapsed() >= LONGEST
    }
}

/// All sessions, by the hash of their id: the time of a search reveals nothing about an id.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<[u8; 32], Session>>);

impl Sessions {
    /// Begins a session. `id` and `csrf` are random.
    pub(super) fn begin(&self, id: &str, login: impl Into<Login>, csrf: String) {
        let login = login.into();
        let mut all = self.0.lock();
        all.retain(|_, session| !session.has_ended());
        if let Some(crowded) = crowded(&all, &login.key()) {
            let of_login = all.iter().filter(|(_, session)| session.login.key() == crowded);
            let oldest = of_login.min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            if let Some(key) = oldest {
                all.remove(&key);
            }
        }
        let now = Instant::now();
        all.insert(key(id), Session { login, csrf, began: now, used: now });
    }

    /// The session with this id. A request of a person keeps it alive.
    pub(super) fn find(&self, id: &str, by_person: bool) -> Option<Session> {
        let mut all = self.0.lock();
        let session = all.get_mut(&key(id)).filter(|session| !session.has_ended())?;
        if by_person {
            session.used = Instant::now();
        }
        Some(session.clone())
    }

    /// Ends the session with this id.
    pub(super) fn end(&self, id: &str) {
        self.0.lock().remove(&key(id));
    }
}

/// The login of which a session has to end before one of `login` begins. None while there is room.
fn crowded(all: &BTreeMap<[u8; 32], Session>, login: &[u8; 32]) -> Option<[u8; 32]> {
    let mut counts: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for session in all.values() {
        *counts.entry(session.login.key()).or_default() += 1;
    }
    if counts.get(login).is_some_and(|count| *count >= OF_ONE) {
        return Some(*login);
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).filter(|_| all.len() >= MOST);
    most.map(|(login, _)| login)
}

fn key(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn begun(id: &str) -> Sessions {
        let sessions = Sessions::default();
        sessions.begin(id, [7_u8; 32], "form".to_owned());
        sessions
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_nobody_uses_it_and_live_parts_do_not_count() {
        let sessions = begun("a");
        assert!(sessions.find("b", true).is_none());
        for _ in 0..3 {
            advance(IDLE - Duration::from_secs(1)).await;
            assert_eq!(sessions.find("a", true).map(|session| session.csrf).as_deref(), Some("form"));
        }
        advance(IDLE - Duration::from_secs(1)).await;
        assert!(sessions.find("a", false).is_some());
        advance(Duration::from_secs(1)).await;
        assert!(sessions.find("a", true).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_after_twelve_hours_whatever_happens_and_when_it_is_told_to() {
        let sessions = begun("a");
        for _ in 0..12 * 4 - 1 {
            advance(Duration::from_secs(900)).await;
            assert!(sessions.find("a", true).is_some());
        }
        advance(Duration::from_secs(900)).await;
        assert!(sessions.find("a", true).is_none());
        let sessions = begun("a");
        sessions.end("a");
        assert!(sessions.find("a", true).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn many_logins_with_one_token_end_sessions_of_that_token_alone() {
        let sessions = begun("other");
        for number in 0..=OF_ONE {
            advance(Duration::from_millis(1)).await;
            sessions.begin(&number.to_string(), [1_u8; 32], String::new());
        }
        assert_eq!(sessions.0.lock().len(), OF_ONE + 1);
        assert!(sessions.find("other", true).is_some() && sessions.find("1", true).is_some());
        assert!(sessions.find("0", true).is_none(), "the one that rested for the longest time gives way");
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_all_sessions_is_bounded_and_the_token_with_the_most_gives_way() {
        let sessions = begun("one");
        let token = |number: usize| -> TokenHash { Sha256::digest(number.to_string()).into() };
        for number in 1..MOST {
            advance(Duration::from_millis(1)).await;
            // The last token has two of them.
            sessions.begin(&number.to_string(), token(number.min(MOST - 2)), String::new());
        }
        assert_eq!(sessions.0.lock().len(), MOST);
        sessions.begin("new", token(0), String::new());
        assert_eq!(sessions.0.lock().len(), MOST);
        assert!(sessions.find("one", true).is_some() && sessions.find("new", true).is_some());
        assert!(sessions.find(&(MOST - 2).to_string(), true).is_none());
    }
}
