//! Clones and fetches of plain git from the listener for peers: a real git, real certificates, real repositories.

use std::path::{Path, PathBuf};
use std::process::Output;

use lockstep::seams::tls::{Credentials, connect};
use lockstep_tests::contract::repositories::{Fixture, moves, project};
use lockstep_tests::e2e::until;
use lockstep_tests::local_git::{self, LocalFixture};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::{Identity, new_authority};
use crate::fake::{fails, ok, quiet};
use crate::mutual_tls::{CALLER, SERVER, Server};
use crate::peers::noise;

/// The name of the server in its certificate that git looks for.
const ADDRESS: &str = "127.0.0.1";

/// The certificate of a caller, with which git is run.
struct Caller {
    identity: Identity,
    folder: PathBuf,
}

impl Caller {
    fn new(identity: Identity) -> Self {
        let folder = identity.0.clone();
        Self { identity, folder }
    }

    /// Runs git with this certificate. It runs beside the server, which is in this process.
    async fn git(&self, args: &[&str]) -> Output {
        let files = self.identity.files();
        let mut command = quiet(std::process::Command::new("git"), &self.folder);
        for (name, path) in [("sslCert", files.certificate), ("sslKey", files.key), ("sslCAInfo", files.trust)] {
            command.arg("-c").arg(format!("http.{name}={}", path.display()));
        }
        command.args(args).env("GIT_TERMINAL_PROMPT", "0");
        tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn url(server: &Server, project: &str) -> String {
    format!("https://{}/v1/projects/{project}/git", server.address)
}

const PROJECT: &str = "tools%2Fbuild";

/// A server and a caller of one authority. `allow` are the names that the server lets in.
async fn pair(allow: &[&str]) -> (Server, Caller) {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER, ADDRESS], &ca, &[&ca]).credentials();
    let caller = Caller::new(Identity::new(home.path(), &[CALLER], &ca, &[&ca]));
    (Server::start(home, own, allow).await, caller)
}

/// The refs of a repository, as git lists them.
fn refs(git_dir: &Path) -> Vec<String> {
    let listed = local_git::git(git_dir, &["for-each-ref", "--format=%(refname) %(objectname)"]).unwrap();
    listed.lines().map(str::to_owned).collect()
}

fn origin_git(fixture: &LocalFixture, args: &[&str]) -> String {
    local_git::git(&fixture.origin_dir(&project()), args).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_fetches_with_a_certificate() {
    let (server, caller) = pair(&[CALLER]).await;
    let (fixture, first) = (&server.fixture, server.want);
    let origin = fixture.origin();
    let change = fixture.commit(&project(), &[first], &[("a", "2")]);
    let kept = fixture.commit(&project(), &[], &[("k", "kept")]);
    let start = [moves("refs/heads/main", None, first), moves("refs/changes/01/1/1", None, change)];
    origin.move_refs(&project(), &start, &[("label".to_owned(), kept)]).await.unwrap();
    origin_git(fixture, &["update-ref", "refs/cache-automerge/aa/bb", &kept.to_string()]);
    assert_eq!(refs(&fixture.origin_dir(&project())).len(), 4, "two of them are to be hidden");
    let mirror = caller.path("mirror.git");
    let mirror = mirror.to_str().unwrap();
    ok(caller.git(&["clone", "-q", "--mirror", &url(&server, PROJECT), mirror]).await);
    let shown = [format!("refs/changes/01/1/1 {change}"), format!("refs/heads/main {first}")];
    assert_eq!(refs(Path::new(mirror)), shown);
    // So many refs that git compresses its request, and one that moves.
    let second = fixture.commit(&project(), &[first], &[("a", "3")]);
    let mut more = vec![moves("refs/heads/main", first, second)];
    for number in 0..200 {
        let text = number.to_string();
        let one = fixture.commit(&project(), &[second], &[("a", text.as_str())]);
        more.push(moves(&format!("refs/heads/more/{number}"), None, one));
    }
    origin.move_refs(&project(), &more, &[]).await.unwrap();
    ok(caller.git(&["-C", mirror, "fetch", "-q"]).await);
    let mut fetched = refs(Path::new(mirror));
    assert!(fetched.contains(&format!("refs/heads/main {second}")) && fetched.len() == 202, "{fetched:?}");
    fetched.retain(|line| !line.starts_with("refs/heads/more/"));
    assert_eq!(fetched.len(), 2);
    local_git::git(Path::new(mirror), &["fsck", "--strict"]).unwrap();
    // A work tree with the newest commit alone.
    let shallow = caller.path("shallow");
    ok(caller.git(&["clone", "-q", "--depth", "1", &url(&server, PROJECT), shallow.to_str().unwrap()]).await);
    assert_eq!(std::fs::read_to_string(shallow.join("a")).unwrap(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_without_a_listed_certificate_gets_nothing() {
    let (server, caller) = pair(&[CALLER]).await;
    let other = new_authority();
    server.fixture.origin().move_refs(&project(), &[moves("refs/heads/main", None, server.want)], &[]).await.unwrap();
    let list = ["ls-remote", &url(&server, PROJECT)];
    assert!(ok(caller.git(&list).await).contains("refs/heads/main"));
    // The certificate of another authority, and none.
    let trusted = caller.identity.files().trust;
    let stranger = Identity::new(server.home.path(), &["spiffe://lockstep/muc-1/stranger"], &other, &[&other]);
    std::fs::copy(&trusted, stranger.files().trust).unwrap();
    fails(Caller::new(stranger).git(&list).await);
    let mut nameless = quiet(std::process::Command::new("git"), &caller.folder);
    nameless.arg("-c").arg(format!("http.sslCAInfo={}", trusted.display())).args(list);
    fails(tokio::process::Command::from(nameless).output().await.unwrap());
    // A name that the server does not list, and a server whom git does not know by this name.
    let (unlisting, caller) = pair(&["spiffe://lockstep/muc-2/*"]).await;
    let refused = fails(caller.git(&["ls-remote", &url(&unlisting, PROJECT)]).await);
    assert!(refused.contains("403"), "{refused}");
    let unknown = url(&server, PROJECT).replace(ADDRESS, "localhost");
    let refused = fails(caller.git(&["ls-remote", &unknown]).await);
    assert!(!refused.contains("403"), "git must not ask: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_unknown_projects_and_old_protocols_are_refused_with_words() {
    let (server, caller) = pair(&[CALLER]).await;
    let (url, want) = (url(&server, PROJECT), server.want);
    server.fixture.origin().move_refs(&project(), &[moves("refs/heads/main", None, want)], &[]).await.unwrap();
    let clone = caller.path("clone");
    let clone = clone.to_str().unwrap();
    ok(caller.git(&["clone", "-q", &url, clone]).await);
    let push = fails(caller.git(&["-C", clone, "push", "origin", "HEAD:refs/heads/new"]).await);
    assert!(push.contains("403") && push.contains("takes no pushes"), "{push}");
    assert_eq!(refs(&server.fixture.origin_dir(&project())).len(), 1);
    // Other paths of a git server are no calls of peers.
    for path in ["git-receive-pack", "HEAD", "objects/info/packs"] {
        let answer = ask(&server, &caller.identity.credentials(), &format!("POST {}/{path}", path_of(&url)), b"").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
    let unknown = url.replace(PROJECT, "unheard");
    let refused = fails(caller.git(&["ls-remote", &unknown]).await);
    assert!(refused.contains("holds no project unheard"), "{refused}");
    // A project that the node holds, and whose repository is gone.
    server.fake.projects.lock().insert("gone".parse().unwrap(), "refs/heads/main".parse().unwrap());
    let refused = fails(caller.git(&["ls-remote", &url.replace(PROJECT, "gone")]).await);
    assert!(refused.contains("503") && refused.contains("missing at this node"), "{refused}");
    let old = fails(caller.git(&["-c", "protocol.version=0", "ls-remote", &url]).await);
    assert!(old.contains("400") && old.contains("protocol.version=2"), "{old}");
}

fn path_of(url: &str) -> &str {
    &url[url.find("/v1").unwrap()..]
}

/// Sends a request with a certificate, and returns the answer.
async fn ask(server: &Server, credentials: &Credentials, head: &str, body: &[u8]) -> String {
    let mut stream = begin(server, credentials, head, body).await;
    let mut answer = Vec::new();
    // The server may end the connection without an end of TLS.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn begin(server: &Server, credentials: &Credentials, head: &str, body: &[u8]) -> impl AsyncRead + Unpin + use<> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut tls = connect(&credentials.current().client, ADDRESS, SERVER.parse().unwrap(), stream).await.unwrap();
    let length = body.len();
    let head = format!("{head} HTTP/1.1\r\nhost: x\r\ngit-protocol: version=2\r\ncontent-length: {length}\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.write_all(body).await.unwrap();
    tls
}

/// The request of a clone of one commit, in version 2 of git's protocol.
fn wants(oid: &str) -> Vec<u8> {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let (command, want, done) = (line("command=fetch\n"), line(&format!("want {oid}\n")), line("done\n"));
    format!("{command}0001{want}{done}0000").into_bytes()
}

/// The processes that run in a repository: git's `upload-pack`, and the git that packs for it.
fn gits(git_dir: &Path) -> usize {
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    folders.filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == git_dir)).count()
}

/// Four fetches of one peer hang in the middle of a large pack. Its fifth one is refused, another peer is served, and
/// no git is left when the connections end.
#[tokio::test(flavor = "multi_thread")]
async fn fetches_are_bounded_for_each_peer_and_their_gits_end_with_them() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER, ADDRESS], &ca, &[&ca]).credentials();
    let greedy = Caller::new(Identity::new(home.path(), &[CALLER], &ca, &[&ca]));
    let modest = Caller::new(Identity::new(home.path(), &["spiffe://lockstep/muc-2/b"], &ca, &[&ca]));
    let server = Server::start_taking(home, own, &[CALLER, "spiffe://lockstep/muc-2/*"], 8).await;
    // Text that does not compress, and is longer than everything between git and the caller holds.
    let text: String = (0..36).map(noise).collect();
    let large = server.fixture.commit(&project(), &[], &[("a", &text)]);
    server.fixture.origin().move_refs(&project(), &[moves("refs/heads/main", None, large)], &[]).await.unwrap();
    let url = url(&server, PROJECT);
    let (head, body) = (format!("POST {}/git-upload-pack", path_of(&url)), wants(&large.to_string()));
    let credentials = greedy.identity.credentials();
    let mut hung = Vec::new();
    for _ in 0..4 {
        let mut stream = begin(&server, &credentials, &head, &body).await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&start));
        hung.push(stream);
    }
    let git_dir = server.fixture.origin_dir(&project());
    // An `upload-pack` for each, and the git that packs for it, unless that has given it everything.
    assert!((4..=8).contains(&gits(&git_dir)), "{}", gits(&git_dir));
    let refused = ask(&server, &credentials, &head, &body).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("already answers 4 fetches"), "{refused}");
    let told = fails(greedy.git(&["clone", "-q", &url, greedy.path("no").to_str().unwrap()]).await);
    assert!(told.contains("503"), "{told}");
    ok(modest.git(&["clone", "-q", &url, modest.path("clone").to_str().unwrap()]).await);
    assert_eq!(std::fs::read_to_string(modest.path("clone/a")).unwrap().len(), text.len());
    drop(hung);
    until(async || (gits(&git_dir) == 0).then_some(())).await.expect("every git must end with its caller");
    ok(greedy.git(&["clone", "-q", &url, greedy.path("clone").to_str().unwrap()]).await);
}
