//! Which Gerrit process asks: the newest one alone is answered.

use std::collections::VecDeque;

use lockstep_proto::bridge::ApiError;

use super::superseded;

/// How many sessions that were superseded are remembered.
const PAST: usize = 64;

/// The sessions of one life of the node.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    now: Option<String>,
    past: VecDeque<String>,
}

impl Sessions {
    /// A session asks. Answers whether it is new, and supersedes the one before it.
    ///
    /// # Errors
    /// It was superseded itself.
    pub(super) fn enter(&mut self, session: &str) -> Result<bool, ApiError> {
        if self.now.as_deref() == Some(session) {
            return Ok(false);
        }
        if self.past.iter().any(|past| past == session) {
            return Err(superseded());
        }
        self.past.extend(self.now.replace(session.to_owned()));
        if self.past.len() > PAST {
            self.past.pop_front();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_session_alone_goes_on() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.enter("a"), Ok(true));
        assert_eq!(sessions.enter("a"), Ok(false));
        assert_eq!(sessions.enter("b"), Ok(true));
        assert_eq!(sessions.enter("a"), Err(superseded()));
        assert_eq!(sessions.enter("b"), Ok(false), "a late word of an old process changes nothing");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sessions = Sessions::default();
        for number in 0..3 * PAST {
            assert_eq!(sessions.enter(&number.to_string()), Ok(true));
        }
        assert_eq!(sessions.past.len(), PAST);
    }
}
