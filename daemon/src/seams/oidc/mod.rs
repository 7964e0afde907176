//! Logins by OpenID Connect: the authorization code flow with PKCE, at one provider.
//!
//! A browser goes to the provider with a state, a nonce and a challenge, and comes back with a code. This process
//! exchanges the code for an ID token, over TLS, and checks the token: its signature by a key of the provider, its
//! algorithm, issuer, audience, expiry and nonce. Nothing is kept between the two: all three values follow from one
//! secret, which the browser keeps in a cookie.
//!
//! | file | content |
//! |---|---|
//! | `provider` | the provider over HTTP: its discovery document, its keys, the exchange |
//! | `token` | the check of an ID token: a pure function |
//! | `fake` | tests: a provider in this process |

#[cfg(test)]
pub(crate) mod fake;
mod provider;
#[cfg(test)]
mod tests;
mod token;

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use sha2::{Digest, Sha256};

pub use provider::Provider;
pub use token::TokenRefused;

/// The provider, and this program as its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// The issuer, exactly as the provider's discovery document has it: `https://login.example.org`.
    pub issuer: String,
    /// The id of the client.
    pub client_id: String,
    /// The file with the secret of the client. It is read on each use. None for a client without one.
    pub client_secret_file: Option<PathBuf>,
    /// The file with the authorities that are trusted for the provider, as PEM. None: those of the machine.
    pub trust_file: Option<PathBuf>,
    /// The address to which the provider sends the browser back.
    pub redirect_url: String,
    /// The scopes that are asked for, with blanks between them.
    pub scopes: String,
    /// The claim with the name of the person.
    pub name_claim: String,
    /// The claim with the groups of the person.
    pub groups_claim: String,
}

/// A person, as the provider tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name, for the audit trail.
    pub name: String,
    /// The groups, as the provider names them.
    pub groups: Vec<String>,
}

/// One login: the values that bind its parts together.
pub struct Attempt {
    /// Comes back with the code, so that the code is for this browser.
    pub state: String,
    nonce: String,
    verifier: String,
}

impl Attempt {
    /// The login of the browser that keeps this secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let part = |name: &str| hex::encode(Sha256::digest(format!("{name} {secret}")));
        Self { state: part("state"), nonce: part("nonce"), verifier: part("verifier") }
    }

    /// The hash of the verifier, which reveals nothing about it.
    fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier))
    }
}

/// Why a login has no outcome, or was refused. Nobody is logged in by it.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The file that a setting names cannot be used.
    #[error("console.oidc.{0} {path}: {2}", path = .1.display())]
    File(&'static str, PathBuf, String),
    /// The provider gave no answer to this question. A retry may help.
    #[error("the provider did not answer when it was asked for {0}: {1}; try again")]
    NoAnswer(&'static str, String),
    /// The provider's answer cannot be used. A retry does not help.
    #[error("the provider's {0} cannot be used: {1}; an operator has to mend console.oidc, or the provider")]
    Unusable(&'static str, String),
    /// The provider has refused the code, with these words of its own.
    #[error("the provider refused the login: {0}; log in again")]
    Refused(String),
    /// The ID token was refused.
    #[error(transparent)]
    Token(#[from] TokenRefused),
}

impl OidcError {
    fn file(setting: &'static str, path: &Path, why: &dyn std::fmt::Display) -> Self {
        Self::File(setting, path.to_owned(), why.to_string())
    }
}
