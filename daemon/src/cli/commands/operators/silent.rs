//! `lockstep drill --silent`: a standby on a copy of this node's volume.

use std::time::Duration;

use http::Method;
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentReport, SilentRequest};
use tokio::time::sleep;

use super::super::table::{Table, titled};
use super::super::target::{OperatorTarget, Target};
use super::super::{CliError, json};
use crate::base::time_text::{seconds, utc};
use crate::cli::out;

/// The pause between two looks at a drill.
const LOOK: Duration = Duration::from_millis(500);
/// How often in a row the sidecar may not answer before the command gives up.
const SILENT: u32 = 20;

/// Begins a silent drill of the node, and follows it to its end.
pub(in super::super) async fn run(target: &OperatorTarget, reason: String, as_json: bool) -> Result<(), CliError> {
    let begun: SilentBegun =
        target.ask(Method::POST, "/v1/drills/silent".to_owned(), &SilentRequest { reason }).await?;
    let report = follow(&target.target, &begun.id).await?;
    out::put(&if as_json { json(&report)? } else { render(&report) })?;
    if report.is_green() { Ok(()) } else { Err(CliError::Degraded) }
}

/// Waits for the report of a drill, and says on standard error what it does meanwhile.
async fn follow(target: &Target, id: &str) -> Result<SilentReport, CliError> {
    let (mut said, mut unanswered) = (String::new(), 0);
    loop {
        match target.get::<SilentDrills>("/v1/drills/silent").await {
            Ok(drills) => {
                unanswered = 0;
                if let Some(report) = drills.past.into_iter().find(|report| report.id == id) {
                    return Ok(report);
                }
                let Some(running) = drills.running.filter(|running| running.id == id) else {
                    let why = format!(
                        "silent drill {id} has left no report: its sidecar was stopped or killed, and its \
                                       next start removes the copy; begin the drill again"
                    );
                    return Err(CliError::Failed(why));
                };
                if running.doing != said {
                    said = running.doing;
                    eprintln!("  ... {said}");
                }
            }
            Err(error) => {
                unanswered += 1;
                if unanswered >= SILENT {
                    return Err(error.unrefused());
                }
            }
        }
        sleep(LOOK).await;
    }
}

/// A report as text.
fn render(report: &SilentReport) -> String {
    let figures = &report.figures;
    let mut steps = Table::new(&["step", "took"]);
    steps.row(vec![format!("copy ({})", figures.copy), seconds(figures.copy_ms)]);
    for one in &figures.steps {
        steps.row(vec![one.step.clone(), seconds(Some(one.took_ms))]);
    }
    let verdict = if report.is_green() { "green" } else { "RED" };
    let lacked = figures.lacked.map_or("an unknown number of".to_owned(), |lacked| lacked.to_string());
    format!(
        "silent drill of {} ({}): {verdict}\n{}{}steps\n{}measured\n  took writes after {}, green after {}\n  the copy \
         lacked {lacked} settled transactions of other sites\n  {} refs of {} projects were compared with the version \
         map as of the copy\n",
        report.node,
        report.site,
        titled("why", &report.red),
        titled("notes", &report.notes),
        steps.render(),
        seconds(figures.took_writes_ms),
        seconds(figures.green_ms),
        figures.refs,
        figures.projects,
    )
}

/// The trend as a table. Empty if there is nothing to show.
pub(in super::super) fn trend(drills: &SilentDrills) -> String {
    let running = drills.running.as_ref();
    let running = running.map(|one| format!("a silent drill of {} is in progress: {}\n", one.node, one.doing));
    if drills.past.is_empty() {
        return running.unwrap_or_default();
    }
    let head = ["when", "silent drill of", "by", "verdict", "copy", "took writes", "green", "lacked", "reason"];
    let mut table = Table::new(&head);
    for one in &drills.past {
        table.row(vec![
            utc(one.at_ms),
            one.node.to_string(),
            one.actor.clone(),
            if one.is_green() { "green".to_owned() } else { "RED".to_owned() },
            seconds(one.figures.copy_ms),
            seconds(one.figures.took_writes_ms),
            seconds(one.figures.green_ms),
            one.figures.lacked.map_or("-".to_owned(), |lacked| lacked.to_string()),
            one.red.first().unwrap_or(&one.reason).clone(),
        ]);
    }
    running.unwrap_or_default() + &table.render()
}
