//! A push to a branch of a probe project, and a fetch of it, by git itself.
//!
//! Each run makes a repository of its own in a temporary folder, and removes it. It fetches the branch, pushes an empty
//! commit on top of it, and fetches it again: the site must serve the commit that it has just taken.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use lockstep_proto::NodeId;
use lockstep_proto::failover::ProbeResult;
use reqwest::Url;
use tempfile::TempDir;

use super::child::{Group, Run};
use super::ssh::SshKey;
use super::{Login, Probe, ProbeError, result};

/// The place to which a probe pushes, and its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSettings {
    /// A URL of git, or the path of a repository on this machine.
    pub url: String,
    /// The user of an HTTP URL.
    pub login: Option<Login>,
    /// The key of an SSH URL.
    pub key: Option<SshKey>,
    /// The e-mail address of author and committer. Gerrit takes only addresses of the user who pushes.
    pub email: String,
    /// The bound of one command of git.
    pub limit: Duration,
    /// The process group of git.
    pub group: Group,
}

/// Pushes a commit to a probe project, and fetches it again.
pub struct GitProbe {
    settings: GitSettings,
    /// The name of the branch below `lockstep-probe/`: each node has its own.
    branch: String,
}

impl GitProbe {
    /// A probe of this node.
    #[must_use]
    pub fn new(settings: GitSettings, node: &NodeId) -> Self {
        Self { settings, branch: node.to_string() }
    }

    /// Fetches the branch, if it is there.
    async fn fetch(&self) -> Result<(), ProbeError> {
        Client::create(&self.settings).await?.fetch(&self.settings.url, &self.branch).await
    }

    /// The result of the push, and that of the fetch.
    async fn both(&self) -> (Result<(), ProbeError>, Result<(), ProbeError>) {
        let client = match Client::create(&self.settings).await {
            Ok(client) => client,
            Err(why) => return (Err(why.clone()), Err(why)),
        };
        let local = format!("refs/probe/{}", self.branch);
        if let Err(why) = client.fetch(&self.settings.url, &self.branch).await {
            return (Err(ProbeError::NotTried), Err(why));
        }
        let commit = match client.commit(&local).await {
            Ok(commit) => commit,
            Err(why) => return (Err(why), Ok(())),
        };
        let refspec = format!("{commit}:refs/heads/lockstep-probe/{}", self.branch);
        if let Err(why) = client.git(&["push", "-q", &self.settings.url, &refspec]).await {
            return (Err(why), Ok(()));
        }
        (Ok(()), client.serves(&self.settings.url, &self.branch, &commit).await)
    }
}

#[async_trait]
impl Probe for GitProbe {
    async fn run(&self) -> Vec<ProbeResult> {
        let (push, fetch) = self.both().await;
        vec![result("push", push), result("fetch", fetch)]
    }

    async fn look(&self) -> Vec<ProbeResult> {
        vec![result("fetch", self.fetch().await)]
    }
}

/// The repository of a user. It is removed when this is dropped.
struct Client {
    folder: TempDir,
    envs: Vec<(&'static str, String)>,
    limit: Duration,
    group: Group,
}

impl Client {
    async fn create(settings: &GitSettings) -> Result<Self, ProbeError> {
        let folder = tempfile::Builder::new().prefix("lockstep-probe-").tempdir();
        let folder = folder.map_err(|error| ProbeError::Folder(Arc::new(error)))?;
        let envs = environment(settings, folder.path()).await?;
        let client = Self { folder, envs, limit: settings.limit, group: settings.group };
        client.git(&["init", "-q", "--bare", "."]).await?;
        Ok(client)
    }

    /// Runs git in the repository. Answers its output.
    async fn git(&self, args: &[&str]) -> Result<String, ProbeError> {
        let folder: PathBuf = self.folder.path().to_owned();
        let mut all: Vec<&OsStr> = vec![OsStr::new("-C"), folder.as_os_str()];
        all.extend(args.iter().map(OsStr::new));
        let (envs, limit, group) = (self.envs.clone(), self.limit, self.group);
        Run { program: "git", args: all, envs, limit, group }.output().await.map_err(explained)
    }

    /// An empty commit on top of a branch, or the first one.
    async fn commit(&self, branch: &str) -> Result<String, ProbeError> {
        // git has no input, so this is the empty tree.
        let tree = self.git(&["mktree"]).await?;
        let parent = self.git(&["rev-parse", "-q", "--verify", branch]).await.ok();
        let mut args = vec!["commit-tree", &tree, "-m", "probe"];
        args.extend(parent.iter().flat_map(|parent| ["-p", parent.as_str()]));
        self.git(&args).await
    }

    /// Fetches the branch of a node, and not those of all others. A pattern may match nothing, as it does before the
    /// first push, where a name would be an error.
    async fn fetch(&self, url: &str, branch: &str) -> Result<(), ProbeError> {
        let own = format!("+refs/heads/lockstep-probe/{branch}*:refs/probe/{branch}*");
        self.git(&["fetch", "-q", "--no-tags", url, &own]).await.map(|_| ())
    }

    /// Whether the site serves the commit that it has taken.
    async fn serves(&self, url: &str, branch: &str, commit: &str) -> Result<(), ProbeError> {
        self.fetch(url, branch).await?;
        match self.git(&["rev-parse", "-q", "--verify", &format!("refs/probe/{branch}")]).await? {
            found if found == commit => Ok(()),
            found => Err(ProbeError::Stale(commit.to_owned(), found)),
        }
    }
}

/// git asks for a user name when the site refuses the one that it was sent, or when it was given none.
fn explained(why: ProbeError) -> ProbeError {
    match why.to_string().contains("could not read Username") {
        true => ProbeError::User(Box::new(why)),
        false => why,
    }
}

/// The environment of git: nothing of the machine's own configuration, and the credentials of the probe's user.
async fn environment(settings: &GitSettings, home: &Path) -> Result<Vec<(&'static str, String)>, ProbeError> {
    let mut envs: Vec<(&'static str, String)> = [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", "Lockstep probe"),
        ("GIT_COMMITTER_NAME", "Lockstep probe"),
        ("LC_ALL", "C"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    envs.extend(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, settings.email.clone())));
    envs.push(("HOME", home.display().to_string()));
    if let Some(key) = &settings.key {
        envs.push(("GIT_SSH_COMMAND", key.git_command()));
    }
    // A redirect would send the password elsewhere.
    envs.push(("GIT_CONFIG_KEY_0", "http.followRedirects".to_owned()));
    envs.push(("GIT_CONFIG_VALUE_0", "false".to_owned()));
    // With the path of a repository, the hooks of that repository would have the password in their environment.
    let login = settings.login.as_ref().zip(origin(&settings.url));
    envs.push(("GIT_CONFIG_COUNT", if login.is_some() { "2" } else { "1" }.to_owned()));
    if let Some((login, origin)) = login {
        // A credential helper would need a shell, which the image does not have.
        let secret = BASE64_STANDARD.encode(format!("{}:{}", login.user, login.password().await?));
        envs.push(("GIT_CONFIG_KEY_1", format!("http.{origin}/.extraHeader")));
        envs.push(("GIT_CONFIG_VALUE_1", format!("Authorization: Basic {secret}")));
    }
    Ok(envs)
}

/// The scheme, host and port of an HTTP URL: the only place that gets the password. None for another URL.
fn origin(url: &str) -> Option<String> {
    let url: Url = url.parse().ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode, Uri, header};
    use parking_lot::Mutex;
    use tokio::net::TcpListener;

    use super::super::ssh;
    use super::*;

    const EMAIL: &str = "probe@example.org";

    /// An HTTP server that notes each request, as `host path credentials`, and gives this answer.
    async fn server(answer: (StatusCode, &'static str, String)) -> (String, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let handle = move |uri: Uri, headers: HeaderMap| async move {
            let credentials = headers.get("authorization").and_then(|one| one.to_str().ok()).unwrap_or("none");
            noted.lock().push(format!("{} {credentials}", uri.path()));
            let (status, name, value) = answer;
            (status, [(name, value)])
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
        (url, seen)
    }

    fn with_login(url: String, password_file: &Path) -> GitProbe {
        let login = Some(Login { user: "probe".to_owned(), password_file: password_file.to_owned() });
        let (email, limit) = (EMAIL.to_owned(), Duration::from_secs(20));
        let settings = GitSettings { url, login, key: None, email, limit, group: Group::Own };
        GitProbe::new(settings, &"a-0".parse().unwrap())
    }

    /// The password goes to the host of the URL alone, and to no program but git.
    #[tokio::test]
    async fn the_password_is_for_the_host_of_the_url_alone() {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "secret\n").unwrap();
        let asks = || (StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE.as_str(), "Basic realm=\"x\"".to_owned());
        let (own, seen) = server(asks()).await;
        let refused = with_login(format!("{own}/probe"), &password_file).run().await;
        assert!(refused[1].red.as_ref().is_some_and(|why| why.contains("refuses probes.user")), "{refused:?}");
        let basic = "Basic cHJvYmU6c2VjcmV0";
        assert!(seen.lock().iter().any(|one| one.ends_with(basic)), "{:?}", seen.lock());
        let (other, elsewhere) = server(asks()).await;
        let to = format!("{other}/probe/info/refs?service=git-upload-pack");
        let (redirects, _) = server((StatusCode::FOUND, header::LOCATION.as_str(), to)).await;
        let results = with_login(format!("{redirects}/probe"), &password_file).run().await;
        assert!(results.iter().all(|one| one.red.is_some()), "{results:?}");
        assert_eq!(*elsewhere.lock(), Vec::<String>::new(), "a redirect is not followed");
        for (url, has_password) in [("/path", false), ("ssh://p@h/probe", false), ("https://h:1/probe", true)] {
            let probe = with_login(url.to_owned(), &password_file);
            let envs = environment(&probe.settings, folder.path()).await.unwrap();
            let has = envs.iter().any(|(_, value)| value.ends_with(basic));
            assert_eq!(has, has_password, "{url}");
        }
    }

    /// git gives the options of the probe to `ssh`, and adds its own behind them.
    #[tokio::test]
    async fn git_by_ssh_takes_only_hosts_that_the_probe_knows() {
        let folder = tempfile::tempdir().unwrap();
        let (url, email, limit) =
            ("ssh://probe@host:29418/probe".to_owned(), EMAIL.to_owned(), Duration::from_secs(20));
        let settings = GitSettings { url, login: None, key: Some(ssh::tests::key()), email, limit, group: Group::Own };
        let mut client = Client::create(&settings).await.unwrap();
        client.envs.push(("PATH", ssh::tests::noting(folder.path())));
        let red = client.fetch(&settings.url, "a-0").await.unwrap_err().to_string();
        assert!(red.contains("noted"), "{red}");
        let args = ssh::tests::noted(folder.path());
        assert_eq!(args[..ssh::tests::STRICT.len()], ssh::tests::STRICT, "{args:?}");
        let asks = args.ends_with(&["probe@host".to_owned(), "git-upload-pack '/probe'".to_owned()]);
        assert!(asks && args.windows(2).any(|two| two == ["-p", "29418"]), "{args:?}");
    }

    fn probe(url: &Path) -> GitProbe {
        let url = url.display().to_string();
        let (email, limit) = (EMAIL.to_owned(), Duration::from_secs(20));
        let settings = GitSettings { url, login: None, key: None, email, limit, group: Group::Own };
        GitProbe::new(settings, &"a-0".parse().unwrap())
    }

    fn red(results: &[ProbeResult]) -> Vec<(&str, Option<&str>)> {
        results.iter().map(|one| (one.probe.as_str(), one.red.as_deref())).collect()
    }

    /// Two runs, so that the second one pushes on top of the first.
    #[tokio::test]
    async fn a_push_is_served_again_and_a_refused_one_is_red() {
        let folder = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(folder.path()).unwrap();
        let probe = probe(folder.path());
        for commits in 1..=2 {
            assert_eq!(red(&probe.run().await), [("push", None), ("fetch", None)]);
            let mut walk = repository.revwalk().unwrap();
            walk.push_ref("refs/heads/lockstep-probe/a-0").unwrap();
            assert_eq!(walk.count(), commits);
            let pushed = repository.find_reference("refs/heads/lockstep-probe/a-0").unwrap().peel_to_commit().unwrap();
            assert_eq!((pushed.author().email().ok(), pushed.committer().email().ok()), (Some(EMAIL), Some(EMAIL)));
        }
        let hook = folder.path().join("hooks/pre-receive");
        std::fs::create_dir_all(folder.path().join("hooks")).unwrap();
        std::fs::write(&hook, "#!/bin/sh\necho this site takes nothing >&2\nexit 1\n").unwrap();
        std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let refused = probe.run().await;
        assert!(refused[0].red.as_ref().is_some_and(|why| why.contains("this site takes nothing")), "{refused:?}");
        assert_eq!(refused[1].red, None, "it serves reads");
    }

    #[tokio::test]
    async fn a_look_fetches_and_pushes_nothing_and_a_site_that_refuses_pushes_is_green() {
        let folder = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(folder.path()).unwrap();
        let probe = probe(folder.path());
        assert_eq!(red(&probe.look().await), [("fetch", None)], "there is no branch yet");
        assert!(repository.is_empty().unwrap(), "nothing was pushed");
        let _ = probe.run().await;
        let hook = folder.path().join("hooks/pre-receive");
        std::fs::create_dir_all(folder.path().join("hooks")).unwrap();
        std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
        std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(red(&probe.look().await), [("fetch", None)]);
    }

    #[tokio::test]
    async fn a_repository_that_is_not_there_is_red() {
        let folder = tempfile::tempdir().unwrap();
        let probe = probe(&folder.path().join("absent"));
        let results = probe.run().await;
        assert!(results.iter().all(|one| one.red.is_some()), "{results:?}");
        let looked = probe.look().await;
        assert!(looked.len() == 1 && looked[0].red.is_some(), "{looked:?}");
    }
}
