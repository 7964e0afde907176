//! One operation of a client, with its tries: a client whose ref was moved by somebody else looks at the new value and
//! tries again, as Gerrit does, and as a person does after a fetch.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::ProjectName;
use tokio::time::{Instant, sleep};

use super::context::Context;
use super::verdict::Verdict;
use super::{api, push, read};
use crate::Fallible;
use crate::load::ledger::{Ended, Entry};
use crate::load::measure::{Finished, Outcome};
use crate::load::model::Class;
use crate::load::plan::Arrival;
use crate::load::world::{Built, Effect, build};

/// Carries out an operation, and records its end.
pub(super) async fn carry_out(context: &Arc<Context>, arrival: &Arrival) {
    let number = context.estate.routes.of(site_of(context, arrival));
    let mut finished = Finished::begun(arrival.class, number, arrival.at_us);
    let deadline = Instant::now() + Duration::from_secs_f64(context.profile.run.give_up_s);
    finished.result = if arrival.class.is_read() {
        finished.tries = 1;
        read::carry_out(context, arrival, number, deadline).await
    } else {
        write(context, arrival, &mut finished, deadline).await
    };
    finished.ended_us = context.pace.now_us();
    context.pace.recorder.finished(&finished);
}

/// The site from which the operation comes.
fn site_of(context: &Context, arrival: &Arrival) -> usize {
    let count = context.estate.sites.len();
    if !arrival.at_home {
        return arrival.site as usize % count;
    }
    let project = context.world.project(arrival.project);
    let home = match arrival.class {
        Class::CiVote | Class::Comment | Class::Draft | Class::MassRebase => {
            project.pick(arrival.pick).map_or(arrival.site, |change| change.home)
        }
        Class::PushPatchSet => project.pick(arrival.pick / 100).map_or(arrival.site, |change| change.home),
        // A branch of a project, and a user, have a home too. Otherwise the sites only refuse each other's moves.
        Class::Submit => arrival.project,
        Class::BotBump | Class::UserRef => u32::try_from(arrival.pick % 1_000_003).unwrap_or(0),
        _ => arrival.site,
    };
    home as usize % count
}

/// Tries an operation that moves refs, at the site that `finished` names.
pub(super) async fn write(
    context: &Arc<Context>,
    arrival: &Arrival,
    finished: &mut Finished,
    deadline: Instant,
) -> Outcome {
    let world = &context.world;
    let is_of_users = arrival.class.is_of_all_users();
    let project = if is_of_users { world.users() } else { world.project(arrival.project) };
    let routes = &context.estate.routes;
    loop {
        finished.tries += 1;
        // Users follow a failover.
        finished.site = routes.of(finished.site);
        let began = Instant::now();
        let built = prepare(context, arrival, finished, &project.name).await;
        finished.prepare += began.elapsed();
        let built = match built {
            Ok(built) => built,
            Err(why) => return Outcome::Refused(format!("client: {why}")),
        };
        let (asked, began_us, user) = (Instant::now(), context.ledger_us(), arrival.user());
        let number = finished.site;
        let (site, has_moved) = (&context.estate.sites[number], || routes.of(number) != number);
        let sent = api::Sent { user: &user, project: &project.name, request: &built.request, moves: &built.moves };
        let verdict = if arrival.git {
            push::send(context, site, sent, has_moved, deadline, &mut finished.told).await
        } else {
            api::send(&site.client, sent, has_moved, deadline, &mut finished.told).await
        };
        finished.answer = asked.elapsed();
        context.ledger.lock().push(entry(context, arrival, finished.site, &project.name, began_us, &built, &verdict));
        match verdict {
            Verdict::Committed(_) => {
                finished.refs = built.moves.len() as u64;
                match built.effect {
                    Effect::None => {}
                    Effect::Opened(changes) => project.opened(changes),
                    Effect::Closed(changes) => project.closed(&changes),
                }
                return Outcome::Done;
            }
            Verdict::Unknown(_) => return Outcome::Unknown,
            Verdict::Refused { code, again } => {
                let pause = Duration::from_millis(context.profile.run.retry_pause_ms);
                let is_last = finished.tries >= context.profile.run.tries || Instant::now() + pause >= deadline;
                if !again || is_last {
                    return Outcome::Refused(code);
                }
                sleep(pause).await;
            }
        }
    }
}

/// Makes the request and its objects on a thread for blocking work.
async fn prepare(
    context: &Arc<Context>,
    arrival: &Arrival,
    finished: &Finished,
    project: &ProjectName,
) -> Fallible<Built> {
    let (context, arrival, project) = (context.clone(), arrival.clone(), project.clone());
    let (site, tries) = (finished.site, finished.tries);
    #[expect(clippy::disallowed_methods, reason = "libgit2 blocks; no simulator runs the generator")]
    let work = tokio::task::spawn_blocking(move || {
        let places = context.places(&context.estate.sites[site], &project, arrival.git)?;
        build(&context.world, &arrival, u32::try_from(site)?, &places, tries)
    });
    work.await?
}

fn entry(
    context: &Context,
    arrival: &Arrival,
    site: usize,
    project: &ProjectName,
    began_us: i64,
    built: &Built,
    verdict: &Verdict,
) -> Entry {
    let (ended, txn, why) = match verdict {
        Verdict::Committed(txn) => (Ended::Committed, txn.clone(), None),
        Verdict::Refused { code, .. } => (Ended::Refused, None, Some(code.clone())),
        Verdict::Unknown(why) => (Ended::Unknown, None, Some(why.clone())),
    };
    Entry {
        request: built.request.clone(),
        class: Some(arrival.class),
        site,
        project: project.to_string(),
        git: arrival.git,
        began_us,
        ended_us: context.ledger_us(),
        ended,
        txn,
        why,
        moves: built.moves.clone(),
    }
}
