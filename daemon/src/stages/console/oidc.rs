//! Logins by OpenID Connect, beside those with a token: the way to the provider, and the way back.
//!
//! The browser keeps a secret in a cookie of its own. State, nonce and verifier of the login follow from it, so nothing
//! is kept here in between. The cookie is `SameSite=Lax`, because the provider sends the browser back from another
//! site. The page after it leads to the console from this site, so that the cookie of the session is sent.
//!
//! A login takes no permit while it asks the provider: strangers, who can begin logins and invent codes, would hold all
//! of them. The places of connections bound logins in progress, for each address and in all.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::context::Context;
use super::denied::Denied;
use super::login::{self, FORM};
use super::render::html;
use super::{cookies, csrf};
use crate::seams::oidc::{Attempt, Identity, OidcError};
use crate::stages::ports::TokenHolder;

/// The query with which the provider sends the browser back. A part that is not there is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Back {
    code: String,
    state: String,
    error: String,
    error_description: String,
}

#[derive(askama::Template)]
#[template(path = "console/logged_in.html")]
struct LoggedInPage {
    name: String,
    role: &'static str,
}

/// The reason why nobody is logged in. A visitor may be a stranger, so the files of this node are for the log alone.
fn nobody(error: &OidcError) -> String {
    let why = match error {
        OidcError::File(..) => "a file of console.oidc cannot be used; the log of this sidecar says why".to_owned(),
        error => error.to_string(),
    };
    format!("Nobody is logged in: {why}.")
}

/// Sends the browser to the provider.
pub(super) async fn begin(State(context): State<Context>) -> Result<Response, Denied> {
    let oidc = context.oidc.as_deref().ok_or(Denied::NoPage)?;
    let secret = context.secret();
    match oidc.provider.begin(&Attempt::of(&secret)).await {
        Ok(address) => {
            let cookie = cookies::set_lax(cookies::OIDC, &secret, FORM);
            Ok((AppendHeaders([cookie]), Redirect::to(&address)).into_response())
        }
        Err(error) => {
            tracing::warn!(%error, "a login by OpenID Connect cannot begin");
            Ok(login::page(&context, StatusCode::BAD_GATEWAY, nobody(&error)))
        }
    }
}

/// Takes the browser back from the provider, and begins a session.
pub(super) async fn end(
    State(context): State<Context>,
    Query(back): Query<Back>,
    headers: HeaderMap,
) -> Result<Response, Denied> {
    let oidc = context.oidc.as_deref().ok_or(Denied::NoPage)?;
    let refuse = |status, why: String| {
        let none = cookies::set_lax(cookies::OIDC, "", Duration::ZERO);
        Ok((AppendHeaders([none]), login::page(&context, status, why)).into_response())
    };
    let attempt = cookies::get(&headers, cookies::OIDC).filter(|secret| !secret.is_empty()).map(Attempt::of);
    let Some(attempt) = attempt.filter(|attempt| csrf::carries(&attempt.state, &back.state)) else {
        let why = "This login was not begun in this browser, took too long, or cookies are off. Log in again.";
        return refuse(StatusCode::FORBIDDEN, why.to_owned());
    };
    if !back.error.is_empty() {
        let why = format!("The provider refused the login: {} {}", back.error, back.error_description);
        return refuse(StatusCode::FORBIDDEN, why);
    }
    let Identity { name, groups } = match oidc.provider.finish(&attempt, &back.code).await {
        Ok(identity) => identity,
        Err(error) => {
            tracing::warn!(%error, "a login by OpenID Connect was refused");
            return refuse(StatusCode::UNAUTHORIZED, nobody(&error));
        }
    };
    let Some(role) = oidc.role(&groups) else {
        let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(", ") };
        let why = format!(
            "{name} has no role here: console.oidc of this node gives one to none of the groups that the provider \
             tells ({groups}). Ask an operator to list one, or the provider's administrator to add you to a group."
        );
        tracing::warn!(name, groups, "a person without a role was turned away");
        return refuse(StatusCode::FORBIDDEN, why);
    };
    let actor = format!("oidc {name}");
    let holder = TokenHolder { actor: actor.clone(), name: name.clone(), role };
    let session = login::session(&context, &headers, holder.into(), &actor, role);
    let none = cookies::set_lax(cookies::OIDC, "", Duration::ZERO);
    Ok((AppendHeaders([session, none]), html(&LoggedInPage { name, role: role.name() })).into_response())
}
