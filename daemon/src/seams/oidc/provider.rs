//! The provider over HTTP. Discovery document and keys are kept for an hour. A token that names a key which is not
//! among them has the keys read again, once: providers change their keys.

use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::token::{self, TokenRefused};
use super::{Attempt, Identity, OidcError, OidcSettings};

/// The longest time of one request.
const LONGEST: Duration = Duration::from_secs(5);
/// How long discovery document and keys are kept.
const KEPT: Duration = Duration::from_secs(3_600);
/// The most bytes of an answer that are read.
const ANSWER: usize = 1 << 20;
/// The most characters of the provider's own words in a message.
const SAID: usize = 300;

/// The questions, as messages name them.
const DISCOVERY: &str = "discovery document";
const KEYS: &str = "keys";
const TOKEN: &str = "ID token";

/// The part of the discovery document that is read.
#[derive(Clone, Debug, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
}

/// The keys of the provider. Those of a kind that is not known are left out.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The answer to a code: a token, or the reason why there is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Exchanged {
    id_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// A provider of logins.
pub struct Provider {
    settings: OidcSettings,
    document: Mutex<Option<(Instant, Document)>>,
    keys: Mutex<Option<(Instant, Vec<Jwk>)>>,
}

impl Provider {
    /// The provider of these settings. Nothing is asked before the first login.
    #[must_use]
    pub fn new(settings: OidcSettings) -> Self {
        Self { settings, document: Mutex::default(), keys: Mutex::default() }
    }

    /// The address to which the browser goes for a login.
    ///
    /// # Errors
    /// The discovery document cannot be read.
    pub async fn begin(&self, attempt: &Attempt) -> Result<String, OidcError> {
        let document = self.document(&self.client().await?).await?;
        let unusable = |why: String| OidcError::Unusable(DISCOVERY, why);
        let mut url = Url::parse(&document.authorization_endpoint)
            .map_err(|error| unusable(format!("authorization_endpoint: {error}")))?;
        if self.is_https() && url.scheme() != "https" {
            return Err(unusable("authorization_endpoint is no https address".to_owned()));
        }
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.settings.redirect_url)
            .append_pair("scope", &self.settings.scopes)
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &attempt.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    /// Exchanges the code of a login, and tells the person.
    ///
    /// # Errors
    /// The provider does not answer, refuses the code, or its token is refused.
    pub async fn finish(&self, attempt: &Attempt, code: &str) -> Result<Identity, OidcError> {
        let client = self.client().await?;
        let document = self.document(&client).await?;
        let token = self.exchange(&client, &document, attempt, code).await?;
        let (_, id) = token::header(&token)?;
        let key = match self.known_key(&id) {
            Some(key) => key,
            None => {
                self.read_keys(&client, &document).await?;
                self.known_key(&id).ok_or(TokenRefused::UnknownKey(id))?
            }
        };
        Ok(token::check(&token, &key, &self.settings, &attempt.nonce)?)
    }

    fn is_https(&self) -> bool {
        self.settings.issuer.starts_with("https://")
    }

    /// A client for one login. Authorities are replaced while the node runs, so their file is read each time. Redirects
    /// are not followed: they would send the code or the secret elsewhere.
    async fn client(&self) -> Result<Client, OidcError> {
        let client = Client::builder().timeout(LONGEST).redirect(Policy::none()).https_only(self.is_https());
        let client = match &self.settings.trust_file {
            None => client,
            Some(path) => {
                let wrong = |error: &dyn std::fmt::Display| OidcError::file("trust_file", path, error);
                let text = tokio::fs::read(path).await.map_err(|error| wrong(&error))?;
                let authorities = Certificate::from_pem_bundle(&text).map_err(|error| wrong(&error))?;
                if authorities.is_empty() {
                    return Err(wrong(&"it has no certificate"));
                }
                client.tls_certs_only(authorities)
            }
        };
        client.build().map_err(|error| OidcError::NoAnswer(DISCOVERY, error.without_url().to_string()))
    }

    /// The discovery document, which must be one of this issuer.
    async fn document(&self, client: &Client) -> Result<Document, OidcError> {
        let kept = self.document.lock().clone().filter(|(at, _)| at.elapsed() < KEPT);
        if let Some((_, document)) = kept {
            return Ok(document);
        }
        let url = format!("{}/.well-known/openid-configuration", self.settings.issuer.trim_end_matches('/'));
        let document: Document = get(DISCOVERY, client.get(url)).await?;
        if document.issuer != self.settings.issuer {
            let why = format!("it is of issuer {:?}, and console.oidc.issuer is another one", document.issuer);
            return Err(OidcError::Unusable(DISCOVERY, why));
        }
        *self.document.lock() = Some((Instant::now(), document.clone()));
        Ok(document)
    }

    fn known_key(&self, id: &str) -> Option<Jwk> {
        let keys = self.keys.lock();
        let (at, keys) = keys.as_ref()?;
        let found = keys.iter().find(|key| key.common.key_id.as_deref() == Some(id));
        found.filter(|_| at.elapsed() < KEPT).cloned()
    }

    async fn read_keys(&self, client: &Client, document: &Document) -> Result<(), OidcError> {
        let set: KeySet = get(KEYS, client.get(&document.jwks_uri)).await?;
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
        *self.keys.lock() = Some((Instant::now(), keys));
        Ok(())
    }

    /// Exchanges a code for a token.
    async fn exchange(
        &self,
        client: &Client,
        document: &Document,
        attempt: &Attempt,
        code: &str,
    ) -> Result<String, OidcError> {
        let OidcSettings { client_id, redirect_url, client_secret_file, .. } = &self.settings;
        let fields: [(&str, &str); 5] = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_url),
            ("client_id", client_id),
            ("code_verifier", &attempt.verifier),
        ];
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mut request = client
            .post(&document.token_endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(body.join("&"));
        if let Some(path) = client_secret_file {
            let secret = tokio::fs::read_to_string(path).await;
            let secret = secret.map_err(|error| OidcError::file("client_secret_file", path, &error))?;
            request = request.basic_auth(encoded(client_id), Some(encoded(secret.trim())));
        }
        let (status, exchanged): (_, Exchanged) = ask(TOKEN, request).await?;
        match exchanged {
            Exchanged { id_token: Some(token), .. } if status.is_success() => Ok(token),
            Exchanged { error: Some(error), error_description, .. } => {
                let said = format!("{error}: {}", error_description.unwrap_or_default());
                Err(OidcError::Refused(said.trim_end_matches(": ").chars().take(SAID).collect()))
            }
            _ => Err(OidcError::Unusable(TOKEN, format!("there is none in its answer, of status {status}"))),
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Reads a document of the provider.
async fn get<T: DeserializeOwned>(what: &'static str, request: RequestBuilder) -> Result<T, OidcError> {
    let (status, document) = ask(what, request).await?;
    match status {
        StatusCode::OK => Ok(document),
        status => Err(OidcError::Unusable(what, format!("the answer has the status {status}"))),
    }
}

/// Sends a request, and reads its answer as JSON.
async fn ask<T: DeserializeOwned>(what: &'static str, request: RequestBuilder) -> Result<(StatusCode, T), OidcError> {
    let lost = |error: reqwest::Error| OidcError::NoAnswer(what, error.without_url().to_string());
    let mut response = request.send().await.map_err(lost)?;
    let (status, mut bytes) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if bytes.len() + chunk.len() > ANSWER {
            return Err(OidcError::Unusable(what, format!("it is longer than {ANSWER} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    let read = serde_json::from_slice(&bytes);
    let read = read.map_err(|error| OidcError::Unusable(what, format!("status {status}: {error}")))?;
    Ok((status, read))
}
