//! The page after a change: it is done, it was refused, or its outcome is unknown.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lockstep_proto::bridge::{ApiError, RefusalCode};

use super::frame::Frame;
use super::render::html;

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The change is made.
    Done(String),
    /// Nothing was changed by it.
    Refused(String),
    /// Nobody knows yet whether it is made.
    Unknown(String),
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        match error.code {
            RefusalCode::Unavailable => Self::Unknown(error.message),
            _ => Self::Refused(error.message),
        }
    }
}

#[derive(askama::Template)]
#[template(path = "console/outcome.html")]
struct OutcomePage {
    frame: Frame,
    word: &'static str,
    answer: &'static str,
    message: String,
    back: String,
}

/// The page about a change, with the way back.
pub(super) fn page(frame: Frame, ended: Ended, back: &str) -> Response {
    let (status, word, answer, message) = match ended {
        Ended::Done(message) => (StatusCode::OK, "done", "It is done.", message),
        Ended::Refused(message) => (StatusCode::CONFLICT, "refused", "It was refused. Nothing was changed.", message),
        Ended::Unknown(message) => {
            let answer = "It is not known whether it was done. Look at the state before you try again.";
            (StatusCode::SERVICE_UNAVAILABLE, "unknown", answer, message)
        }
    };
    (status, html(&OutcomePage { frame, word, answer, message, back: back.to_owned() })).into_response()
}
