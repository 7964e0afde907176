//! `lockstep verify`: compares the refs of the sidecar's node with the refdb, or with those of peers.

use std::time::Duration;

use http::Method;
use lockstep_proto::ProjectName;
use lockstep_proto::status::NodeStatus;
use lockstep_proto::verify::{
    DEFAULT_SHARE, Estimate, Mismatch, PeerCompared, Right, Side, Verification, VerifyRequest,
};

use super::table::{Table, titled};
use super::target::Target;
use super::{CliError, background_text, json};
use crate::cli::out;

/// The pause between two looks at the progress.
const LOOK: Duration = Duration::from_millis(500);
/// Looks between two lines of progress.
const SAY: u32 = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep verify\n  lockstep verify tools/build\n  \
                        lockstep verify --share 50 --json | jq .found\n  lockstep verify --against muc-1\n  \
                        lockstep verify --against all tools/build\n  lockstep verify --background")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    target: Target,
    /// Project to compare [default: all]
    project: Option<ProjectName>,
    /// Compare with this site, or this peer of [peers], or all of them, by digests; the refdb is read for the refs that
    /// differ alone
    #[arg(long, value_name = "SITE|PEER|all")]
    against: Option<String>,
    /// Compare only the version maps of the two nodes, and not their disks
    #[arg(long, requires = "against")]
    maps_only: bool,
    /// Share of a partition's read units of the refdb that it takes at most, in percent [default: refdb.verify_share]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    share: Option<u32>,
    /// Show how far the verification in the background is, and its findings; begin nothing
    #[arg(long, conflicts_with_all = ["project", "against", "maps_only", "share"])]
    background: bool,
    /// Print all fields as JSON, once it has ended
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: VerifyArgs) -> Result<(), CliError> {
    if args.background {
        return show_background(&args).await;
    }
    let (project, share) = (args.project.clone(), args.share);
    let request = VerifyRequest { project, share, against: args.against.clone(), maps_only: args.maps_only };
    let begun: Verification =
        args.target.change(Method::POST, "/v1/verification".to_owned(), &request).await.map_err(CliError::unrefused)?;
    // The answer has the share that is taken, also if none was asked for.
    let share = request.share.or(begun.request.share);
    if begun.request != (VerifyRequest { share, ..request }) {
        return Err(CliError::Failed("another verification is in progress; wait for its end".to_owned()));
    }
    if !args.json && args.against.is_none() {
        out::put(&estimate(&begun.estimate, share.unwrap_or(DEFAULT_SHARE)))?;
    }
    let ended = until_end(&args, begun.number).await?;
    if ended.projects + ended.failures == 0
        && let Some(project) = &args.project
    {
        let other = if args.against.is_some() { "at a peer that was compared" } else { "in the refdb" };
        return Err(CliError::Failed(format!("project {project} exists neither at this node nor {other}")));
    }
    out::put(&if args.json { json(&ended)? } else { render(&ended) })?;
    match () {
        () if ended.mismatches > 0 => Err(CliError::Degraded),
        () if ended.failures > 0 => Err(CliError::Failed(format!("{} could not be compared", not_compared(&ended)))),
        () => Ok(()),
    }
}

/// Shows the verification in the background.
async fn show_background(args: &VerifyArgs) -> Result<(), CliError> {
    let status: NodeStatus = args.target.get("/v1/status").await.map_err(CliError::unrefused)?;
    let Some(background) = status.background else {
        let why = "the node verifies nothing in the background: its release is an earlier one; upgrade it";
        return Err(CliError::Failed(why.to_owned()));
    };
    out::put(&if args.json { json(&background)? } else { background_text::render(&background) })?;
    if background_text::is_degraded(&background) { Err(CliError::Degraded) } else { Ok(()) }
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

fn not_compared(ended: &Verification) -> String {
    match (&ended.request.against, ended.failures) {
        (None, count) => projects(count),
        (Some(_), 1) => "1 peer or project of a peer".to_owned(),
        (Some(_), count) => format!("{count} peers or projects of a peer"),
    }
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
    let failed = titled("NOT COMPARED", ended.failed.iter().map(|one| format!("{}: {}", one.project, one.why)));
    let found = if ended.found.is_empty() { String::new() } else { format!("DIFFERENT\n{}", differ(ended).render()) };
    head + &repaired + &peers(&ended.peers) + &found + &failed
}

/// The peers that were compared to their end.
fn peers(compared: &[PeerCompared]) -> String {
    let line = |one: &PeerCompared| {
        let PeerCompared { peer, site, node, projects: count, by_digest, mismatches, failures } = one;
        let verdict = match (mismatches, failures) {
            (0, 0) => "equal".to_owned(),
            (0, failures) => format!("{failures} not compared"),
            (mismatches, _) => format!("{mismatches} DIFFER"),
        };
        let node = if node == peer { String::new() } else { format!(", node {node}") };
        format!("  {peer} (site {site}{node}): {}, {by_digest} by digest alone: {verdict}\n", projects(*count))
    };
    compared.iter().map(line).collect()
}

/// The refs that differ, with a column per side.
fn differ(ended: &Verification) -> Table {
    let with_peers = ended.request.against.is_some();
    let sides: &[&str] = match with_peers {
        true => &["project", "ref", "refdb", "here", "disk here", "peer", "there", "disk there", "right", "why"],
        false => &["project", "ref", "refdb", "version map", "disk", "right", "why"],
    };
    let mut table = Table::new(sides);
    for found in &ended.found {
        let Mismatch { project, name, refdb, here, disk, peer, there, disk_there, right, why } = found;
        let peer = peer.as_deref().unwrap_or("-");
        let right = match right {
            Right::Refdb => "refdb",
            Right::ThisNode => "this node",
            Right::Peer => peer,
        };
        let shown = |disk: &Option<String>| disk.as_deref().map_or("-", short).to_owned();
        let mut cells = vec![project.clone(), name.clone(), side(refdb.as_ref()), side(here.as_ref()), shown(disk)];
        if with_peers {
            cells.extend([peer.to_owned(), side(there.as_ref()), shown(disk_there)]);
        }
        cells.extend([right.to_owned(), why.clone()]);
        table.row(cells);
    }
    table
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
pub(super) fn short(value: &str) -> &str {
    if value.bytes().all(|byte| byte.is_ascii_hexdigit()) { value.get(..12).unwrap_or(value) } else { value }
}
