//! Injects the faults of a profile at their times, and marks them on the time line.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::context::Context;
use super::{operation, read};
use crate::Fallible;
use crate::load::estate::Local;
use crate::load::measure::{Finished, Outcome};
use crate::load::model::Class;
use crate::load::plan::Arrival;
use crate::load::profile::{Fault, FaultKind};

/// How long users try one probe, and all probes after a failover.
const TRY: Duration = Duration::from_secs(3);
const PROBING: Duration = Duration::from_secs(120);
/// The pause between two probes.
const PAUSE: Duration = Duration::from_millis(100);
/// The new bytes of a probe.
const BYTES: u32 = 400;

/// A fault that was injected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultMark {
    /// The kind, and its own value if it has one.
    pub kind: String,
    /// The site. None if it concerns all.
    pub site: Option<usize>,
    /// Its beginning, in seconds after the start.
    pub from_s: f64,
    /// Its end: the process runs again, or the connection is whole.
    pub to_s: f64,
    /// From its beginning until the site commits again and no site is behind. None if that did not happen, or cannot
    /// be told. For a failover: the next field.
    pub recovered_after_s: Option<f64>,
    /// From its beginning until a push and a fetch of users succeeded again, with `failover`.
    #[serde(default)]
    pub users_recovered_after_s: Option<f64>,
}

/// Injects all faults. Ends when the last one has ended.
pub async fn inject(context: Arc<Context>, marks: Arc<Mutex<Vec<FaultMark>>>) -> Fallible<()> {
    let faults = context.profile.faults.clone();
    let one = |fault: Fault| {
        let (context, marks) = (context.clone(), marks.clone());
        async move {
            let Some(local) = &context.estate.local else { return Err("faults need sites of this machine".into()) };
            sleep_until(context.start() + Duration::from_secs_f64(fault.at_s)).await;
            let began = Instant::now();
            let from_s = context.start().elapsed().as_secs_f64();
            local.set(&fault, true).await?;
            let users_recovered_after_s = match fault.kind {
                FaultKind::Failover => take_over(&context, local, &fault, began).await?,
                _ => None,
            };
            sleep_until(began + Duration::from_secs_f64(fault.for_s)).await;
            match fault.kind {
                FaultKind::Failover => {
                    let site = &context.estate.sites[fault.site];
                    local.return_as_standby(site, fault.site, fault.to).await?;
                }
                _ => local.set(&fault, false).await?,
            }
            marks.lock().push(FaultMark {
                kind: label(&fault),
                site: fault.kind.is_of_one_site().then_some(fault.site),
                from_s,
                to_s: context.start().elapsed().as_secs_f64(),
                recovered_after_s: None,
                users_recovered_after_s,
            });
            Fallible::Ok(())
        }
    };
    join_all(faults.into_iter().map(one)).await.into_iter().collect()
}

/// The kind of a fault, with its own value.
fn label(fault: &Fault) -> String {
    let name = fault.kind.name();
    match fault.kind {
        FaultKind::Far => format!("{name} ({} ms)", fault.round_trip_ms),
        FaultKind::Throttle => format!("{name} ({:.0} %)", fault.share * 100.0),
        _ => name.to_owned(),
    }
}

/// An operator moves the writes of a killed site to another one, and its users follow. Returns the time until the
/// probes of users succeed, from `began`.
async fn take_over(context: &Arc<Context>, local: &Local, fault: &Fault, began: Instant) -> Fallible<Option<f64>> {
    let moving = async {
        local.fail_over(fault.site, fault.to).await?;
        context.estate.routes.lead(fault.site, fault.to);
        Fallible::Ok(())
    };
    let (moved, recovered) = tokio::join!(moving, probe(context, fault.site, began));
    moved?;
    Ok(recovered)
}

/// Users of a site push and fetch, again and again, until both succeed. Returns the time since `began`.
async fn probe(context: &Arc<Context>, users_of: usize, began: Instant) -> Option<f64> {
    for number in 0.. {
        let site = context.estate.routes.of(users_of);
        let arrival = |class: Class| Arrival {
            at_us: context.pace.now_us(),
            class,
            project: 0,
            site: u32::try_from(site).unwrap_or(0),
            pick: number,
            count: 1,
            bytes: BYTES,
            git: true,
            at_home: false,
        };
        let deadline = Instant::now() + TRY;
        let push = arrival(Class::BotBump);
        let mut finished = Finished::begun(push.class, site, push.at_us);
        if operation::write(context, &push, &mut finished, deadline).await == Outcome::Done
            && read::carry_out(context, &arrival(Class::Fetch), site, deadline).await == Outcome::Done
        {
            return Some(began.elapsed().as_secs_f64());
        }
        if began.elapsed() >= PROBING {
            return None;
        }
        sleep(PAUSE).await;
    }
    None
}
