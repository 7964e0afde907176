//! Gerrit's REST API, as the administrator that `init --dev` makes.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Server;

/// `admin:secret`, as basic authentication writes it.
const ADMIN: &str = "YWRtaW46c2VjcmV0";
/// Stands before every JSON that Gerrit sends, so that no script can include it.
const NO_SCRIPT: &str = ")]}'";

/// What Gerrit answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The JSON of a call that must have succeeded.
    ///
    /// # Panics
    /// It failed.
    #[must_use]
    pub fn json(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        serde_json::from_str(self.text.trim_start_matches(NO_SCRIPT)).expect("JSON")
    }
}

impl Server {
    /// Asks for something that everybody may see.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn get(&self, path: &str) -> io::Result<Answer> {
        self.send(&format!("GET {path} HTTP/1.0\r\n\r\n")).await
    }

    /// Calls the REST API. A project's name in the path has its slashes as `%2F`.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn rest(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let request = format!(
            "{method} /a{path} HTTP/1.0\r\nauthorization: Basic {ADMIN}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(&request).await.expect("Gerrit answers")
    }

    /// Version 1.0 of HTTP: the answer ends with the connection.
    async fn send(&self, request: &str) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.http).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, text) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
        Ok(Answer { status, text: text.to_owned() })
    }
}
