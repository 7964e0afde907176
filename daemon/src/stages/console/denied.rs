//! The answers to requests that are not taken. Nothing was changed by any of them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::render::html;

/// The page on which a visitor logs in.
pub(super) const LOGIN_PAGE: &str = "/console/login";

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is no session, or it has ended.
    NotLoggedIn {
        /// Whether the script asks, for the live part of a page that is open.
        is_live: bool,
    },
    /// The token file cannot be used.
    Unusable,
    /// The visitor is a viewer, and asks for a change.
    Viewer,
    /// The visitor is an approver, and asks for a change that is no approval.
    Approver,
    /// The console only shows.
    ReadOnly,
    /// The form was not sent by a page of this host.
    OtherSite,
    /// The form is not one of this session.
    OtherForm,
    /// The form cannot be read.
    Malformed(String),
    /// Too many requests are in progress.
    Busy,
    /// There is no such page.
    NoPage,
}

/// The page that says why a request was not taken.
#[derive(askama::Template)]
#[template(path = "console/denied.html")]
struct DeniedPage {
    heading: &'static str,
    message: String,
}

impl Denied {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotLoggedIn { .. } => StatusCode::UNAUTHORIZED,
            Self::Unusable | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Viewer | Self::Approver | Self::ReadOnly | Self::OtherSite | Self::OtherForm => StatusCode::FORBIDDEN,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::NoPage => StatusCode::NOT_FOUND,
        }
    }

    fn heading(&self) -> &'static str {
        match self {
            Self::NotLoggedIn { .. } => "You are not logged in",
            Self::Unusable | Self::Busy => "This node cannot answer now",
            Self::Viewer | Self::ReadOnly => "You may look, and change nothing",
            Self::Approver => "You may look and approve, and change nothing else",
            Self::OtherSite | Self::OtherForm => "This form was not taken",
            Self::Malformed(_) => "This form is not complete",
            Self::NoPage => "There is no such page",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NotLoggedIn { .. } => "Log in with the token of an operator.",
            Self::Unusable => {
                "It is not known whether your token is valid, because operators.token_file cannot be used now. The log \
                 of this sidecar says why. Nothing was changed. Try again."
            }
            Self::Viewer => {
                "Your token has the role viewer. A change needs the role operator. Nothing was changed. Log in with \
                 another token."
            }
            Self::Approver => {
                "Your token has the role approver. It resumes a failover that is paused for an approval. Any other \
                 change needs the role operator. Nothing was changed. Log in with another token."
            }
            Self::ReadOnly => {
                "This console only shows: the setting console.changes of this node is false. Nothing was changed. Use \
                 the command line, or set it to true and restart the sidecar."
            }
            Self::OtherSite => {
                "Your browser says that another site has sent it. Nothing was changed. Open the page of this console, \
                 and send the form from there."
            }
            Self::OtherForm => {
                "It is of an earlier session. Nothing was changed. Go back, load the page again, and repeat your entry."
            }
            Self::Malformed(why) => return format!("{why}. Nothing was changed. Go back and correct it."),
            Self::Busy => "Too many requests are in progress. Nothing was changed. Try again in a second.",
            Self::NoPage => "The console has no page with this address.",
        }
        .to_owned()
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::NotLoggedIn { is_live: false } => return Redirect::to(LOGIN_PAGE).into_response(),
            // The script goes to the page of the login.
            Self::NotLoggedIn { is_live: true } => {
                return (self.status(), [("hx-redirect", LOGIN_PAGE)]).into_response();
            }
            _ => {}
        }
        let page = DeniedPage { heading: self.heading(), message: self.message() };
        let response = (self.status(), html(&page)).into_response();
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            return ([(header::RETRY_AFTER, "1")], response).into_response();
        }
        response
    }
}
