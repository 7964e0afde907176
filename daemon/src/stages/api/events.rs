//! Stream events: a bridge hands in those of its Gerrit, and takes those of the others.
//!
//! Who waits for events is no work: a bridge waits nearly all the time, and must not keep a push out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lockstep_proto::announcement::{AnnounceRequest, Done, EventsDoneRequest, NextEventsRequest, NextEventsResponse};
use lockstep_proto::bridge::ApiError;
use lockstep_proto::limits;

use super::admission::{Wait, Work};
use super::check;
use super::error::Failure;
use super::extract::Body;
use super::routes::{Answer, Api};
use crate::stages::ports::StreamEvents;

/// Hands in stream events of this node's Gerrit; the answer says that they are durable here.
#[utoipa::path(post, path = "/v1/events", tag = "bridge",
    request_body = AnnounceRequest,
    responses((status = 200, description = "They are durable here, and will be heard at every other node", body = Done),
        (status = 400, description = "Malformed, or of a project that this node has never heard of; nothing was taken", body = ApiError),
        (status = 503, description = "This sidecar takes no events now, too many of them wait for the event log, or it works on too many requests: send the same again", body = ApiError)))]
pub(super) async fn announce(
    State(api): State<Api>,
    permit: Work,
    Body(request): Body<AnnounceRequest>,
) -> Answer<Done> {
    check_events(&request)?;
    let events = events(&api)?;
    match api.outlive(permit, api.deadline, async move { events.announce(request).await }).await {
        Some(answer) => answer?,
        None => return Err(Failure::unavailable("no answer in time; the events may be taken: send the same again")),
    }
    Ok(Json(Done {}))
}

/// Gives stream events of other nodes, as soon as what they speak of can be read here.
#[utoipa::path(post, path = "/v1/events/next", tag = "bridge",
    request_body = NextEventsRequest,
    responses((status = 200, description = "Events, in the order in which listeners shall hear them; none when the wait has ended", body = NextEventsResponse),
        (status = 400, description = "Malformed, or another session took the place of this one", body = ApiError),
        (status = 503, description = "The node's store cannot be read, or too many wait at the same time", body = ApiError)))]
pub(super) async fn next(
    State(api): State<Api>,
    _permit: Wait,
    Body(request): Body<NextEventsRequest>,
) -> Answer<NextEventsResponse> {
    check::poll(&request.session, request.most as u64, request.wait_ms)?;
    Ok(Json(events(&api)?.next(request).await?))
}

/// Confirms stream events: they were heard, and are not given again.
#[utoipa::path(post, path = "/v1/events/done", tag = "bridge",
    request_body = EventsDoneRequest,
    responses((status = 200, description = "They are not given again", body = Done),
        (status = 400, description = "Malformed, or another session took the place of this one", body = ApiError),
        (status = 503, description = "This sidecar works on too many requests: send the same again", body = ApiError)))]
pub(super) async fn done(State(api): State<Api>, permit: Work, Body(request): Body<EventsDoneRequest>) -> Answer<Done> {
    check::session(&request.session)?;
    if request.done.len() > limits::POLLED {
        let (is, most) = (request.done.len(), limits::POLLED);
        return Err(Failure::malformed(format!("field done has {is} entries; send at most {most} at once")));
    }
    let events = events(&api)?;
    match api.outlive(permit, api.deadline, async move { events.done(request).await }).await {
        Some(answer) => answer?,
        None => return Err(Failure::unavailable("no answer in time; they may be confirmed: send the same again")),
    }
    Ok(Json(Done {}))
}

fn check_events(request: &AnnounceRequest) -> Result<(), Failure> {
    let (count, most) = (request.events.len(), limits::EVENTS);
    if count == 0 || count > most {
        let message = format!("field events has {count} entries; send 1 to {most} at once, more in several requests");
        return Err(Failure::malformed(message));
    }
    let mut events = request.events.iter().enumerate();
    let broken = events.find_map(|(at, event)| event.check().err().map(|why| (at, why)));
    broken.map_or(Ok(()), |(at, why)| Err(Failure::malformed(format!("field events[{at}].{why}"))))
}

fn events(api: &Api) -> Result<Arc<dyn StreamEvents>, Failure> {
    let events = api.events.clone();
    events.ok_or_else(|| {
        Failure::malformed(
            "this sidecar forwards no stream events: its setting gerrit.refresh is not \"bridge\"; set it, and start the \
             sidecar anew (a retry does not help before)",
        )
    })
}
