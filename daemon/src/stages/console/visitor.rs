//! The person who is logged in, from the cookie of a request. Each request looks for the token of the session in the
//! token file, so a removed line ends the session, and a changed role counts at once.
//!
//! A visitor takes a permit, and holds it until the answer is made. The page of the login and the assets need none: no
//! stranger can take the permits of visitors.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::context::Context;
use super::cookies;
use super::denied::Denied;
use super::sessions::Login;
use crate::stages::ports::{OperatorRole, TokenError, TokenHolder};

/// The header that the script adds to its own requests.
const LIVE: &str = "hx-request";

/// A person who is logged in.
pub(super) struct Visitor {
    /// The name of the token's holder.
    pub(super) name: String,
    /// The identity in the audit trail.
    pub(super) actor: String,
    /// The calls that the holder may make.
    pub(super) role: OperatorRole,
    /// The text that each form of the session carries.
    pub(super) csrf: String,
    /// The id of the session.
    pub(super) session: String,
    /// The permit of the request. None before its form has arrived.
    _permit: Option<OwnedSemaphorePermit>,
}

impl FromRequestParts<Context> for Visitor {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Denied> {
        Self::of(parts, context).await?.admitted(context).await
    }
}

impl Visitor {
    /// Refuses a visitor with a lower role.
    pub(super) fn must_be(&self, least: OperatorRole) -> Result<(), Denied> {
        match self.role {
            role if role >= least => Ok(()),
            OperatorRole::Approver => Err(Denied::Approver),
            _ => Err(Denied::Viewer),
        }
    }

    /// The visitor with a permit. One waits for a moment while too many requests are in progress.
    pub(super) async fn admitted(self, context: &Context) -> Result<Self, Denied> {
        Ok(Self { _permit: Some(context.permit().await?), ..self })
    }

    /// The visitor of a request, without a permit.
    pub(super) async fn of(parts: &Parts, context: &Context) -> Result<Self, Denied> {
        let is_live = parts.headers.contains_key(LIVE);
        let nobody = Denied::NotLoggedIn { is_live };
        let Some(id) = cookies::get(&parts.headers, cookies::SESSION).map(str::to_owned) else { return Err(nobody) };
        let Some(session) = context.sessions.find(&id, !is_live) else { return Err(nobody) };
        let found = match &session.login {
            Login::Token(hash) => context.holders.holder(hash).await,
            Login::Person(holder) => Ok(holder.clone()),
        };
        match found {
            Ok(TokenHolder { name, actor, role }) => {
                Ok(Self { name, actor, role, csrf: session.csrf, session: id, _permit: None })
            }
            Err(TokenError::Unknown) => {
                context.sessions.end(&id);
                Err(nobody)
            }
            Err(TokenError::Unusable) => Err(Denied::Unusable),
        }
    }
}
