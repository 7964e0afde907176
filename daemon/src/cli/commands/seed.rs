//! `lockstep seed`: makes projects of the existing repositories of a site.
//!
//! The sidecar does the work, project by project. This command asks for it and shows the progress. At the end it
//! compares the refs that git lists with the refs that the sidecar found in the refdb. An interrupted seed continues
//! when the command is run again.

use std::path::PathBuf;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::Method;
use lockstep_proto::ProjectName;
use lockstep_proto::seed::{Differences, SeedRequest, SeedResponse, SeedStage};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::CliError;
use super::existing;
use super::old_sins;
use super::target::Target;
use super::walk::{self, Found};
use crate::base::base_paths::BasePaths;
use crate::clients::api_client::{Call, ClientError, project_path};
use crate::clients::git_hooks::git::GitDir;

/// Gerrit's own projects, which are seeded first because all others depend on them.
const FIRST: [&str; 2] = ["All-Projects", "All-Users"];
/// Number of projects that are seeded concurrently.
const SIDE_BY_SIDE: usize = 4;
/// How long the sidecar waits for progress before it answers one call.
const WAIT: Duration = Duration::from_secs(5);
/// Deadline of a call. The sidecar normally answers long before.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long to retry while the sidecar does not answer. It covers a restart of the sidecar.
const RESTART: Duration = Duration::from_secs(60);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lockstep seed
  lockstep seed --root /srv/gerrit/git --alone
  lockstep seed --root /srv/gerrit/git All-Projects All-Users tools/build

After Lockstep was off at this site:
  lockstep seed --again
  lockstep seed --set-aside tools/build")]
pub(super) struct SeedArgs {
    #[command(flatten)]
    target: Target,
    /// The sidecar's git volume (setting root, and the default); the repositories below it and below its base paths are
    /// seeded
    #[arg(long)]
    root: Option<PathBuf>,
    /// Open the projects even if no other site holds them yet: for a first site that has no second one
    #[arg(long)]
    alone: bool,
    /// Do not report the objects that break rules of git fsck (the report reads all objects once)
    #[arg(long)]
    no_report: bool,
    /// Commit the refs on this disk that differ from the committed ones, also of open projects: after Lockstep was off
    #[arg(long, conflicts_with = "set_aside")]
    again: bool,
    /// Write the committed values over refs on this disk that differ, and keep those as strays; name the projects
    #[arg(long, requires = "projects")]
    set_aside: bool,
    /// Seed only these projects
    projects: Vec<ProjectName>,
}

/// The result of seeding one project.
enum End {
    /// The project takes commits, and the refdb has exactly the refs that git lists. Holds the lines to print, and the
    /// refs that were left out.
    Open(String, Vec<String>),
    /// All refs are committed, and no other site holds the project yet.
    Waiting,
    /// The project cannot be seeded. Holds the problems.
    Failed(Vec<String>),
}

pub(super) async fn run(args: SeedArgs) -> Result<(), CliError> {
    // The sidecar can seed only the repositories on its own volume.
    let base_paths = args.target.base_paths_at(args.root.as_deref()).await?.resolve();
    let base_paths = base_paths.map_err(|error| CliError::Usage(error.to_string()))?;
    let Found { projects, problems } = match args.projects.is_empty() {
        true => walk::walk(&base_paths),
        false => Found { projects: args.projects.iter().cloned().collect(), problems: Vec::new() },
    };
    let is_first = |project: &&ProjectName| FIRST.contains(&project.as_str());
    let (first, others): (Vec<&ProjectName>, Vec<&ProjectName>) = projects.iter().partition(is_first);
    let differences = match (args.again, args.set_aside) {
        (true, _) => Differences::Commit,
        (false, true) => Differences::SetAside,
        (false, false) => Differences::Refuse,
    };
    let seed = Seed {
        target: &args.target,
        base_paths: &base_paths,
        alone: args.alone,
        reports: !args.no_report && differences == Differences::Refuse,
        differences,
    };
    let (mut failed, mut left_out) = (Vec::new(), Vec::new());
    let mut waiting = Vec::new();
    // All projects are committed before the command waits for another site, so that the other site applies them
    // meanwhile. Gerrit's own projects go one after the other.
    for (group, side_by_side) in [(first, 1), (others, SIDE_BY_SIDE)] {
        let mut ends =
            stream::iter(group.into_iter().map(|project| seed.until_committed(project))).buffered(side_by_side);
        while let Some((project, end)) = ends.next().await {
            match end? {
                End::Open(line, refs) => left_out.extend(opened(project, &line, &refs)),
                End::Waiting => waiting.push(project),
                End::Failed(problems) => failed.push(tell(project, &problems)),
            }
        }
    }
    for project in waiting {
        match seed.until_open(project).await? {
            End::Open(line, refs) => left_out.extend(opened(project, &line, &refs)),
            End::Failed(problems) => failed.push(tell(project, &problems)),
            End::Waiting => failed.push(format!(
                "{project}: no other site holds it yet; start a sidecar at another site and run this command again, or \
                 give --alone if there is no other site"
            )),
        }
    }
    conclude(projects.len(), &failed, &left_out, &problems)
}

/// Prints the line of a project that is open. Returns the text about its refs that were left out, if there are any.
fn opened(project: &ProjectName, line: &str, left_out: &[String]) -> Option<String> {
    println!("{line}");
    (!left_out.is_empty()).then(|| tell(project, left_out))
}

/// The end of the command: a success only if every repository that Gerrit lists is seeded whole.
fn conclude(count: usize, failed: &[String], left_out: &[String], not_taken: &[String]) -> Result<(), CliError> {
    let mut parts = Vec::new();
    if !failed.is_empty() {
        let head = format!("{} of {count} projects are not open. Fix the problems of each project", failed.len());
        parts.push(format!("{head}, then run the same command again:\n{}", failed.join("\n")));
    }
    if !left_out.is_empty() {
        let head = format!("refs of {} open projects are not replicated, and stay on this disk alone", left_out.len());
        parts.push(format!("{head}:\n{}", left_out.join("\n")));
    }
    if !not_taken.is_empty() {
        let head = format!("{} repositories were not seeded, and Gerrit cannot write to them", not_taken.len());
        parts
            .push(format!("{head}. Follow the advice, then run the same command again:\n  {}", not_taken.join("\n  ")));
    }
    if failed.is_empty() {
        println!("{count} projects are seeded, verified and open");
    }
    if parts.is_empty() { Ok(()) } else { Err(CliError::Refused(parts.join("\n"))) }
}

fn tell(project: &ProjectName, problems: &[String]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    format!("{project}:\n{}", lines.join("\n"))
}

struct Seed<'a> {
    target: &'a Target,
    base_paths: &'a BasePaths,
    alone: bool,
    reports: bool,
    differences: Differences,
}

impl Seed<'_> {
    /// Seeds a project until all its refs are committed, or it has failed.
    async fn until_committed<'p>(&self, project: &'p ProjectName) -> (&'p ProjectName, Result<End, CliError>) {
        (project, self.follow(project, |stage| stage != SeedStage::Seeding).await)
    }

    /// Seeds a project until it is open, or it has failed.
    async fn until_open(&self, project: &ProjectName) -> Result<End, CliError> {
        self.follow(project, |stage| matches!(stage, SeedStage::Open | SeedStage::Failed)).await
    }

    /// Asks for the seed again and again, and shows its progress, until `is_over`.
    async fn follow(&self, project: &ProjectName, is_over: impl Fn(SeedStage) -> bool) -> Result<End, CliError> {
        let mut shown = String::new();
        loop {
            let seed = self.ask(project).await?;
            let line = progress(project, &seed);
            if line != shown {
                eprintln!("{line}");
                shown = line;
            }
            if is_over(seed.stage) {
                return match seed.stage {
                    SeedStage::Open => self.hold_against_git(project, &seed),
                    SeedStage::Failed => Ok(End::Failed(problems(seed))),
                    SeedStage::Waiting | SeedStage::Seeding => Ok(End::Waiting),
                };
            }
        }
    }

    /// Asks the sidecar to seed a project, and returns the progress. Retries while the sidecar restarts.
    async fn ask(&self, project: &ProjectName) -> Result<SeedResponse, CliError> {
        let wait_ms = u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX);
        let body = SeedRequest { alone: self.alone, wait_ms, differences: self.differences };
        let call = Call::new(Method::POST, project_path(project, "/seed"), &body).map_err(CliError::failed)?;
        let until = Instant::now() + RESTART;
        loop {
            let answer = self.target.client()?.send(&call, Instant::now() + DEADLINE).await;
            let may_pass = match &answer {
                Err(ClientError::Answered(error)) => error.retry,
                Err(ClientError::NotSent { .. } | ClientError::NoAnswer(_)) => true,
                Ok(_) => false,
            };
            if !may_pass || Instant::now() >= until {
                return Ok(answer?);
            }
            sleep(PAUSE).await;
        }
    }

    /// Compares the refs that git lists with the refs that the sidecar found in the refdb.
    fn hold_against_git(&self, project: &ProjectName, seed: &SeedResponse) -> Result<End, CliError> {
        let git = GitDir::at(&self.base_paths.git_dir(project)).map_err(CliError::failed)?;
        let (commands, left_out) = (existing::refs(&git)?, existing::fit(&git)?);
        let mut digest = Sha256::new();
        for command in &commands {
            let oid = command.new.map(|oid| oid.to_string()).unwrap_or_default();
            digest.update(format!("{oid} {}\n", command.name));
        }
        let digest = hex::encode(digest.finalize());
        if seed.digest.as_ref() != Some(&digest) {
            let text = format!(
                "the {} refs that git lists differ from the {} refs of the refdb: something wrote to the repository \
                 during the seed; stop it, then run this command again",
                commands.len(),
                seed.refs
            );
            return Ok(End::Failed(vec![text]));
        }
        let mut lines =
            vec![format!("{project}: open; {} refs on the disk = refdb (sha256 {})", seed.refs, &digest[..16])];
        if seed.strays > 0 {
            let strays = seed.strays;
            lines.push(format!("{project}: {strays} values are kept as strays: `lockstep stray list {project}`"));
        }
        if self.reports {
            let report = old_sins::begin(&git).and_then(|report| report.lines(project.as_str()));
            lines.extend(report.map_err(CliError::failed)?);
        }
        Ok(End::Open(lines.join("\n"), left_out))
    }
}

fn progress(project: &ProjectName, seed: &SeedResponse) -> String {
    let refs = format!("{project}: {} of {} refs committed", seed.done, seed.refs);
    match &seed.waits_for {
        Some(who) if seed.stage == SeedStage::Waiting => format!("{refs}; waits for {who}"),
        _ => refs,
    }
}

fn problems(seed: SeedResponse) -> Vec<String> {
    let mut problems = seed.problems;
    if seed.more_problems > 0 {
        problems.push(format!("and {} more", seed.more_problems));
    }
    problems
}
