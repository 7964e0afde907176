//! A clone that commits, and pushes with plain git to one site after the other.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lockstep_proto::bridge::{CreateProjectRequest, Outcome, RefusalCode};
use lockstep_proto::{RefName, limits};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::DemoError;
use super::sites::Sites;
use crate::base::ref_names;

/// How long the new project may take to arrive at every site.
const ARRIVE: Duration = Duration::from_secs(30);

/// The clone, and the number of commits that the demo has pushed from it.
pub(super) struct Work {
    pub(super) clone: PathBuf,
    count: usize,
}

impl Work {
    /// Creates the project if it does not exist, and pushes the first commits. With the folder of an earlier demo, the
    /// demo continues from there.
    pub(super) async fn prepare(folder: &Path, sites: &Sites, seed: Option<&Path>) -> Result<Self, DemoError> {
        let clone = folder.join("clone");
        let is_new = !clone.exists();
        create_project(sites).await?;
        if is_new {
            make_clone(&clone, seed).await?;
        }
        for site in &sites.sites {
            let url = site.repository().display().to_string();
            let _ = git(&clone, &["remote", "remove", site.name.as_str()]).await;
            git(&clone, &["remote", "add", site.name.as_str(), &url]).await?;
        }
        let work = Self { clone, count: 0 };
        if is_new {
            work.push_seed(sites).await?;
        }
        Ok(work)
    }

    /// Pushes all branches and tags of the clone to the first site, in parts that fit one transaction each.
    async fn push_seed(&self, sites: &Sites) -> Result<(), DemoError> {
        let listed = git(&self.clone, &["for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags"]).await?;
        let refs: Vec<RefName> = listed.lines().map(str::parse).collect::<Result<_, _>>().map_err(DemoError::of)?;
        let site = sites.sites[0].name.as_str();
        for part in ref_names::parts(&refs, |name| name, limits::WRITE_COMMANDS) {
            let both: Vec<String> = part.iter().map(|name| format!("{name}:{name}")).collect();
            let mut args = vec!["push", "-q", site];
            args.extend(both.iter().map(String::as_str));
            git(&self.clone, &args).await?;
        }
        Ok(())
    }

    /// Makes one commit and pushes it to the next site. Every fifth time, an atomic push also creates a tag and a
    /// branch, and a second push deletes the branch.
    pub(super) async fn push_next(&mut self, sites: &Sites) -> Result<(), DemoError> {
        self.count += 1;
        let site = sites.sites[self.count % sites.sites.len()].name.as_str();
        let message = format!("demo commit {}", self.count);
        let branch = format!("refs/heads/demo-{}", site);
        let _ = git(&self.clone, &["fetch", "-q", site, &format!("+{branch}:refs/demo/tip")]).await;
        let _ = git(&self.clone, &["checkout", "-q", "--detach", "refs/demo/tip"]).await;
        git(&self.clone, &["commit", "-q", "--allow-empty", "-m", &message]).await?;
        let update = format!("HEAD:{branch}");
        if !self.count.is_multiple_of(5) {
            return git(&self.clone, &["push", "-q", site, &update]).await.map(drop);
        }
        let (tag, topic) =
            (format!("HEAD:refs/tags/demo-{}", now_tag()), format!("HEAD:refs/heads/topic/{}", self.count));
        git(&self.clone, &["push", "-q", "--atomic", site, &update, &format!("+{tag}"), &format!("+{topic}")]).await?;
        git(&self.clone, &["push", "-q", site, &format!(":refs/heads/topic/{}", self.count)]).await.map(drop)
    }
}

/// A tag name that no earlier run of the demo has used: the time in milliseconds.
fn now_tag() -> String {
    use crate::base::clock::Clock;
    crate::base::clock::SystemClock.now_ms().to_string()
}

async fn create_project(sites: &Sites) -> Result<(), DemoError> {
    let project = "demo".parse().map_err(DemoError::of)?;
    let head = "refs/heads/main".parse().map_err(DemoError::of)?;
    let request = CreateProjectRequest { request_id: "demo".into(), head };
    let bridge = sites.sites[0].sidecar.node.transactions();
    let response = bridge.create_project(&project, request).await.map_err(|error| DemoError(error.message))?;
    let exists = response.refusal.as_ref().is_some_and(|refusal| refusal.code == RefusalCode::Project);
    let committed = matches!(response.outcome, Outcome::Committed | Outcome::CommittedNotYetVisible);
    if !committed && !exists {
        let why = response.refusal.map_or("no reason was given".to_owned(), |refusal| refusal.message);
        return Err(DemoError(format!("the project was not created: {why}")));
    }
    let end = Instant::now() + ARRIVE;
    while !sites.sites.iter().all(|site| site.repository().exists()) {
        if Instant::now() >= end {
            return Err(DemoError("the project did not arrive at every site in time".into()));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Clones the given repository. Without one, makes a small repository with a few commits and a tag.
async fn make_clone(clone: &Path, seed: Option<&Path>) -> Result<(), DemoError> {
    let path = clone.display().to_string();
    let here = Path::new(".");
    if let Some(seed) = seed {
        let cloned = git(here, &["clone", "-q", "--no-local", &seed.display().to_string(), &path]).await;
        cloned.map_err(|error| DemoError(format!("--repo {}: {}", seed.display(), error.0)))?;
        // A clone has the other branches as remote-tracking branches. The demo pushes them, so they must be local.
        git(clone, &["fetch", "-q", "--update-head-ok", "origin", "+refs/heads/*:refs/heads/*"]).await?;
    } else {
        git(here, &["init", "-q", "-b", "main", &path]).await?;
    }
    for (key, value) in
        [("user.name", "Lockstep demo"), ("user.email", "demo@lockstep.invalid"), ("push.default", "nothing")]
    {
        git(clone, &["config", key, value]).await?;
    }
    if seed.is_none() {
        for number in 1..=5 {
            let file = clone.join(format!("file-{number}.txt"));
            tokio::fs::write(&file, format!("the content of file {number}\n")).await.map_err(DemoError::of)?;
            git(clone, &["add", "."]).await?;
            git(clone, &["commit", "-q", "-m", &format!("seed {number}")]).await?;
        }
        git(clone, &["tag", "-a", "v1", "-m", "first"]).await?;
    }
    Ok(())
}

/// Runs git in a folder and returns its standard output.
pub(super) async fn git(folder: &Path, args: &[&str]) -> Result<String, DemoError> {
    let output = Command::new("git")
        .args(["-c", "advice.detachedHead=false", "-c", "init.defaultBranch=main"])
        .arg("-C")
        .arg(folder)
        .args(args)
        .stdin(Stdio::null())
        .env("GIT_TERMINAL_PROMPT", "0")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| DemoError(format!("git cannot be run ({error}); install git")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(DemoError(format!("git {}: {}", args.join(" "), text.trim())))
}
