//! `lockstep resync`: brings refs and objects of the sidecar's node to the refdb's state.

use http::Method;
use lockstep_proto::resync::{NotWhole, Resync, ResyncRequest, ResyncScope};
use lockstep_proto::{ProjectName, RefKey};

use super::follow::{Seen, until_end};
use super::table::titled;
use super::target::{Audit, OperatorTarget};
use super::{CliError, json};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep resync tools/build --reason 'fsck names missing blobs'\n  \
                  lockstep resync tools/build refs/heads/main --reason 'wrong on the disk'\n  \
                  lockstep resync --all --from muc-1 --reason 'the disk was repaired'\n\n\
                  Exit code 2 if a project is not whole, 1 if the outcome is unknown, 3 if it was refused.")]
pub(super) struct ResyncArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Project to bring to the refdb's state
    #[arg(required_unless_present_any = ["site", "all"], conflicts_with_all = ["site", "all"])]
    project: Option<ProjectName>,
    /// Full name of one ref of it, or @HEAD [default: the whole project]
    #[arg(id = "ref", value_name = "REF", requires = "project")]
    key: Option<RefKey>,
    /// Every project of this node; the other nodes of its site are named, to be asked one by one
    #[arg(long, conflicts_with = "all")]
    site: bool,
    /// Every project of this node
    #[arg(long)]
    all: bool,
    /// Site, node or peer of [peers] that sends the objects [default: every peer, one after the other]
    #[arg(long, value_name = "SITE|NODE")]
    from: Option<String>,
    #[command(flatten)]
    audit: Audit,
}

pub(super) async fn run(args: ResyncArgs) -> Result<(), CliError> {
    let scope = match args.project {
        Some(project) => ResyncScope::Project { project, key: args.key },
        None if args.site => ResyncScope::Site,
        None => ResyncScope::All,
    };
    let request = ResyncRequest { scope, from: args.from, reason: args.audit.reason };
    let begun: Resync = args.target.change(Method::POST, "/v1/resync".to_owned(), &request).await?;
    let look = |last: &Resync| match last.ended_ms {
        _ if (last.start, last.number) != (begun.start, begun.number) => Seen::Another,
        Some(_) => Seen::Ended,
        None => Seen::Running(progress(last)),
    };
    let ended = until_end(&args.target.target, "/v1/resync", "resync", look).await?;
    out::put(&if args.audit.json { json(&ended)? } else { render(&ended) })?;
    if ended.failures == 0 { Ok(()) } else { Err(CliError::Degraded) }
}

fn progress(last: &Resync) -> String {
    let now = last.now.as_ref().map(|now| format!(", now {now}")).unwrap_or_default();
    format!("{} of {} projects{now}", last.done, last.projects)
}

fn render(ended: &Resync) -> String {
    let Resync { node, done, failures, refetched, garbled, refs_set, strays, .. } = ended;
    let whole = done.saturating_sub(*failures);
    let whole = if whole == 1 { "1 project".to_owned() } else { format!("{whole} projects") };
    let head = format!(
        "{whole} brought to the refdb's state at {node}: objects of {refetched} came from peers, {garbled} garbled \
         files were taken away, {refs_set} refs were set on the disk, {strays} values are kept as strays\n"
    );
    let strays = match strays {
        0 => "",
        _ => "next: `lockstep stray list PROJECT` shows the strays\n",
    };
    let line = |one: &NotWhole| {
        let NotWhole { project, why, retry } = one;
        format!("{project}: {why}; {}", if *retry { "ask again later" } else { "a retry does not help by itself" })
    };
    let failed = titled("NOT WHOLE", ended.failed.iter().map(line));
    let others = ended.ask_too.iter().map(|node| format!("{node}: `lockstep resync --all`"));
    head + strays + &failed + &titled("ask the other nodes of the site, too, each at its own sidecar", others)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn parse(line: &str) -> Option<ResyncArgs> {
        match Cli::try_parse_from(line.split(' ')).ok()?.command {
            Command::Resync(args) => Some(args),
            _ => None,
        }
    }

    #[test]
    fn one_of_project_site_and_all_is_given() {
        let one = parse("lockstep resync p refs/heads/a --reason r").unwrap();
        assert_eq!((one.project.is_some(), one.key.is_some(), one.site, one.all), (true, true, false, false));
        assert!(parse("lockstep resync --site --reason r").is_some_and(|args| args.site));
        assert!(parse("lockstep resync --all --from muc-1 --reason r").is_some_and(|args| args.from.is_some()));
        for wrong in ["--reason r", "p --all --reason r", "--site --all --reason r", "p"] {
            assert!(parse(&format!("lockstep resync {wrong}")).is_none(), "{wrong}");
        }
    }

    #[test]
    fn projects_that_are_not_whole_and_the_other_nodes_are_named() {
        let ended: Resync = serde_json::from_value(serde_json::json!({
            "number": 1, "node": "a-0", "start": 1, "request": { "scope": "site", "reason": "r" }, "by": "uid 0",
            "began_ms": 1, "ended_ms": 2, "projects": 2, "done": 2, "refetched": 1, "garbled": 0, "refs_set": 3,
            "strays": 1, "failures": 1, "failed": [{ "project": "q", "why": "no peer", "retry": true }],
            "ask_too": ["a-1"]
        }))
        .expect("a resync");
        let text = render(&ended);
        assert!(text.starts_with("1 project brought to the refdb's state at a-0: objects of 1 came"), "{text}");
        assert!(text.contains("NOT WHOLE\n  q: no peer; ask again later\n"), "{text}");
        assert!(text.ends_with("  a-1: `lockstep resync --all`\n") && text.contains("lockstep stray list"), "{text}");
    }
}
