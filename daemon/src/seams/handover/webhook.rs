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
