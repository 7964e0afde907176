//! A page by HTTP, such as a REST call of Gerrit. It is green when it answers with a status of 200 to 299.
//!
//! A page that only a signed-in user gets, asked with the cookie of a session, shows whether sessions survive.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::ProbeResult;
use reqwest::header::{COOKIE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};

use super::{Login, Probe, ProbeError, result};

/// How a request names its user.
enum Credentials {
    /// The request names no user.
    None,
    /// With a name and a password.
    Login(Login),
    /// With the cookie of a session, which is in this file. The file is read on each use.
    Session(PathBuf),
}

/// Asks for a page.
pub struct PageProbe {
    /// The name of the probe, which is also the name of its setting.
    name: &'static str,
    url: Url,
    credentials: Credentials,
    client: Client,
}

impl PageProbe {
    /// A probe of `url`, as this user. Each run ends after `limit`.
    ///
    /// # Errors
    /// The text is not a URL, or the client cannot be built.
    pub fn new(url: &str, login: Option<Login>, limit: Duration) -> Result<Self, ProbeError> {
        Self::named("rest", url, login.map_or(Credentials::None, Credentials::Login), limit)
    }

    /// A probe of `url` with the session whose cookie is in a file: `name=value`. Each run ends after `limit`.
    ///
    /// # Errors
    /// The text is not a URL, or the client cannot be built.
    pub fn of_session(url: &str, session_file: PathBuf, limit: Duration) -> Result<Self, ProbeError> {
        Self::named("session", url, Credentials::Session(session_file), limit)
    }

    fn named(name: &'static str, url: &str, credentials: Credentials, limit: Duration) -> Result<Self, ProbeError> {
        let wrong = |why: String| ProbeError::Setting(name, why);
        let url = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        // A redirect leads to a page that asks for a password, or would send the credentials elsewhere.
        let client = Client::builder().timeout(limit).redirect(Policy::none()).build();
        let client = client.map_err(|error| wrong(error.without_url().to_string()))?;
        Ok(Self { name, url, credentials, client })
    }

    async fn request(&self) -> Result<RequestBuilder, ProbeError> {
        let request = self.client.get(self.url.clone());
        match &self.credentials {
            Credentials::None => Ok(request),
            Credentials::Login(login) => Ok(request.basic_auth(&login.user, Some(login.password().await?))),
            Credentials::Session(file) => {
                let failed = |why: &dyn std::fmt::Display| ProbeError::file("session_file", file, why);
                let text = tokio::fs::read_to_string(file).await.map_err(|error| failed(&error))?;
                let cookie = HeaderValue::from_str(text.trim());
                let mut cookie = cookie.map_err(|_| failed(&"it is no cookie; write one line NAME=VALUE"))?;
                cookie.set_sensitive(true);
                Ok(request.header(COOKIE, cookie))
            }
        }
    }

    async fn ask(&self) -> Result<(), ProbeError> {
        let answer = self.request().await?.send().await;
        let answer = answer.map_err(|error| ProbeError::NoAnswer(error.without_url().to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ProbeError::Status(status)),
        }
    }
}

#[async_trait]
impl Probe for PageProbe {
    async fn run(&self) -> Vec<ProbeResult> {
        vec![result(self.name, self.ask().await)]
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A service that answers one request, and returns it.
    async fn service(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/config/server/version", listener.local_addr().unwrap());
        let serves = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
            while !String::from_utf8_lossy(&request).contains("\r\n\r\n") {
                let length = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..length]);
            }
            let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        (url, serves)
    }

    #[tokio::test]
    async fn a_page_is_green_when_it_answers_and_red_when_it_redirects_or_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "secret\n").unwrap();
        let login = Login { user: "probe".to_owned(), password_file };
        for (answer, is_green) in [("200 OK", true), ("302 Found", false), ("401 Unauthorized", false)] {
            let (url, serves) = service(answer).await;
            let probe = PageProbe::new(&url, Some(login.clone()), Duration::from_secs(5)).unwrap();
            let [found] = &probe.run().await[..] else { panic!("one result") };
            assert_eq!(found.red.is_none(), is_green, "{answer}: {found:?}");
            // The name and the password, in Base64.
            assert!(serves.await.unwrap().contains("authorization: Basic cHJvYmU6c2VjcmV0"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_session_is_green_while_the_site_knows_its_cookie() {
        let folder = tempfile::tempdir().unwrap();
        let session_file = folder.path().join("session");
        let limit = Duration::from_secs(5);
        for (answer, is_green) in [("200 OK", true), ("403 Forbidden", false), ("302 Found", false)] {
            std::fs::write(&session_file, "GerritAccount=aBc\n").unwrap();
            let (url, serves) = service(answer).await;
            let found = PageProbe::of_session(&url, session_file.clone(), limit).unwrap().run().await;
            assert_eq!((found[0].probe.as_str(), found[0].red.is_none()), ("session", is_green), "{found:?}");
            assert!(serves.await.unwrap().contains("cookie: GerritAccount=aBc\r\n"), "{answer}");
        }
        for (text, part) in [("one\ntwo", "it is no cookie; write one line NAME=VALUE"), ("", "No such file")] {
            if text.is_empty() { std::fs::remove_file(&session_file) } else { std::fs::write(&session_file, text) }
                .unwrap();
            let found = PageProbe::of_session("http://127.0.0.1:9/", session_file.clone(), limit).unwrap().run().await;
            let why = found[0].red.clone().unwrap();
            assert!(why.starts_with("probes.session_file ") && why.contains(part), "{why}");
        }
    }
}
