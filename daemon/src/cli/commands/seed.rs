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
use super::target::OperatorTarget;
use super::walk::{self, Found};
use crate::base::base_paths::BasePaths;
use crate::cli::out;
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
    target: OperatorTarget,
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
    /// (operators only)
    #[arg(long, conflicts_with = "set_aside")]
    again: bool,
    /// Write the committed values over refs on this disk that differ, and keep those as strays; name the projects
    /// (operators only)
    #[arg(long, requires = "projects")]
    set_aside: bool,
    /// Seed only these projects
    projects: Vec<ProjectName>,
    /// Print all fields as JSON instead of text, at the end
    #[arg(long)]
    json: bool,
}

/// The output with `--json`.
#[derive(serde::Serialize)]
struct Report {
    projects: Vec<Seeded>,
    /// The repositories that make no project, with advice.
    not_seeded: Vec<String>,
}

/// The result of seeding one project.
#[derive(serde::Serialize)]
struct Seeded {
    project: ProjectName,
    /// The last answer of the sidecar. Its stage is `failed` if the refdb has other refs than git lists.
    #[serde(flatten)]
    answer: SeedResponse,
    /// The refs that were left out, with reasons.
    left_out: Vec<String>,
    /// The objects that break rules of git, as lines of text.
    report: Vec<String>,
}

pub(super) async fn run(args: SeedArgs) -> Result<(), CliError> {
    // The sidecar can seed only the repositories on its own volume.
    let base_paths = args.target.target.base_paths_at(args.root.as_deref()).await?.resolve();
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
    let (mut ended, mut waiting) = (Vec::new(), Vec::new());
    // All projects are committed before the command waits for another site, so that the other site applies them
    // meanwhile. Gerrit's own projects go one after the other.
    for (group, side_by_side) in [(first, 1), (others, SIDE_BY_SIDE)] {
        let mut ends =
            stream::iter(group.into_iter().map(|project| seed.until_committed(project))).buffered(side_by_side);
        while let Some(end) = ends.next().await {
            let one = end?;
            match one.answer.stage {
                SeedStage::Open | SeedStage::Failed => ended.push(one.shown(args.json)),
                SeedStage::Waiting | SeedStage::Seeding => waiting.push(one.project),
            }
        }
    }
    for project in waiting {
        ended.push(seed.until_open(&project).await?.shown(args.json));
    }
    conclude(Report { projects: ended, not_seeded: problems }, args.json)
}

/// The end of the command: a success only if every repository that Gerrit lists is seeded whole.
fn conclude(report: Report, json: bool) -> Result<(), CliError> {
    if json {
        out::put(&super::json(&report)?)?;
    }
    let Report { projects, not_seeded } = report;
    let count = projects.len();
    let is_open = |one: &&Seeded| one.answer.stage == SeedStage::Open;
    let failed: Vec<String> =
        projects.iter().filter(|one| !is_open(one)).map(|one| tell(&one.project, &problems(&one.answer))).collect();
    let left_out: Vec<String> = projects
        .iter()
        .filter(|one| is_open(one) && !one.left_out.is_empty())
        .map(|one| tell(&one.project, &one.left_out))
        .collect();
    let mut parts = Vec::new();
    if !failed.is_empty() {
        let head = format!("{} of {count} projects are not open. Fix the problems of each project", failed.len());
        parts.push(format!("{head}, then run the same command again:\n{}", failed.join("\n")));
    }
    if !left_out.is_empty() {
        let head = format!("refs of {} open projects are not replicated, and stay on this disk alone", left_out.len());
        parts.push(format!("{head}:\n{}", left_out.join("\n")));
    }
    if !not_seeded.is_empty() {
        let head = format!("{} repositories were not seeded, and Gerrit cannot write to them", not_seeded.len());
        let advice = not_seeded.join("\n  ");
        parts.push(format!("{head}. Follow the advice, then run the same command again:\n  {advice}"));
    }
    if failed.is_empty() && !json {
        println!("{count} projects are seeded, verified and open");
    }
    if parts.is_empty() { Ok(()) } else { Err(CliError::Refused(parts.join("\n"))) }
}

fn tell(project: &ProjectName, problems: &[String]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    format!("{project}:\n{}", lines.join("\n"))
}

impl Seeded {
    /// Prints the lines of a project that is open, unless the output is JSON.
    fn shown(self, json: bool) -> Self {
        if self.answer.stage == SeedStage::Open && !json {
            self.lines().iter().for_each(|line| println!("{line}"));
        }
        self
    }

    fn lines(&self) -> Vec<String> {
        let Self { project, answer, report, .. } = self;
        let digest = answer.digest.as_deref().unwrap_or_default();
        let digest = digest.get(..16).unwrap_or(digest);
        let mut lines = vec![format!("{project}: open; {} refs on the disk = refdb (sha256 {digest})", answer.refs)];
        if answer.strays > 0 {
            let strays = answer.strays;
            lines.push(format!("{project}: {strays} values are kept as strays: `lockstep stray list {project}`"));
        }
        lines.extend(report.iter().cloned());
        lines
    }

    /// The result of a project that is not open, for a reason that the sidecar does not know.
    fn failed(mut self, why: String) -> Self {
        self.answer.stage = SeedStage::Failed;
        self.answer.problems.push(why);
        self
    }
}

struct Seed<'a> {
    target: &'a OperatorTarget,
    base_paths: &'a BasePaths,
    alone: bool,
    reports: bool,
    differences: Differences,
}

impl Seed<'_> {
    /// Seeds a project until all its refs are committed, or it has failed.
    async fn until_committed(&self, project: &ProjectName) -> Result<Seeded, CliError> {
        self.follow(project, |stage| stage != SeedStage::Seeding).await
    }

    /// Seeds a project until it is open, or it has failed.
    async fn until_open(&self, project: &ProjectName) -> Result<Seeded, CliError> {
        self.follow(project, |stage| matches!(stage, SeedStage::Open | SeedStage::Failed)).await
    }

    /// Asks for the seed again and again, and shows its progress, until `is_over`.
    async fn follow(&self, project: &ProjectName, is_over: impl Fn(SeedStage) -> bool) -> Result<Seeded, CliError> {
        let mut shown = String::new();
        loop {
            let answer = self.ask(project).await?;
            let line = progress(project, &answer);
            if line != shown {
                eprintln!("{line}");
                shown = line;
            }
            if is_over(answer.stage) {
                let is_open = answer.stage == SeedStage::Open;
                let (left_out, report) = (Vec::new(), Vec::new());
                let seeded = Seeded { project: project.clone(), answer, left_out, report };
                return if is_open { self.hold_against_git(seeded) } else { Ok(seeded) };
            }
        }
    }

    /// Asks the sidecar to seed a project, and returns the progress. Retries while the sidecar restarts.
    async fn ask(&self, project: &ProjectName) -> Result<SeedResponse, CliError> {
        let wait_ms = u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX);
        let body = SeedRequest { alone: self.alone, wait_ms, differences: self.differences };
        let call = Call::new(Method::POST, project_path(project, "/seed"), &body).map_err(CliError::failed)?;
        let client = match self.differences {
            Differences::Refuse => self.target.target.client()?,
            Differences::Commit | Differences::SetAside => self.target.client()?,
        };
        let until = Instant::now() + RESTART;
        loop {
            let answer = client.send(&call, Instant::now() + DEADLINE).await;
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
    fn hold_against_git(&self, mut seeded: Seeded) -> Result<Seeded, CliError> {
        let git = GitDir::at(&self.base_paths.git_dir(&seeded.project)).map_err(CliError::failed)?;
        let commands = existing::refs(&git)?;
        seeded.left_out = existing::fit(&git)?;
        let mut digest = Sha256::new();
        for command in &commands {
            let oid = command.new.map(|oid| oid.to_string()).unwrap_or_default();
            digest.update(format!("{oid} {}\n", command.name));
        }
        if seeded.answer.digest != Some(hex::encode(digest.finalize())) {
            let text = format!(
                "the {} refs that git lists differ from the {} refs of the refdb: something wrote to the repository \
                 during the seed; stop it, then run this command again",
                commands.len(),
                seeded.answer.refs
            );
            return Ok(seeded.failed(text));
        }
        if self.reports {
            let report = old_sins::begin(&git).and_then(|report| report.lines(seeded.project.as_str()));
            seeded.report = report.map_err(CliError::failed)?;
        }
        Ok(seeded)
    }
}

fn progress(project: &ProjectName, seed: &SeedResponse) -> String {
    let refs = format!("{project}: {} of {} refs committed", seed.done, seed.refs);
    match &seed.waits_for {
        Some(who) if seed.stage == SeedStage::Waiting => format!("{refs}; waits for {who}"),
        _ => refs,
    }
}

fn problems(answer: &SeedResponse) -> Vec<String> {
    let mut problems = answer.problems.clone();
    if answer.more_problems > 0 {
        problems.push(format!("and {} more", answer.more_problems));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_is_the_one_that_the_page_shows() {
        let waits_for = Some("muc-1-0 of site muc-1 (4 transactions behind)".to_owned());
        let waiting =
            SeedResponse { stage: SeedStage::Waiting, refs: 9, done: 9, waits_for, ..SeedResponse::default() };
        let project = "All-Projects".parse().unwrap();
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/seeding.md")).unwrap();
        let line = progress(&project, &waiting);
        assert!(page.lines().any(|shown| shown.trim() == line), "{line}");
        let seeding = SeedResponse { stage: SeedStage::Seeding, done: 4, ..waiting };
        assert_eq!(progress(&project, &seeding), "All-Projects: 4 of 9 refs committed");
    }
}
