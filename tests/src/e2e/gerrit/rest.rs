//! Gerrit's REST API, called as the administrator that `init --dev` creates, or as another user.

use std::io;
use std::net::SocketAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use super::login::{ADMIN, Login};
use super::server::Server;

/// The prefix of every JSON answer of Gerrit. It keeps scripts from including the answer.
const NO_SCRIPT: &str = ")]}'";

/// An answer of Gerrit.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status, which may be an error.
    pub status: u16,
    /// The lines before the body.
    pub head: String,
    /// The body as Gerrit sent it, with its prefix against scripts.
    pub text: String,
}

impl Answer {
    /// The cookie of the session that this answer begins, as a request has to send it.
    #[must_use]
    pub fn session(&self) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut cookies = lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).map(|(_, value)| value);
        let cookie = cookies.find(|value| value.starts_with("GerritAccount="))?;
        Some(cookie.split(';').next().unwrap_or(cookie).to_owned())
    }

    /// The JSON of an answer that must be a success.
    ///
    /// # Panics
    /// If the call failed.
    #[must_use]
    pub fn json(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        serde_json::from_str(self.text.trim_start_matches(NO_SCRIPT)).expect("JSON")
    }
}

impl Server {
    /// Reads a path that needs no login.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn get(&self, path: &str) -> io::Result<Answer> {
        get(self.http, path).await
    }

    /// Calls the REST API as the administrator. A project's name in the path has `%2F` for its slashes.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn rest(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.rest_as(ADMIN, method, path, body).await
    }

    /// Calls the REST API as this user. A string is sent as plain text, any other body as JSON.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn rest_as(&self, who: Login<'_>, method: &str, path: &str, body: &Value) -> Answer {
        call(self.http, who, method, path, body).await.expect("Gerrit answers")
    }

    /// Sends a request to git's `receive-pack` as the administrator, as git does over HTTP.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn receive_pack(&self, project: &str, request: &[u8]) -> Answer {
        let head = format!(
            "POST /a/{project}/git-receive-pack HTTP/1.0\r\nauthorization: {}\r\nuser-agent: git/2.50.0\r\n\
             content-type: application/x-git-receive-pack-request\r\ncontent-length: {}\r\n\r\n",
            basic(ADMIN),
            request.len()
        );
        send(self.http, &[head.as_bytes(), request].concat()).await.expect("Gerrit answers")
    }

    /// Creates a project with a first commit.
    ///
    /// # Panics
    /// If the server does not answer, or refuses.
    pub async fn create(&self, project: &str) {
        let path = format!("/projects/{}", project.replace('/', "%2F"));
        let _ = self.rest("PUT", &path, &json!({"create_empty_commit": true})).await.json();
    }

    /// Reads a path as the administrator.
    ///
    /// # Panics
    /// If the server does not answer, or refuses.
    pub async fn read(&self, path: &str) -> Value {
        self.rest("GET", path, &Value::Null).await.json()
    }

    /// The changes that a query finds, with these options (`&o=LABELS`). Gerrit gives 500 per call.
    ///
    /// # Panics
    /// If the server does not answer, or refuses.
    pub async fn changes(&self, query: &str, options: &str) -> Vec<Value> {
        let query = query.replace(' ', "+");
        let mut all = Vec::new();
        loop {
            let page = self.read(&format!("/changes/?q={query}{options}&S={}", all.len())).await;
            all.extend(page.as_array().into_iter().flatten().cloned());
            if all.last().is_none_or(|last| last["_more_changes"] != true) {
                return all;
            }
        }
    }

    /// The numbers of the changes that a query finds, sorted.
    ///
    /// # Panics
    /// If the server does not answer, or refuses.
    pub async fn find(&self, query: &str) -> Vec<u32> {
        let number = |change: &Value| u32::try_from(change["_number"].as_u64()?).ok();
        let mut numbers: Vec<u32> = self.changes(query, "").await.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Calls the REST API of a Gerrit as this user. A string is sent as plain text, any other body as JSON.
///
/// # Errors
/// If the server does not answer.
pub async fn call(server: SocketAddr, who: Login<'_>, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
    let (kind, body) = match body {
        Value::String(text) => ("text/plain", text.clone()),
        body => ("application/json", body.to_string()),
    };
    let request = format!(
        "{method} /a{path} HTTP/1.0\r\nauthorization: {}\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n{body}",
        basic(who),
        body.len()
    );
    send(server, request.as_bytes()).await
}

/// Reads a path from any HTTP server.
///
/// # Errors
/// If the server does not answer.
pub async fn get(server: SocketAddr, path: &str) -> io::Result<Answer> {
    send(server, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await
}

/// Reads a path as a browser does, with these lines of header.
///
/// # Errors
/// If the server does not answer.
pub async fn browse(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    fetch(server, path, &[&[("accept", "text/html")][..], headers].concat()).await
}

/// Reads a path as a program does, with these lines of header and no other.
///
/// # Errors
/// If the server does not answer.
pub async fn fetch(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    send(server, format!("GET {path} HTTP/1.0\r\n{lines}\r\n").as_bytes()).await
}

/// Sends one request. With HTTP 1.0 the answer ends with the connection.
async fn send(server: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, text) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
    Ok(Answer { status, head: head.to_owned(), text: text.to_owned() })
}

/// The value of the header for basic authentication.
fn basic(Login(user, password): Login<'_>) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}
