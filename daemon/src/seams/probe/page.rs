//! A page by HTTP, such as a REST call of Gerrit. It is green when it answers with a status of 200 to 299.

use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::ProbeResult;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::{Login, Probe, result};

/// Asks for a page.
pub struct PageProbe {
    url: Url,
    login: Option<Login>,
    client: Client,
}

impl PageProbe {
    /// A probe of `url`, as this user. Each run ends after `limit`.
    ///
    /// # Errors
    /// The text is not a URL, or the client cannot be built.
    pub fn new(url: &str, login: Option<Login>, limit: Duration) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|error| format!("probes.rest: {error}"))?;
        // A redirect leads to a page that asks for a password, or would send the password elsewhere.
        let client = Client::builder().timeout(limit).redirect(Policy::none()).build();
        let client = client.map_err(|error| format!("probes.rest: {}", error.without_url()))?;
        Ok(Self { url, login, client })
    }

    async fn ask(&self) -> Result<(), String> {
        let mut request = self.client.get(self.url.clone());
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(login.password().await?));
        }
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}

#[async_trait]
impl Probe for PageProbe {
    async fn run(&self) -> Vec<ProbeResult> {
        vec![result("rest", self.ask().await)]
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
}
