//! One operation of a client, with its tries.

use std::sync::Arc;
use std::time::Duration;

use lockstep_loadtest::load::drive::{Pace, Reading, read};
use lockstep_loadtest::load::measure::{Finished, Outcome};
use lockstep_loadtest::load::model::Class;
use lockstep_loadtest::load::plan::Arrival;
use tokio::time::{Instant, sleep};

use super::acts::Act;
use super::client::Said;
use super::shared::Shared;
use super::world::{Account, BRANCH};

/// Carries out an operation, and records its end.
pub async fn carry_out(shared: &Arc<Shared>, pace: &Pace, arrival: &Arrival) {
    let site = site_of(shared, arrival);
    let mut finished = Finished::begun(arrival.class, site, arrival.at_us);
    let deadline = Instant::now() + Duration::from_secs_f64(shared.profile.run.give_up_s);
    finished.result = if arrival.class.is_read() {
        finished.tries = 1;
        reads(shared, arrival, site, deadline).await
    } else {
        writes(shared, arrival, &mut finished, deadline).await
    };
    finished.ended_us = pace.now_us();
    pace.recorder.finished(&finished);
}

/// The site from which the operation comes.
fn site_of(shared: &Shared, arrival: &Arrival) -> usize {
    let count = shared.places.len();
    let other = arrival.site as usize;
    let project = shared.world.project(arrival.project);
    let home = match arrival.class {
        _ if !arrival.at_home => other,
        Class::CiVote | Class::Comment | Class::Draft | Class::MassRebase | Class::PushPatchSet => {
            project.pick(arrival.pick).map_or(other, |chain| chain.home)
        }
        // A branch of a project, and a user, have a home too. Otherwise the sites only refuse each other's moves.
        Class::Submit => arrival.project as usize,
        Class::BotBump | Class::UserRef => usize::try_from(arrival.pick % 1_000_003).unwrap_or(0),
        _ => other,
    };
    home % count
}

async fn writes(shared: &Arc<Shared>, arrival: &Arrival, finished: &mut Finished, deadline: Instant) -> Outcome {
    let pause = Duration::from_millis(shared.profile.run.retry_pause_ms);
    loop {
        finished.tries += 1;
        let mut act = Act::new(shared, arrival, finished.site, finished.tries, deadline);
        let said = act.carry_out().await;
        finished.prepare += act.prepare;
        finished.answer = act.answer;
        match said {
            Said::Done(refs) => {
                finished.refs = refs;
                return Outcome::Done;
            }
            Said::Unknown(why) => {
                eprintln!("{} at {}: {why}", arrival.class.name(), shared.places[finished.site].name);
                return Outcome::Unknown;
            }
            Said::Refused { code, again } => {
                let pause = pause.max(again.unwrap_or_default());
                let is_last = finished.tries >= shared.profile.run.tries || Instant::now() + pause >= deadline;
                if again.is_none() || is_last {
                    return Outcome::Refused(code);
                }
                sleep(pause).await;
            }
        }
    }
}

async fn reads(shared: &Shared, arrival: &Arrival, site: usize, deadline: Instant) -> Outcome {
    let project = &shared.world.project(arrival.project).name;
    let folder = match shared.reader(site, project) {
        Ok(folder) => folder,
        Err(why) => return Outcome::Refused(format!("client: {why}")),
    };
    let url = shared.places[site].url(Account::of(arrival).login(), project);
    let (class, number) = (arrival.class, arrival.pick);
    read(&shared.git, Reading { class, url: &url, branch: BRANCH, folder: &folder, number }, deadline).await
}
