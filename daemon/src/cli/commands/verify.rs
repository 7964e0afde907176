//! `lockstep verify`: compares the refs of the sidecar's node with the refdb.

use std::time::Duration;

use http::Method;
use lockstep_proto::ProjectName;
use lockstep_proto::verify::{DEFAULT_SHARE, Estimate, Mismatch, Right, Side, Verification, VerifyRequest};

use super::table::Table;
use super::target::Target;
use super::{CliError, json};
use crate::cli::out;

/// The pause between two looks at the progress.
const LOOK: Duration = Duration::from_millis(500);
/// Looks between two lines of progress.
const SAY: u32 = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep verify\n  lockstep verify tools/build\n  \
                        lockstep verify --share 50 --json | jq .found")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    target: Target,
    /// Project to compare [default: all]
    project: Option<ProjectName>,
    /// Share of a partition's read units of the refdb that it takes at most, in percent
    #[arg(long, default_value_t = DEFAULT_SHARE, value_parser = clap::value_parser!(u32).range(1..=100))]
    share: u32,
    /// Print all fields as JSON, once it has ended
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: VerifyArgs) -> Result<(), CliError> {
    let request = VerifyRequest { project: args.project.clone(), share: args.share };
    let begun: Verification =
        args.target.change(Method::POST, "/v1/verification".to_owned(), &request).await.map_err(CliError::unrefused)?;
    if begun.request != request {
        return Err(CliError::Failed("another verification is in progress; wait for its end".to_owned()));
    }
    if !args.json {
        out::put(&estimate(&begun.estimate, args.share))?;
    }
    let ended = until_end(&args, begun.number).await?;
    if ended.projects + ended.failures == 0
        && let Some(project) = &args.project
    {
        return Err(CliError::Failed(format!("project {project} exists neither at this node nor in the refdb")));
    }
    out::put(&if args.json { json(&ended)? } else { render(&ended) })?;
    match () {
        () if ended.mismatches > 0 => Err(CliError::Degraded),
        () if ended.failures > 0 => {
            Err(CliError::Failed(format!("{} could not be compared", projects(ended.failures))))
        }
        () => Ok(()),
    }
}

/// Follows a verification until its end.
async fn until_end(args: &VerifyArgs, number: u64) -> Result<Verification, CliError> {
    let mut looks: u32 = 0;
    loop {
        let last: Option<Verification> = args.target.get("/v1/verification").await.map_err(CliError::unrefused)?;
        let Some(last) = last.filter(|last| last.number == number) else {
            return Err(CliError::Failed("the sidecar was started again, and the verification has ended".to_owned()));
        };
        if last.ended_ms.is_some() {
            return Ok(last);
        }
        looks += 1;
        if !args.json && looks.is_multiple_of(SAY) {
            eprintln!("  ... {} of {} projects, {} refs", last.projects, last.estimate.projects, last.refs);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn estimate(estimate: &Estimate, share: u32) -> String {
    let Estimate { refs, read_units, seconds, .. } = estimate;
    let projects = projects(estimate.projects);
    format!(
        "{projects}, {refs} refs: about {read_units} read units of the refdb, {seconds:.1} s at {share} % of \
         a partition\n"
    )
}

fn render(ended: &Verification) -> String {
    let took_ms = ended.ended_ms.unwrap_or(ended.began_ms).saturating_sub(ended.began_ms);
    let head = format!(
        "compared {} refs of {} in {:.1} s: {} differ, {} were on their way\n",
        ended.refs,
        projects(ended.projects),
        took_ms as f64 / 1_000.0,
        ended.mismatches,
        ended.on_their_way
    );
    let repaired = match ended.repaired {
        0 => String::new(),
        repaired => format!("{repaired} were behind, and this verification has brought them up to date\n"),
    };
    let mut table = Table::new(&["project", "ref", "refdb", "version map", "disk", "right", "why"]);
    for found in &ended.found {
        let Mismatch { project, name, refdb, here, disk, right, why } = found;
        let right = match right {
            Right::Refdb => "refdb",
            Right::ThisNode => "this node",
        };
        let disk = disk.as_deref().map_or("-", short).to_owned();
        let cells = [project, name, &side(refdb.as_ref()), &side(here.as_ref()), &disk, right, why];
        table.row(cells.map(|cell: &str| cell.to_owned()).to_vec());
    }
    let failed: String = ended.failed.iter().map(|one| format!("  {}: {}\n", one.project, one.why)).collect();
    let failed = if failed.is_empty() { failed } else { format!("NOT COMPARED\n{failed}") };
    let found = if ended.found.is_empty() { String::new() } else { format!("DIFFERENT\n{}", table.render()) };
    head + &repaired + &found + &failed
}

fn projects(count: u64) -> String {
    if count == 1 { "1 project".to_owned() } else { format!("{count} projects") }
}

fn side(side: Option<&Side>) -> String {
    side.map_or("-".to_owned(), |side| match side.value.as_str() {
        "" => format!("{} (deleted)", side.version),
        value => format!("{} {}", side.version, short(value)),
    })
}

/// The beginning of an object id, or a whole name.
fn short(value: &str) -> &str {
    if value.bytes().all(|byte| byte.is_ascii_hexdigit()) { value.get(..12).unwrap_or(value) } else { value }
}
