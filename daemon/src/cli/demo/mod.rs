//! `lockstep demo`: three sites in one process on the embedded emulators. The user pushes to one of them with plain git
//! and sees the push arrive at the others.
//!
//! The demo takes no shortcuts. Each site is a whole sidecar on its own volume, and git's hooks call it through its
//! socket. The sidecars reach the refdb and the event log through the AWS adapters.
//!
//! | file | idea |
//! |---|---|
//! | `sites` | starts three sidecars and the emulators |
//! | `console` | a certificate and a token for the console of each site |
//! | `work` | a clone that commits, and pushes to one site after the other |
//! | `table` | a live table of the transactions, with their commit times and their lag per site |
//! | `verify` | compares all sites at the end |

mod console;
mod sites;
mod table;
mod verify;
mod work;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::node::assembly::stop_signal;
use sites::Sites;
use table::Table;
use work::Work;

/// A failure of the demo, as text.
#[derive(Debug, thiserror::Error)]
#[error("demo: {0}")]
pub struct DemoError(pub String);

impl DemoError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Runs three sites on this machine and replicates between them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  lockstep demo --for 30s --json")]
pub struct DemoArgs {
    /// Keep the sites' folders in this folder (default: a temporary folder that is removed at the end)
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Stop after this time, for example 30s or 5m (default: run until interrupted)
    #[arg(long = "for", value_parser = crate::node::config::value::duration)]
    pub for_time: Option<std::time::Duration>,
    /// Print events as JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Seed the first site with the branches and tags of this repository
    #[arg(long)]
    pub repo: Option<PathBuf>,
}

/// The time between two of the demo's own pushes.
const PUSH_EVERY: Duration = Duration::from_millis(700);
/// How long the sites may take to become equal after the last push.
const CONVERGE: Duration = Duration::from_secs(30);

/// How long to wait for the signal that may have ended a child process: it can arrive later than the child's end.
const NEWS: Duration = Duration::from_millis(200);
/// How long to retry the removal of the temporary folder.
const REMOVE: Duration = Duration::from_secs(5);

/// Runs the demo until it is interrupted, or for the given time.
///
/// # Errors
/// A site did not start, a push failed, or the sites are not equal in the end.
pub async fn run(args: DemoArgs) -> Result<(), DemoError> {
    let (folder, temporary) = folder(args.dir.as_deref())?;
    let ended = run_in(&args, &folder).await;
    if let Some(temporary) = temporary {
        remove(temporary).await;
    }
    ended
}

async fn run_in(args: &DemoArgs, folder: &Path) -> Result<(), DemoError> {
    let mut stop = pin!(stop_signal());
    let sites = tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        sites = Sites::start(folder) => sites?,
    };
    let ended = tokio::select! {
        biased;
        () = &mut stop => Ok(()),
        ended = play(args, folder, &sites) => match ended {
            // Ctrl-C also ends the git processes of the demo. Their failure is then expected.
            Err(_) if timeout(NEWS, &mut stop).await.is_ok() => Ok(()),
            ended => ended,
        },
    };
    if !args.json {
        eprintln!("\nstopping the three sites");
    }
    tokio::select! {
        biased;
        () = sites.stop() => {}
        () = stop_signal() => eprintln!("stopped at once by a second signal"),
    }
    ended
}

async fn play(args: &DemoArgs, folder: &Path, sites: &Sites) -> Result<(), DemoError> {
    sites.ready().await?;
    let mut work = Work::prepare(folder, sites, args.repo.as_deref()).await?;
    if !args.json {
        say(&sites.welcome(&work.clone))?;
    }
    let mut table = Table::new(sites, args.json);
    say(&table.header())?;
    let end = args.for_time.map(|time| Instant::now() + time);
    let mut next_push = Instant::now();
    // Without a time limit, the demo pushes a few commits itself. After that, only the user pushes.
    let mut own_pushes = if end.is_some() { usize::MAX } else { 12 };
    while end.is_none_or(|end| Instant::now() < end) {
        if own_pushes > 0 && Instant::now() >= next_push {
            match work.push_next(sites).await {
                // The user has made this site a standby.
                Err(error) if error.0.contains("takes no commits now") => say(&format!("{error}\n"))?,
                pushed => pushed?,
            }
            own_pushes -= 1;
            next_push = Instant::now() + PUSH_EVERY;
        }
        say(&table.refresh(sites).await)?;
        sleep(Duration::from_millis(50)).await;
    }
    let report = verify::converged(sites, CONVERGE).await?;
    say(&table.refresh(sites).await)?;
    say(&table.summary(&report))?;
    if report.equal {
        Ok(())
    } else {
        Err(DemoError(format!("the sites are not equal: {}", report.differences.join("; "))))
    }
}

/// Prints a text. The demo ends if the reader of standard output has closed it.
fn say(text: &str) -> Result<(), DemoError> {
    crate::cli::out::put(text).map_err(DemoError::of)
}

/// The given folder, or a temporary one that is removed at the end of the demo.
fn folder(given: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), DemoError> {
    if let Some(folder) = given {
        std::fs::create_dir_all(folder).map_err(|error| DemoError(format!("--dir {}: {error}", folder.display())))?;
        return Ok((std::path::absolute(folder).map_err(DemoError::of)?, None));
    }
    let temporary = tempfile::Builder::new().prefix("lockstep-demo-").tempdir().map_err(DemoError::of)?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// Removes the temporary folder. A site that was stopped at once may still write files after the first attempt.
async fn remove(temporary: tempfile::TempDir) {
    let path = temporary.keep();
    let end = Instant::now() + REMOVE;
    loop {
        let removed = std::fs::remove_dir_all(&path);
        sleep(Duration::from_millis(100)).await;
        match removed {
            _ if !path.exists() => return,
            Err(error) if Instant::now() >= end => {
                eprintln!("{} cannot be removed ({error}); remove it by hand", path.display());
                return;
            }
            Ok(()) | Err(_) => {}
        }
    }
}
