//! Stream events: a bridge hands in the events of its own Gerrit, and takes the events of the other nodes.
//!
//! A call that waits for events does not count as work: a bridge waits nearly all the time, and must keep out no push.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lockstep_proto::announcement::{AnnounceRequest, Done, EventsDoneRequest, NextEventsRequest, NextEventsResponse};
use lockstep_proto::bridge::ApiError;
use lockstep_proto::limits;

use super::admission::{Wait, Work};
use super::check;
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::Body;
use crate::stages::ports::StreamEvents;

/// Takes stream events of this node's Gerrit, for delivery at the other nodes. Answers once they are durable here.
#[utoipa::path(post, path = "/v1/events", tag = "bridge",
    request_body = AnnounceRequest,
    responses((status = 200, description = "The events are durable here, and will be delivered at the other nodes",
            body = Done),
        (status = 400,
            description = "The request is malformed, or names a project that this node does not know; no event was \
                           taken",
            body = ApiError),
        (status = 503,
            description = "This sidecar takes no events now, too many events wait for the event log, or too many \
                           requests are in progress: send the same request again",
            body = ApiError)))]
pub(super) async fn announce(
    State(api): State<Api>,
    permit: Work,
    Body(request): Body<AnnounceRequest>,
) -> Answer<Done> {
    check_events(&request)?;
    let events = events(&api)?;
    let answer = api.outlive(permit, api.deadline, async move { events.announce(request).await }).await;
    answer
        .ok_or_else(|| Failure::unavailable("no answer in time; the events may have been taken: send them again"))??;
    Ok(Json(Done {}))
}

/// Hands out stream events of other nodes, as soon as the refs that they name can be read here.
#[utoipa::path(post, path = "/v1/events/next", tag = "bridge",
    request_body = NextEventsRequest,
    responses((status = 200,
            description = "Events, in the order in which listeners must receive them; none when the wait has ended",
            body = NextEventsResponse),
        (status = 400, description = "The request is malformed, or a newer session superseded this one",
            body = ApiError),
        (status = 503, description = "The node's store cannot be read, or too many calls wait: try again",
            body = ApiError)))]
pub(super) async fn next(
    State(api): State<Api>,
    _permit: Wait,
    Body(request): Body<NextEventsRequest>,
) -> Answer<NextEventsResponse> {
    check::poll(&request.session, request.most as u64, request.wait_ms)?;
    Ok(Json(events(&api)?.next(request).await?))
}

/// Confirms that listeners have received stream events, so that they are not handed out again.
#[utoipa::path(post, path = "/v1/events/done", tag = "bridge",
    request_body = EventsDoneRequest,
    responses((status = 200, description = "The events are not handed out again", body = Done),
        (status = 400, description = "The request is malformed, or a newer session superseded this one",
            body = ApiError),
        (status = 503, description = "Too many requests are in progress: send the same request again",
            body = ApiError)))]
pub(super) async fn done(State(api): State<Api>, permit: Work, Body(request): Body<EventsDoneRequest>) -> Answer<Done> {
    check::session(&request.session)?;
    if request.done.len() > limits::POLLED {
        let (is, most) = (request.done.len(), limits::POLLED);
        return Err(Failure::malformed(format!("field done has {is} entries; send at most {most} at once")));
    }
    let events = events(&api)?;
    let answer = api.outlive(permit, api.deadline, async move { events.done(request).await }).await;
    answer
        .ok_or_else(|| Failure::unavailable("no answer in time; they may have been confirmed: send them again"))??;
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
            "this sidecar forwards no stream events, because its setting gerrit.refresh is not \"bridge\"; set it, and \
             restart the sidecar (a retry before that does not help)",
        )
    })
}
