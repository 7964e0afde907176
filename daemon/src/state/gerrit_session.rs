//! Which Gerrit process asks: the newest one alone is answered.

use std::collections::VecDeque;

use lockstep_proto::bridge::{ApiError, RefusalCode};

/// How many sessions that were superseded are remembered.
const PAST: usize = 64;

/// The sessions of one life of the node.
#[derive(Debug, Default)]
pub struct Sessions {
    now: Option<String>,
    past: VecDeque<String>,
}

impl Sessions {
    /// A session asks for `what`. Answers whether it is new, and supersedes the one before it.
    ///
    /// # Errors
    /// It was superseded itself.
    pub fn enter(&mut self, session: &str, what: &str) -> Result<bool, ApiError> {
        if self.now.as_deref() == Some(session) {
            return Ok(false);
        }
        if self.past.iter().any(|past| past == session) {
            return Err(superseded(what));
        }
        self.past.extend(self.now.replace(session.to_owned()));
        if self.past.len() > PAST {
            self.past.pop_front();
        }
        Ok(true)
    }
}

/// Nothing will come any more in this life of the node. No empty answer: whoever heard one at once would ask again at once.
pub fn ending() -> ApiError {
    let message = "this sidecar is ending; ask again when it runs".to_owned();
    ApiError { code: RefusalCode::NotServing, message, retry: true }
}

/// Why a session may not go on.
fn superseded(what: &str) -> ApiError {
    let message = format!(
        "another Gerrit process has asked for {what} since: this session is superseded; end this process, or begin a new \
         session (a retry with this one does not help)"
    );
    ApiError { code: RefusalCode::Invalid, message, retry: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_session_alone_goes_on() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.enter("a", "news"), Ok(true));
        assert_eq!(sessions.enter("a", "news"), Ok(false));
        assert_eq!(sessions.enter("b", "news"), Ok(true));
        assert_eq!(sessions.enter("a", "news"), Err(superseded("news")));
        assert_eq!(sessions.enter("b", "news"), Ok(false), "a late word of an old process changes nothing");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sessions = Sessions::default();
        for number in 0..3 * PAST {
            assert_eq!(sessions.enter(&number.to_string(), "news"), Ok(true));
        }
        assert_eq!(sessions.past.len(), PAST);
    }
}
