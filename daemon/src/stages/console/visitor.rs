//! The person who is logged in, from the cookie of a request. Each request looks for the token of the session in the
//! token file, so a removed line ends the session, and a changed role counts at once.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::context::Context;
use super::cookies;
use super::denied::Denied;
use crate::stages::ports::{OperatorRole, TokenError};

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
}

impl FromRequestParts<Context> for Visitor {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Denied> {
        let is_live = parts.headers.contains_key(LIVE);
        let nobody = Denied::NotLoggedIn { is_live };
        let Some(id) = cookies::get(&parts.headers, cookies::SESSION).map(str::to_owned) else { return Err(nobody) };
        let Some(session) = context.sessions.find(&id, !is_live) else { return Err(nobody) };
        match context.holders.holder(&session.token).await {
            Ok(holder) => {
                Ok(Self { name: holder.name, actor: holder.actor, role: holder.role, csrf: session.csrf, session: id })
            }
            Err(TokenError::Unknown) => {
                context.sessions.end(&id);
                Err(nobody)
            }
            Err(TokenError::Unusable) => Err(Denied::Unusable),
        }
    }
}
