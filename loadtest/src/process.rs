//! `lockstep run` as a separate process, with the emulators outside of it, for figures about a process's resources.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::Method;
use lockstep::clients::api_client::{Call, Client, project_path};
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{CreateProjectRequest, Outcome, ProjectResponse};
use lockstep_proto::status::NodeStatus;
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::cloud::Cloud;
use crate::site::PATIENCE;

/// The `lockstep` binary of the same build, which is beside this one.
pub fn lockstep() -> Fallible<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("lockstep");
    if binary.exists() {
        return Ok(binary);
    }
    Err(format!("{} does not exist: run `make bench`, which builds it", binary.display()).into())
}

/// A running sidecar. It is killed when this is dropped.
pub struct Process {
    child: Child,
    /// A client of its bridge API.
    pub client: Client,
    /// The root of its repositories.
    pub root: PathBuf,
    socket: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts the sidecar of one of `sites`. It becomes ready only once all of `sites` have started.
    pub fn start(cloud: &Cloud, site: &str, sites: &[&str]) -> Fallible<Self> {
        Self::configured(cloud, site, sites, |_| String::new())
    }

    /// The same, with further sections of the configuration. They are made from the root of its repositories.
    pub fn configured(
        cloud: &Cloud,
        site: &str,
        sites: &[&str],
        sections: impl FnOnce(&Path) -> String,
    ) -> Fallible<Self> {
        let home = cloud.folder().join(format!("process-{site}"));
        let (root, socket) = (home.join("git"), home.join("api.sock"));
        std::fs::create_dir_all(&root)?;
        let config = home.join("lockstep.toml");
        std::fs::write(&config, text(cloud, &home, site, sites) + &sections(&root))?;
        let log = home.join("log");
        let child = spawn(&config, &log)?;
        Ok(Self { child, client: Client::new(&socket), root, socket, config, log })
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) -> Fallible<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after its end.
    pub fn restart(&mut self) -> Fallible<()> {
        self.child = spawn(&self.config, &self.log)?;
        Ok(())
    }

    /// Waits until it is ready.
    pub async fn ready(&self) -> Fallible<()> {
        let end = Instant::now() + PATIENCE;
        let call = Call::get("/v1/status");
        loop {
            let status = self.client.send::<NodeStatus>(&call, Instant::now() + Duration::from_secs(1)).await;
            match status {
                Ok(status) if status.ready => return Ok(()),
                _ if Instant::now() >= end => return Err("a sidecar did not become ready in time".into()),
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The process id of the sidecar.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The socket of its bridge API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Creates a project with `HEAD` at `refs/heads/main`. Fails unless it is committed.
    pub async fn create_project(&self, name: &str) -> Fallible<ProjectName> {
        let project: ProjectName = name.parse()?;
        let request = CreateProjectRequest { request_id: format!("create-{name}"), head: "refs/heads/main".parse()? };
        let call = Call::new(Method::PUT, project_path(&project, ""), &request)?;
        let answer: ProjectResponse = self.client.send(&call, Instant::now() + PATIENCE).await?;
        match answer.outcome {
            Outcome::Committed => Ok(project),
            _ => Err(format!("{name} was not created: {:?}", answer.refusal).into()),
        }
    }

    /// Installs the git hooks in a project's repository, as an operator does.
    pub fn install_hooks(&self, project: &ProjectName) -> Fallible<PathBuf> {
        let repository = self.root.join(format!("{project}.git"));
        let mut command = Command::new(lockstep()?);
        command.args(["hook", "install"]).arg(&repository).args(["--project", project.as_str(), "--socket"]);
        let output = command.arg(&self.socket).output()?;
        if output.status.success() {
            return Ok(repository);
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

fn spawn(config: &Path, log: &Path) -> Fallible<Child> {
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(lockstep()?);
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.spawn()?)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(cloud: &Cloud, home: &Path, site: &str, sites: &[&str]) -> String {
    format!(
        r#"
site = "{site}"
node = "{site}-0"
sites = {sites:?}
root = "{home}/git"
state = "{home}/git/.lockstep"
[api]
socket = "{home}/api.sock"
[health]
listen = "127.0.0.1:0"
[refdb]
prefix = "bench"
region = "us-east-1"
endpoint = "{dynamo}"
[eventlog]
prefix = "bench"
region = "us-east-1"
endpoint = "{kinesis}"
poll_interval = "50ms"
[blobs]
url = "file://{blobs}"
"#,
        home = home.display(),
        dynamo = cloud.dynamo_endpoint(),
        kinesis = cloud.kinesis_endpoint(),
        blobs = cloud.folder().join("blobs").display(),
    )
}
