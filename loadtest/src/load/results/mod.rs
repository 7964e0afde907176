//! The report of a run: JSON for programs, Markdown for tickets, and one page of HTML that needs nothing else.
//!
//! | file | idea |
//! |---|---|
//! | `types` | the report, as `report.json` holds it |
//! | `gather` | from measurements to the report |
//! | `cost` | the units of AWS, their cost, and both at other rates |
//! | `goals` | the goals of the profile, held against the report |
//! | `people` | the burst as people saw it, the operations done in it, and its end |
//! | `notes` | how far a run is from a real day |
//! | `tables` | the tables that both texts have |
//! | `markdown` | the report in Markdown |
//! | `html`, `markup` | the report as a page; text as HTML |
//! | `plot` | one plot over the time of the run, in SVG |

mod cost;
mod gather;
mod goals;
mod html;
mod markdown;
mod markup;
mod notes;
mod people;
mod plot;
mod tables;
mod types;

use std::path::Path;

use crate::Fallible;

pub use cost::Sizes;
#[cfg(test)]
pub(in crate::load) use gather::tests::report as unmeasured;
pub use gather::{Gathered, gather};
pub use notes::notes;
pub use types::{
    ClassReport, CostLine, CostReport, Course, GoalReport, Growth, Quantiles, Report, SiteReport, StageReport, Verdict,
};

/// Writes `report.json`, `report.md` and `report.html` into a folder.
pub fn write(folder: &Path, report: &Report) -> Fallible<()> {
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)? + "\n")?;
    std::fs::write(folder.join("report.md"), markdown::page(report))?;
    std::fs::write(folder.join("report.html"), html::page(report))?;
    Ok(())
}

/// Reads a `report.json`.
///
/// # Errors
/// The file cannot be read, or is no report.
pub fn read(path: &Path) -> Fallible<Report> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{} is no report: {error}", path.display()).into())
}

/// The verdict and the facts, as lines for a terminal.
#[must_use]
pub fn summary(report: &Report) -> Vec<String> {
    let marks = |line: String| line.replace("**", "");
    let faults = markdown::faults(report);
    [markdown::verdict(report)].into_iter().chain(markdown::facts(report)).chain(faults).map(marks).collect()
}
