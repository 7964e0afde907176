//! Port: from the API's listener for operators to the console, for its pages; and back, for the holders of tokens.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;

/// The SHA-256 of an operator's token.
pub type TokenHash = [u8; 32];

/// The calls that the holder of a token may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperatorRole {
    /// Those that show the state and change nothing.
    Viewer,
    /// Those of a viewer, and the one that resumes a failover which is paused for an approval.
    Approver,
    /// Every call of the API.
    Operator,
}

impl OperatorRole {
    /// All roles, each with more calls than the one before.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Approver, Self::Operator];

    /// The name of the role, as the token file and the console write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Approver => "approver",
            Self::Operator => "operator",
        }
    }
}

/// The holder of a token that the token file lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// The name of the holder.
    pub name: String,
    /// The identity in the audit trail: the same as if the holder had used the command line.
    pub actor: String,
    /// The calls that the holder may make.
    pub role: OperatorRole,
}

/// Why the holder of a token is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token file does not list the token. It may have been replaced.
    #[error("the token is not in operators.token_file; it may have been replaced")]
    Unknown,
    /// The token file cannot be used now. The log says why.
    #[error("operators.token_file cannot be used now; the log of this sidecar says why")]
    Unusable,
}

/// The token file of operators.
#[async_trait]
pub trait TokenHolders: Send + Sync {
    /// The holder of the token with this hash, as the file says now.
    async fn holder(&self, hash: &TokenHash) -> Result<TokenHolder, TokenError>;
}

/// The console of a node.
pub trait Console: Send + Sync {
    /// The router of everything below `/console`. It asks its callers for a token by itself.
    fn router(&self, holders: Arc<dyn TokenHolders>) -> Router;
}
