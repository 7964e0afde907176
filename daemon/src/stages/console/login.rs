//! The pages that begin and end a session.
//!
//! The login form has no session yet, so it carries a random text that a cookie of its own has, too: another site
//! cannot log a visitor in under a name of its choice.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use sha2::{Digest, Sha256};

use super::context::Context;
use super::denied::{Denied, LOGIN_PAGE};
use super::render::html;
use super::sessions::{LONGEST, Login};
use super::submitted::{Submitted, form};
use super::{cookies, csrf};
use crate::stages::ports::{OperatorRole, TokenError, TokenHash};

/// How long the login form can be sent after it was loaded.
pub(super) const FORM: Duration = Duration::from_secs(3_600);

#[derive(askama::Template)]
#[template(path = "console/login.html")]
struct LoginPage {
    node: String,
    csrf: String,
    problem: String,
    has_oidc: bool,
}

/// Shows the form for a token.
pub(super) async fn show(State(context): State<Context>) -> Response {
    page(&context, StatusCode::OK, String::new())
}

/// The page with the form, and with the reason why nobody was logged in.
pub(super) fn page(context: &Context, status: StatusCode, problem: String) -> Response {
    let csrf = context.secret();
    let cookie = cookies::set(cookies::LOGIN, &csrf, FORM);
    let (node, has_oidc) = (context.inspection.introduction().node.to_string(), context.oidc.is_some());
    let page = LoginPage { node, csrf, problem, has_oidc };
    (status, AppendHeaders([cookie]), html(&page)).into_response()
}

/// Begins a session, and ends the one that the browser had before. Answers the header with its cookie.
pub(super) fn session(
    context: &Context,
    headers: &HeaderMap,
    login: Login,
    actor: &str,
    role: OperatorRole,
) -> (HeaderName, String) {
    tracing::info!(actor, role = role.name(), "a session of the console begins");
    if let Some(earlier) = cookies::get(headers, cookies::SESSION) {
        context.sessions.end(earlier);
    }
    let id = context.secret();
    context.sessions.begin(&id, login, context.secret());
    cookies::set(cookies::SESSION, &id, LONGEST)
}

/// Begins a session, if the token is known. It ends the one that the browser had before.
pub(super) async fn begin(State(context): State<Context>, request: Request) -> Result<Response, Denied> {
    let headers = request.headers().clone();
    let fields = form(request).await?;
    let given = cookies::get(&headers, cookies::LOGIN).unwrap_or_default();
    if !csrf::carries(given, fields.text("csrf")) {
        let problem = "The form was too old, or cookies are off. Log in again.".to_owned();
        return Ok(page(&context, StatusCode::FORBIDDEN, problem));
    }
    let hash: TokenHash = Sha256::digest(fields.text("token")).into();
    match context.holders.holder(&hash).await {
        Ok(holder) => {
            let session = session(&context, &headers, hash.into(), &holder.actor, holder.role);
            let none = cookies::set(cookies::LOGIN, "", Duration::ZERO);
            Ok((AppendHeaders([session, none]), Redirect::to("/console")).into_response())
        }
        Err(TokenError::Unknown) => {
            let problem = "This token is not in operators.token_file of this node. It may have been replaced.";
            Ok(page(&context, StatusCode::UNAUTHORIZED, problem.to_owned()))
        }
        Err(TokenError::Unusable) => Err(Denied::Unusable),
    }
}

/// Ends the session of the visitor.
pub(super) async fn end(State(context): State<Context>, submitted: Submitted) -> Response {
    context.sessions.end(&submitted.visitor.session);
    let none = cookies::set(cookies::SESSION, "", Duration::ZERO);
    (AppendHeaders([none]), Redirect::to(LOGIN_PAGE)).into_response()
}
