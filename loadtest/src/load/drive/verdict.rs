//! The answer to one request.

/// The answer, as its client understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Committed, by this transaction if the answer names it.
    Committed(Option<String>),
    /// Not committed, and never will be.
    Refused {
        /// The code of the reason.
        code: String,
        /// Whether a new request on top of the present values may succeed.
        again: bool,
    },
    /// No answer that decides it, with the reason.
    Unknown(String),
}
