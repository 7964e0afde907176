//! One Gerrit: the folder of its site, its configuration and its process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::login::ADMIN;
use super::{FIRST_PROJECTS, Kit};
use crate::e2e::git::{ok, quiet};
use crate::e2e::node::{Node, free_port};

/// The limit for the start of a Gerrit. It takes some seconds, and on a busy machine more than a minute.
const START: Duration = Duration::from_secs(240);
/// Options for a Java virtual machine that starts quickly and stays small.
const JVM: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// A Gerrit, running or not. Its process is killed when this is dropped.
pub struct Server {
    /// The address of its HTTP listener.
    pub http: SocketAddr,
    /// The address of its SSH listener.
    pub ssh: SocketAddr,
    /// The programs of its release. An upgrade replaces them.
    pub kit: Kit,
    name: String,
    site: PathBuf,
    is_replica: bool,
    child: Option<Child>,
}

impl Server {
    /// Initialises a site without Lockstep, as an administrator does first, and moves its first repositories to the
    /// volume of a node.
    pub async fn found(kit: &Kit, node: &Node, site: &Path) -> Self {
        let server = Self::init(kit, node, site).await;
        for project in FIRST_PROJECTS {
            let made = site.join("git").join(format!("{project}.git"));
            std::fs::rename(made, node.repository(project)).expect("the repository moves");
        }
        server
    }

    /// Initialises a site by itself, although it should be a copy of the first one.
    pub async fn apart(first: &Self, node: &Node, site: &Path) -> Self {
        Self::init(&first.kit, node, site).await
    }

    /// Initialises a site that never has Lockstep. Its repositories are in its own folder `git`.
    pub async fn plain(kit: &Kit, name: &str, site: &Path) -> Self {
        let server = Self::named(kit, name, site);
        server.initialise().await;
        server.wait_until_served(name).await;
        server
    }

    async fn init(kit: &Kit, node: &Node, site: &Path) -> Self {
        let server = Self::at(kit, node, site);
        server.initialise().await;
        server.set("gerrit.basePath", &node.root.display().to_string()).await;
        server
    }

    async fn initialise(&self) {
        let folder = self.site.display().to_string();
        let init = ["init", "-d", &folder, "--batch", "--dev", "--no-auto-start"];
        let _ = ok(self.java(&init).output().await.expect("java runs"));
    }

    /// Creates a site from the first one: a copy of its folder, over the repositories of another node.
    pub async fn copy(first: &Self, node: &Node, site: &Path) -> Self {
        let server = Self::at(&first.kit, node, site);
        let _ = ok(Command::new("cp").arg("-a").arg(&first.site).arg(site).output().await.expect("cp runs"));
        server.set("gerrit.basePath", &node.root.display().to_string()).await;
        server
    }

    fn at(kit: &Kit, node: &Node, site: &Path) -> Self {
        Self::named(kit, &format!("gerrit of {}", node.name), site)
    }

    fn named(kit: &Kit, name: &str, site: &Path) -> Self {
        let (name, site) = (name.to_owned(), site.to_owned());
        Self { http: free_port(), ssh: free_port(), kit: kit.clone(), name, site, is_replica: false, child: None }
    }

    /// Puts a site under Lockstep, as an administrator does.
    pub async fn install_bridge(&self, node: &Node) {
        self.put(&self.kit.bridge, "lib");
        self.put(&self.kit.plugin, "plugins");
        for (key, value) in [
            ("gerrit.installDbModule", "io.lockstep.bridge.BridgeDbModule"),
            ("gerrit.installModule", "io.lockstep.bridge.BridgeModule"),
            ("lockstep.socket", &node.socket().display().to_string()),
            ("core.usePerRequestRefCache", "false"),
        ] {
            self.set(key, value).await;
        }
        self.wait_until_served(&node.name).await;
    }

    /// Takes the bridge off a stopped site, as an administrator does.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn remove_bridge(&self) {
        for (jar, folder) in [(&self.kit.bridge, "lib"), (&self.kit.plugin, "plugins")] {
            std::fs::remove_file(self.site.join(folder).join(jar.file_name().expect("a jar"))).expect("the jar");
        }
        for key in ["gerrit.installDbModule", "gerrit.installModule", "lockstep.socket"] {
            let _ = self.config(&["--unset-all", key]).await;
        }
    }

    /// Configures the site without the bridge: a stock Gerrit.
    pub async fn install_nothing(&self, node: &Node) {
        self.wait_until_served(&node.name).await;
    }

    /// Sets the values that every Gerrit needs to run beside others on one machine.
    async fn wait_until_served(&self, instance: &str) {
        let url = format!("http://{}/", self.http);
        for (key, value) in [
            ("gerrit.instanceId", instance),
            ("gerrit.canonicalWebUrl", &url),
            ("httpd.listenUrl", &url),
            ("sshd.listenAddress", &self.ssh.to_string()),
            // There is no mail server here, and Gerrit would try to send each mail again.
            ("sendemail.enable", "false"),
        ] {
            self.set(key, value).await;
        }
        for (key, value) in &self.kit.settings {
            self.set(key, &value.replace("{node}", instance)).await;
        }
        if let Some(module) = &self.kit.extra_module {
            let _ = self.config(&["--add", "gerrit.installModule", module]).await;
        }
    }

    /// Makes it a replica with HTTP, as `gerrit.sh` does for `container.daemonOpt = --enable-httpd`.
    pub async fn make_replica(&mut self) {
        self.set("container.replica", "true").await;
        self.is_replica = true;
    }

    /// Copies a jar into a folder of the site.
    fn put(&self, jar: &Path, folder: &str) {
        let folder = self.site.join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::copy(jar, folder.join(jar.file_name().expect("a jar"))).expect("the jar is copied");
    }

    /// Starts the process.
    ///
    /// # Panics
    /// If it cannot be started, or runs already.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} is already running", self.name);
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let site = self.site.display().to_string();
        let mut command = self.java(&["daemon", "-d", &site, "--console-log", "--headless"]);
        if self.is_replica {
            command.args(["--replica", "--enable-httpd"]);
        }
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("Gerrit starts"));
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// If the process ended, or does not answer for too long.
    pub async fn ready(&mut self) {
        let end = Instant::now() + START;
        // A replica has no REST API.
        let well = if self.is_replica { 404 } else { 200 };
        while !self.get("/config/server/version").await.is_ok_and(|answer| answer.status == well) {
            if let Some(ended) = self.child.as_mut().and_then(|child| child.try_wait().expect("a child")) {
                panic!("{} ended ({ended}) before it was ready\n{}", self.name, self.log_tail());
            }
            assert!(Instant::now() < end, "{} is not ready\n{}", self.name, self.log_tail());
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills the process with SIGKILL. Does nothing if it is dead already.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it can be killed");
        }
    }

    /// The id of the process, if it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// If it is not running.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        let id = Pid::from_raw(i32::try_from(id).expect("a process id")).expect("a process id");
        kill_process(id, signal).expect("a signal");
    }

    /// Stops the process with SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// If it is not running, or does not end for too long.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("it runs");
        let _ = timeout(START, child.wait()).await.expect("it ends").expect("a child");
    }

    /// Upgrades a stopped site to another release, as an administrator does. Does not start it.
    ///
    /// # Panics
    /// If `init` or `reindex` fails.
    pub async fn upgrade(&mut self, kit: &Kit) {
        assert!(self.child.is_none(), "{} must be stopped first", self.name);
        let old = std::mem::replace(&mut self.kit, kit.clone());
        for (jar, folder) in [(&old.bridge, "lib"), (&old.plugin, "plugins")] {
            std::fs::remove_file(self.site.join(folder).join(jar.file_name().expect("a jar"))).expect("the old jar");
        }
        self.put(&kit.bridge, "lib");
        self.put(&kit.plugin, "plugins");
        if old.extra_module != kit.extra_module
            && let Some(module) = &kit.extra_module
        {
            let _ = self.config(&["--add", "gerrit.installModule", module]).await;
        }
        let site = self.site.display().to_string();
        for program in [["init", "-d", &site, "--batch", "--no-auto-start"].as_slice(), &["reindex", "-d", &site]] {
            let _ = ok(self.java(program).output().await.expect("java runs"));
        }
    }

    /// Starts it, and waits until it answers.
    pub async fn run(&mut self) {
        self.start();
        self.ready().await;
    }

    /// Starts a Gerrit that must end by itself with an error, and returns its log.
    ///
    /// # Panics
    /// If it goes on running, or ends with success.
    pub async fn refuses_to_start(&mut self) -> String {
        self.start();
        let mut child = self.child.take().expect("it was started");
        let status = timeout(START, child.wait()).await.expect("it ends").expect("a child");
        assert!(!status.success(), "{}", self.log_tail());
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The URL from which the administrator clones a project.
    #[must_use]
    pub fn clone_url(&self, project: &str) -> String {
        format!("http://{}:{}@{}/a/{project}", ADMIN.0, ADMIN.1, self.http)
    }

    /// The lines of a file of known hosts: the host keys of this site, at its address.
    ///
    /// # Panics
    /// If the site has no host keys.
    #[must_use]
    pub fn known_hosts(&self) -> String {
        let files =
            std::fs::read_dir(self.site.join("etc")).expect("a folder").map(|file| file.expect("a file").path());
        let keys = files.filter(|path| path.extension().is_some_and(|end| end == "pub"));
        let line = |path: PathBuf| {
            let text = std::fs::read_to_string(path).expect("a key");
            let key: Vec<&str> = text.split_whitespace().take(2).collect();
            format!("[127.0.0.1]:{} {}\n", self.ssh.port(), key.join(" "))
        };
        let lines: String = keys.map(line).collect();
        assert!(!lines.is_empty(), "no host keys in {}", self.site.display());
        lines
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {}\n{}", self.name, lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    /// The length of its log, in bytes.
    ///
    /// # Panics
    /// If it has never been started.
    #[must_use]
    pub fn log_length(&self) -> u64 {
        std::fs::metadata(self.log()).expect("a log").len()
    }

    /// The part of its log that was written since it had this length.
    ///
    /// # Panics
    /// If it has never been started.
    #[must_use]
    pub fn log_since(&self, length: u64) -> String {
        let mut log = File::open(self.log()).expect("a log");
        let _ = log.seek(SeekFrom::Start(length)).expect("a position");
        let mut bytes = Vec::new();
        let _ = log.read_to_end(&mut bytes).expect("a log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A command that runs Gerrit's war. The launcher's own folder is beside the site: if the site's folder already
    /// exists, `init` takes it for a site to upgrade.
    fn java(&self, args: &[&str]) -> Command {
        let mut command = quiet(Command::new(&self.kit.java), self.beside());
        command.args(self.options()).args(args);
        command
    }

    fn beside(&self) -> &Path {
        self.site.parent().expect("a folder in a folder")
    }

    /// The options of `java` that run Gerrit's war.
    fn options(&self) -> Vec<String> {
        let beside = self.beside();
        let own = [
            format!("-Xmx{}", self.kit.heap),
            // The launcher unpacks its jars below `user.home`.
            format!("-Duser.home={}", beside.display()),
            format!("-Dlog4j.configuration=file://{}", self.log_settings(beside).display()),
            "-jar".to_owned(),
            self.kit.war.display().to_string(),
        ];
        JVM.map(str::to_owned).into_iter().chain(own).collect()
    }

    /// The text of a program for `drill.silent.gerrit_command`: it starts a Gerrit of this release on a copy. The shell
    /// runs the line `first` before.
    #[must_use]
    pub fn drill_program(&self, first: &str) -> String {
        let options: String = self.options().iter().map(|option| format!(" '{option}'")).collect();
        let java = self.kit.java.display();
        format!(
            "#!/bin/sh\nset -e\n{first}\n\
             exec '{java}'{options} daemon -d \"$LOCKSTEP_DRILL_SITE\" --console-log --headless\n"
        )
    }

    /// Runs one of Gerrit's offline programs on the site, while the Gerrit is down.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn program(&self, name: &str, args: &[&str]) -> Output {
        let site = self.site.display().to_string();
        self.java(&[name, "-d", &site]).args(args).output().await.expect("Java starts")
    }

    /// Writes the settings of the log. Without them, the war of the tests logs every line of its libraries. Which
    /// documents it indexes is always logged.
    fn log_settings(&self, folder: &Path) -> PathBuf {
        let (path, level) = (folder.join(format!("{}-log4j.properties", self.name)), self.kit.log_level);
        let text = format!(
            "log4j.rootLogger={level}, console\n\
             log4j.logger.com.google.gerrit.server.index.change.ChangeIndexer=DEBUG\n\
             log4j.logger.com.google.gerrit.server.index.account.AccountIndexerImpl=DEBUG\n\
             log4j.logger.com.google.gerrit.server.index.group.GroupIndexerImpl=DEBUG\n\
             log4j.logger.com.google.gerrit.server.index.project.ProjectIndexerImpl=DEBUG\n\
             log4j.appender.console=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.console.target=System.err\n\
             log4j.appender.console.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.console.layout.ConversionPattern=[%d] [%t] %-5p %c %x: %m%n\n"
        );
        std::fs::write(&path, text).expect("the folder can be written");
        path
    }

    /// The file with its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.site.join("console.log")
    }

    /// The folder of an index in its current version, such as that of `changes`.
    ///
    /// # Panics
    /// If there is none, or more than one.
    #[must_use]
    pub fn index(&self, name: &str) -> PathBuf {
        let all = std::fs::read_dir(self.site.join("index")).expect("the folder of the indexes");
        let paths = all.map(|entry| entry.expect("an entry").path());
        let is_it = |path: &PathBuf| {
            let file = path.file_name().and_then(|file| file.to_str());
            file.and_then(|file| file.strip_prefix(name)?.strip_prefix('_')).is_some()
        };
        let found: Vec<PathBuf> = paths.filter(is_it).collect();
        let [path] = found.as_slice() else { panic!("{name}: {found:?}") };
        path.clone()
    }

    /// Sets a value in `gerrit.config`, for the next start.
    pub async fn set(&self, key: &str, value: &str) {
        let _ = self.config(&[key, value]).await;
    }

    /// Reads a value of `gerrit.config`.
    ///
    /// # Panics
    /// If it is not set.
    pub async fn setting(&self, key: &str) -> String {
        self.config(&["--get", key]).await
    }

    async fn config(&self, args: &[&str]) -> String {
        let mut command = quiet(Command::new("git"), &self.site);
        command.args(["config", "--file"]).arg(self.site.join("etc/gerrit.config")).args(args);
        ok(command.output().await.expect("git runs"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}
