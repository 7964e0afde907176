//! Sessions of Gerrit processes: only the newest process is answered.

use std::collections::VecDeque;

use lockstep_proto::bridge::ApiError;

/// Number of superseded sessions that are remembered.
const PAST: usize = 64;

/// The Gerrit sessions that this sidecar has seen since its start.
#[derive(Debug, Default)]
pub struct Sessions {
    now: Option<String>,
    past: VecDeque<String>,
}

impl Sessions {
    /// Records that a session asks for `what`. Returns whether the session is new; a new session supersedes the one
    /// before it.
    ///
    /// # Errors
    /// The session itself was superseded by a newer one.
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

/// The error while the sidecar shuts down. It is not an empty answer, because a client that gets an empty answer asks
/// again at once.
pub fn ending() -> ApiError {
    ApiError::not_serving("this sidecar is shutting down; ask again when it runs")
}

/// The error for a superseded session.
fn superseded(what: &str) -> ApiError {
    ApiError::invalid(format!(
        "another Gerrit process has asked for {what} since then, so this session is superseded; stop this process, or \
         begin a new session (a retry with this session does not help)"
    ))
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
        assert_eq!(sessions.enter("b", "news"), Ok(false), "a late request of an old process changes nothing");
    }

    #[test]
    fn the_number_of_remembered_sessions_is_bounded() {
        let mut sessions = Sessions::default();
        for number in 0..3 * PAST {
            assert_eq!(sessions.enter(&number.to_string(), "news"), Ok(true));
        }
        assert_eq!(sessions.past.len(), PAST);
    }
}
