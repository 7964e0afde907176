//! A page as an answer. The templates of the pages are in `daemon/templates/console`, and escape all that is put in.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The answer with a page.
pub(super) fn html<T: Template>(page: &T) -> Response {
    match page.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the console cannot be made");
            (StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be made; the log says why\n").into_response()
        }
    }
}
