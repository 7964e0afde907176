//! A service that gets the notice as a JSON body by POST, and takes it by a status of 200 to 299.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::RoleNotice;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::{Receiver, ReceiverError};

/// A service at a URL.
pub struct Webhook {
    name: String,
    url: Url,
    token_file: Option<PathBuf>,
    client: Client,
}

impl Webhook {
    /// A receiver at `url`. Each request ends after `timeout`, and carries the token in `token_file`, if there is one,
    /// as `Authorization: Bearer`. The file is read on each use.
    ///
    /// # Errors
    /// The text is not a URL, or the client cannot be built.
    pub fn new(url: &str, token_file: Option<PathBuf>, timeout: Duration) -> Result<Self, ReceiverError> {
        let wrong = |why: String| ReceiverError::Setting("handover.webhook", why);
        let url = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        // A redirect would turn the request into a GET, or send the token elsewhere.
        let client = Client::builder().timeout(timeout).redirect(Policy::none()).build();
        let client = client.map_err(|error| wrong(error.without_url().to_string()))?;
        // The path, the query and the user may be secrets.
        let name = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        Ok(Self { name, url, token_file, client })
    }
}

#[async_trait]
impl Receiver for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    async fn tell(&self, notice: &RoleNotice) -> Result<(), ReceiverError> {
        let body = serde_json::to_vec(notice)?;
        let mut request = self.client.post(self.url.clone()).header("content-type", "application/json").body(body);
        if let Some(path) = &self.token_file {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.map_err(|error| ReceiverError::file("handover.token_file", path, &error))?;
            request = request.bearer_auth(text.trim());
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| ReceiverError::NoAnswer(error.without_url().to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ReceiverError::Status(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use lockstep_proto::failover::Role;
    use parking_lot::Mutex;
    use tokio::net::TcpListener;

    use super::*;

    /// A service that notes the credentials of each request, and answers with this status and place.
    async fn service(status: StatusCode, location: String) -> (String, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let handle = move |headers: HeaderMap| async move {
            let credentials = headers.get("authorization").and_then(|one| one.to_str().ok()).unwrap_or("none");
            noted.lock().push(credentials.to_owned());
            (status, [("location", location)])
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
        (url, seen)
    }

    #[tokio::test]
    async fn the_token_goes_to_the_receiver_alone_and_no_message_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "secret\n").unwrap();
        let (other, elsewhere) = service(StatusCode::OK, String::new()).await;
        let (url, seen) = service(StatusCode::TEMPORARY_REDIRECT, other).await;
        let webhook = Webhook::new(&format!("{url}/secret"), Some(token), Duration::from_secs(20)).unwrap();
        let notice = RoleNotice {
            site: "a".parse().unwrap(),
            node: "a-0".parse().unwrap(),
            role: Role::Active,
            epoch: 1,
            takes_writes: true,
            start: 1,
            number: 1,
        };
        let refused = webhook.tell(&notice).await.unwrap_err().to_string();
        assert_eq!(*seen.lock(), ["Bearer secret"]);
        assert_eq!(*elsewhere.lock(), Vec::<String>::new(), "a redirect is not followed");
        assert!(!refused.contains("secret") && !webhook.name().contains("secret"), "{refused}");
    }
}
