//! `lockstep import`: commits every ref of an existing repository that the refdb does not have.
//!
//! All refs go in one transaction, with one pack, as far as they fit: git reuses the packs of the repository for it,
//! and the other sites keep it as it is.
//!
//! Each command expects that the ref is absent from the refdb. If the refdb already has the ref with the same value,
//! the command is refused as stale with that value, and the import counts it as done. Therefore an interrupted import
//! can be run again. If the refdb has the ref with another value, the import reports a conflict and the refdb keeps its
//! value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use lockstep_proto::bridge::{
    self, CreateProjectRequest, Outcome, ProjectResponse, RefCommand, RefResult, RefTransactionRequest,
    RefTransactionResponse, RefusalCode,
};
use lockstep_proto::{ProjectName, RefName, limits};
use tokio::time::{Instant, sleep};

use super::CliError;
use super::existing;
use super::old_sins;
use super::target::{self, Target};
use crate::base::ref_names;
use crate::cli::out;
use crate::clients::api_client::project_path;
use crate::clients::git_hooks::git::GitDir;

/// Deadline of a part of few refs, in milliseconds. It counts the time to pack, too.
const DEADLINE_MS: u64 = 300_000;
/// How long a part is asked for.
const PATIENCE: Duration = Duration::from_secs(3600);
/// The pause before a part is asked for again.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lockstep import /srv/git/tools/build.git
  lockstep import tools/build --root /srv/git
  lockstep import /srv/git/tools/build.git --project tools/build")]
pub(super) struct ImportArgs {
    #[command(flatten)]
    target: Target,
    /// Folder of the repository, or with --root the name of its project
    repository: PathBuf,
    /// Project of the repository (default: its git config lockstep.project)
    #[arg(long)]
    project: Option<ProjectName>,
    /// Git volume (setting root) on which the repository is found by the name of its project
    #[arg(long)]
    root: Option<PathBuf>,
    /// Do not report the objects that break rules of git fsck (the report reads all objects once)
    #[arg(long)]
    no_report: bool,
    /// Print all fields as JSON instead of text, at the end
    #[arg(long)]
    json: bool,
}

/// The results of the refs so far. With `--json`, they are the output of the command.
#[derive(Debug, serde::Serialize)]
struct Tally {
    project: ProjectName,
    committed: usize,
    /// The number of refs that were committed before.
    present: usize,
    /// One line per ref that was not imported.
    problems: Vec<String>,
    /// Whether the outcome of any ref is unknown.
    unknown: bool,
    /// The objects that break rules of git, as lines of text.
    report: Vec<String>,
}

pub(super) async fn run(args: ImportArgs) -> Result<(), CliError> {
    let (git, project) = locate(&args).await?;
    let problems = existing::fit(&git)?;
    target::same_project(git.path(), Some(project.clone()), args.target.project_of(git.path()).await?)?;
    create(&args, &git, &project).await?;
    let report = (!args.no_report).then(|| old_sins::begin(&git)).transpose().map_err(CliError::failed)?;
    let mut refs = existing::refs(&git)?;
    // Branches and tags bring the history. Packs of later parts build on it.
    refs.sort_by_key(|command| !ref_names::is_branch_or_tag(&command.name));
    let (committed, present, unknown) = (0, 0, false);
    let mut tally = Tally { project, committed, present, problems, unknown, report: Vec::new() };
    for part in ref_names::parts(&refs, |command| &command.name, limits::COMMANDS) {
        let response = submit(&args.target, &tally.project, part).await?;
        for (result, command) in response.results.iter().zip(part) {
            tally.add(result, command);
        }
        let done = tally.committed + tally.present + tally.problems.len();
        eprintln!("{}: {done} of {} refs", tally.project, refs.len());
    }
    if let Some(report) = report {
        tally.report = report.lines(tally.project.as_str()).map_err(CliError::failed)?;
    }
    tally.conclude(args.json)
}

/// Submits one part. The pack of a long history takes longer than any deadline, so the request is repeated while its
/// outcome is not known.
async fn submit(
    target: &Target,
    project: &ProjectName,
    part: &[RefCommand],
) -> Result<RefTransactionResponse, CliError> {
    let (request, until) = (request(part), Instant::now() + PATIENCE);
    loop {
        let answer = target.submit_history(project, &request).await?;
        if answer.outcome != Outcome::Unknown || Instant::now() >= until {
            return Ok(answer);
        }
        eprintln!("{project}: the outcome of {} refs is not known yet; asking again", part.len());
        sleep(PAUSE).await;
    }
}

async fn locate(args: &ImportArgs) -> Result<(GitDir, ProjectName), CliError> {
    let name: Option<ProjectName> = args.repository.to_str().and_then(|name| name.parse().ok());
    let (path, named) = match (&args.root, name) {
        (Some(root), Some(name)) => (args.target.base_paths_at(Some(root)).await?.git_dir(&name), Some(name)),
        _ => (args.repository.clone(), None),
    };
    let git = GitDir::at(&path).map_err(|error| CliError::Usage(error.to_string()))?;
    let project = match args.project.clone().or(named) {
        Some(project) => project,
        None => git.project().map_err(|error| usage(&path, &format!("{error}, or give --project")))?,
    };
    Ok((git, project))
}

fn usage(path: &Path, why: &str) -> CliError {
    CliError::Usage(format!("{}: {why}", path.display()))
}

/// Creates the project with the repository's own `HEAD`. An existing project stays as it is.
async fn create(args: &ImportArgs, git: &GitDir, project: &ProjectName) -> Result<(), CliError> {
    let head = git.run(&["symbolic-ref", "HEAD"]).map_err(CliError::failed)?;
    let head: RefName = head.trim_end().parse().map_err(|error| CliError::Failed(format!("HEAD: {error}")))?;
    let body = CreateProjectRequest { request_id: target::request_id(), head };
    let answer: ProjectResponse = args.target.change(Method::PUT, project_path(project, ""), &body).await?;
    let exists = answer.refusal.as_ref().is_some_and(|refusal| refusal.code == RefusalCode::Project);
    if answer.outcome == Outcome::Refused && exists {
        return Ok(());
    }
    let made = target::project_verdict(&format!("project {project}"), &answer)?;
    if args.json { Ok(()) } else { Ok(out::put(&(made + "\n"))?) }
}

fn request(commands: &[RefCommand]) -> RefTransactionRequest {
    RefTransactionRequest {
        request_id: target::request_id(),
        deadline_ms: Some(bridge::deadline_ms(DEADLINE_MS, commands.len())),
        atomic: false,
        commands: commands.to_vec(),
        actor: target::actor(),
        traceparent: None,
        message: None,
        lock: None,
    }
}

impl Tally {
    fn add(&mut self, result: &RefResult, command: &RefCommand) {
        let actual = result.refusal.as_ref().and_then(|refusal| refusal.actual.as_deref());
        let why = result.refusal.as_ref().map_or("no reason was given", |refusal| refusal.message.as_str());
        match result.outcome {
            Outcome::Committed | Outcome::CommittedNotYetVisible => self.committed += 1,
            Outcome::Refused if actual.is_some() && actual == command.new.map(|oid| oid.to_string()).as_deref() => {
                self.present += 1;
            }
            Outcome::Refused => self.problems.push(target::about(result.name.as_str(), why)),
            Outcome::Unknown => {
                self.unknown = true;
                self.problems.push(format!("{}: outcome not known yet ({why}); run the import again", result.name));
            }
        }
    }

    fn conclude(self, json: bool) -> Result<(), CliError> {
        let report: String = self.report.iter().map(|line| format!("{line}\n")).collect();
        let Self { project, committed, present, .. } = &self;
        let text = format!("{report}{project}: {committed} refs committed, {present} were committed before\n");
        out::put(&if json { super::json(&self)? } else { text })?;
        if self.problems.is_empty() {
            return Ok(());
        }
        let text = format!("{} refs were not imported:\n{}", self.problems.len(), self.problems.join("\n"));
        Err(if self.unknown { CliError::Failed(text) } else { CliError::Refused(text) })
    }
}
