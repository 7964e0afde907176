//! Waits for a state of a Gerrit. Each fails with the server's log if the state does not come in time.

use serde_json::Value;

use super::rest::Login;
use super::server::Server;
use crate::e2e::until;

impl Server {
    /// Waits until a condition holds.
    ///
    /// # Panics
    /// If it does not hold in time.
    pub async fn shows(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let came = until(|| async { is_so().await.then_some(()) }).await;
        assert!(came.is_some(), "not in time: {what}\n{}", self.log_tail());
    }

    /// Waits until a query finds exactly these changes.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn finds(&self, query: &str, numbers: &[u32]) {
        self.shows(&format!("{query} finds {numbers:?}"), async || self.find(query).await == numbers).await;
    }

    /// Waits until a call of this user returns a status.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn answers(&self, who: Login<'_>, path: &str, status: u16) {
        let ask = async || self.rest_as(who, "GET", path, &Value::Null).await;
        self.shows(&format!("{path} is {status} for {who:?}"), async || ask().await.status == status).await;
    }
}
