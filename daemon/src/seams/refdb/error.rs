//! Why a call on the refdb failed.

/// Why a call on the refdb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefDbError {
    /// The call may have taken effect, or may still do so: a timeout, a lost connection, a server error.
    #[error("the refdb did not answer ({0}); the outcome is not known yet")]
    Unknown(String),
    /// The call had no effect: it was throttled, or the connection was refused. Try again later.
    #[error("the refdb cannot take the call now ({0}); nothing was changed, try again")]
    NotNow(String),
    /// The call had no effect, and a retry does not help: permissions, configuration, a malformed item.
    #[error("the refdb refuses the call ({0}); a retry does not help")]
    Broken(String),
}

impl RefDbError {
    /// Whether the call may have taken effect.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Whether a retry may succeed.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }
}
