//! A service that gets the notice as a JSON body by POST, and takes it by a status of 200 to 299.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::RoleNotice;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::Receiver;

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
    pub fn new(url: &str, token_file: Option<PathBuf>, timeout: Duration) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|error| format!("handover.webhook: {error}"))?;
        // A redirect would turn the request into a GET, or send the token elsewhere.
        let client = Client::builder().timeout(timeout).redirect(Policy::none()).build();
        let client = client.map_err(|error| format!("handover.webhook: {}", error.without_url()))?;
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

    async fn tell(&self, notice: &RoleNotice) -> Result<(), String> {
        let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
        let mut request = self.client.post(self.url.clone()).header("content-type", "application/json").body(body);
        if let Some(path) = &self.token_file {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.map_err(|error| format!("handover.token_file {}: {error}", path.display()))?;
            request = request.bearer_auth(text.trim());
        }
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}
