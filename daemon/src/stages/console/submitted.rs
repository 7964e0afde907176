//! The form of a request that changes something. It is read after all checks but the last one: the visitor is logged
//! in, may change something, and a page of this host asks. The last one is the text that the form carries.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::Form;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use tokio::time::timeout;

use super::context::Context;
use super::csrf;
use super::denied::Denied;
use super::visitor::Visitor;
use crate::stages::ports::OperatorRole;

/// How long a form may take to arrive.
const BODY: Duration = Duration::from_secs(10);
/// The most bytes of a form.
pub(super) const MOST_BYTES: usize = 16 * 1024;
/// The longest reason that a form may give, in bytes. The history cuts longer ones.
const MOST_REASON: usize = 1_000;

/// The fields of a form. A field that is not there is empty.
#[derive(Debug, Default)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The text of a field, without blanks around it.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map(|text| text.trim()).unwrap_or_default()
    }

    /// Whether a box was ticked.
    pub(super) fn is_ticked(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A field as a value of its type.
    pub(super) fn value<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, Denied> {
        let text = self.text(name);
        text.parse().map_err(|error: T::Err| Denied::Malformed(format!("field {name} {text:?}: {error}")))
    }

    /// The same, of a field that may be left empty.
    pub(super) fn optional<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, Denied> {
        if self.text(name).is_empty() { Ok(None) } else { self.value(name).map(Some) }
    }

    /// The reason for the audit trail, which no form may leave out.
    pub(super) fn reason(&self) -> Result<String, Denied> {
        match self.text("reason") {
            "" => Err(Denied::Malformed("field reason is empty: give the reason, for the audit trail".to_owned())),
            long if long.len() > MOST_REASON => {
                Err(Denied::Malformed(format!("field reason has {} bytes: give at most {MOST_REASON}", long.len())))
            }
            reason => Ok(reason.to_owned()),
        }
    }
}

/// The form of a visitor.
pub(super) struct Submitted {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

/// The form of a visitor who may change something.
pub(super) struct Change(pub(super) Submitted);

/// The form of a visitor who may approve the next step of a paused failover, or change something.
pub(super) struct Approval(pub(super) Submitted);

impl FromRequest<Context> for Submitted {
    type Rejection = Denied;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Denied> {
        submitted(request, context, None).await
    }
}

impl FromRequest<Context> for Change {
    type Rejection = Denied;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Denied> {
        submitted(request, context, Some(OperatorRole::Operator)).await.map(Self)
    }
}

impl FromRequest<Context> for Approval {
    type Rejection = Denied;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Denied> {
        submitted(request, context, Some(OperatorRole::Approver)).await.map(Self)
    }
}

/// The form of a visitor. `least` is the role that its change needs, if it changes something outside of the console.
async fn submitted(request: Request, context: &Context, least: Option<OperatorRole>) -> Result<Submitted, Denied> {
    let (parts, body) = request.into_parts();
    let visitor = Visitor::of(&parts, context).await?;
    if let Some(least) = least {
        visitor.must_be(least)?;
        if !context.changes {
            return Err(Denied::ReadOnly);
        }
    }
    let fields = form(Request::from_parts(parts, body)).await?;
    if !csrf::carries(&visitor.csrf, fields.text("csrf")) {
        return Err(Denied::OtherForm);
    }
    Ok(Submitted { visitor: visitor.admitted(context).await?, fields })
}

/// Reads a form that a page of this host sends.
pub(super) async fn form(request: Request) -> Result<Fields, Denied> {
    if !csrf::is_same_origin(request.headers()) {
        return Err(Denied::OtherSite);
    }
    let late = || Denied::Malformed(format!("the form did not arrive within {} seconds", BODY.as_secs()));
    match timeout(BODY, Form::<BTreeMap<String, String>>::from_request(request, &())).await {
        Ok(Ok(Form(fields))) => Ok(Fields(fields)),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Denied::Malformed(format!("the form is larger than {MOST_BYTES} bytes")))
        }
        Ok(Err(rejection)) => Err(Denied::Malformed(rejection.body_text())),
        Err(_) => Err(late()),
    }
}
