//! Injects the faults of a profile at their times, and marks them on the time line.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, sleep_until};

use super::context::Context;
use crate::Fallible;
use crate::load::estate::Local;
use crate::load::profile::{Fault, FaultKind};

/// A fault that was injected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultMark {
    /// The kind.
    pub kind: String,
    /// The site. None if it concerns all.
    pub site: Option<usize>,
    /// Its beginning, in seconds after the start.
    pub from_s: f64,
    /// Its end: the process runs again, or the connection is whole.
    pub to_s: f64,
    /// From its beginning until the site commits again and no site is behind. None if that did not happen, or cannot
    /// be told.
    pub recovered_after_s: Option<f64>,
}

/// Injects all faults. Ends when the last one has ended.
pub async fn inject(context: Arc<Context>, marks: Arc<Mutex<Vec<FaultMark>>>) -> Fallible<()> {
    let faults = context.profile.faults.clone();
    let one = |fault: Fault| {
        let (context, marks) = (context.clone(), marks.clone());
        async move {
            let Some(local) = &context.estate.local else { return Err("faults need sites of this machine".into()) };
            sleep_until(context.start() + Duration::from_secs_f64(fault.at_s)).await;
            let from_s = context.start().elapsed().as_secs_f64();
            set(local, &fault, true)?;
            sleep(Duration::from_secs_f64(fault.for_s)).await;
            set(local, &fault, false)?;
            marks.lock().push(FaultMark {
                kind: fault.kind.name().to_owned(),
                site: (fault.kind != FaultKind::PauseCloud).then_some(fault.site),
                from_s,
                to_s: context.start().elapsed().as_secs_f64(),
                recovered_after_s: None,
            });
            Fallible::Ok(())
        }
    };
    join_all(faults.into_iter().map(one)).await.into_iter().collect()
}

fn set(local: &Local, fault: &Fault, begins: bool) -> Fallible<()> {
    match (fault.kind, begins) {
        (FaultKind::Kill, true) => local.kill(fault.site),
        (FaultKind::Kill, false) => local.restart(fault.site),
        (FaultKind::Pause, stop) => local.pause(fault.site, stop),
        (FaultKind::CutOff, stop) => local.cut_off(fault.site, stop),
        (FaultKind::PauseCloud, stop) => local.pause_cloud(stop),
    }
}
