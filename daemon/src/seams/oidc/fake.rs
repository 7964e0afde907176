//! A provider of logins in this process, for tests. It answers with the token that a test has made.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use parking_lot::Mutex;
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::OidcSettings;
use crate::base::clock::{Clock, SystemClock};

/// A key of the provider.
pub(crate) enum Key {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    pub(crate) fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The public key, as the provider publishes it.
    pub(crate) fn published(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (text(&point[1..33]), text(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": x, "y": y})
            }
            Self::Rsa(pair) => {
                // The DER form of a key of 2,048 bits: nine bytes before the modulus, and the exponent at the end.
                let der = pair.public_key().as_ref();
                let (n, e) = (text(&der[9..265]), text(&der[der.len() - 3..]));
                json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": id, "n": n, "e": e})
            }
        }
    }

    /// A token with these claims.
    pub(crate) fn token(&self, id: &str, claims: &Value) -> String {
        let text = unsigned(&json!({"alg": self.algorithm(), "kid": id}), claims);
        let signature = match self {
            Self::Ec(pair) => pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and claims of a token, without a signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A code that the provider never answers.
pub(crate) const NEVER: &str = "never";

/// The state of the provider, which tests change.
#[derive(Default)]
pub(crate) struct Shared {
    /// The issuer in the discovery document.
    pub(crate) issuer: String,
    pub(crate) keys: Vec<Value>,
    pub(crate) key_reads: usize,
    /// The answer to the next code.
    pub(crate) token: String,
    /// The challenge of the login that goes on.
    pub(crate) challenge: String,
    /// The number of codes [`NEVER`], which wait for an answer that does not come.
    pub(crate) unanswered: usize,
}

/// The answer to a code, and whether it is sent.
fn exchanged(shared: &mut Shared, body: &str) -> (bool, (StatusCode, String)) {
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let is_answered = field("code") != Some(NEVER);
    shared.unanswered += usize::from(!is_answered);
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier").unwrap_or_default()));
    let is_good = field("grant_type") == Some("authorization%5Fcode") && challenge == shared.challenge;
    let answer = match is_good {
        true => (StatusCode::OK, json!({"id_token": shared.token}).to_string()),
        false => (StatusCode::BAD_REQUEST, json!({"error": "invalid_grant"}).to_string()),
    };
    (is_answered, answer)
}

/// A provider that serves until the end of the test.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) shared: Arc<Mutex<Shared>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { issuer: url.clone(), ..Shared::default() }));
        let (base, document, keys, token) = (url.clone(), shared.clone(), shared.clone(), shared.clone());
        let discovery = move || {
            let issuer = document.lock().issuer.clone();
            let [authorization, token, keys] = ["authorize", "token", "keys"].map(|name| format!("{base}/{name}"));
            let text = json!({"issuer": issuer, "authorization_endpoint": authorization, "token_endpoint": token,
                "jwks_uri": keys});
            std::future::ready(text.to_string())
        };
        let publish = move || {
            let mut shared = keys.lock();
            shared.key_reads += 1;
            std::future::ready(json!({"keys": shared.keys}).to_string())
        };
        let exchange = move |body: String| {
            let (is_answered, answer) = exchanged(&mut token.lock(), &body);
            async move {
                if !is_answered {
                    std::future::pending::<()>().await;
                }
                answer
            }
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(publish))
            .route("/token", post(exchange));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// The settings of a client of this provider.
    pub(crate) fn settings(&self) -> OidcSettings {
        OidcSettings {
            issuer: self.url.clone(),
            client_id: "lockstep".to_owned(),
            client_secret_file: None,
            trust_file: None,
            redirect_url: "https://a.example.org/console/login/callback".to_owned(),
            scopes: "openid email".to_owned(),
            name_claim: "email".to_owned(),
            groups_claim: "groups".to_owned(),
        }
    }

    /// Notes the challenge of a login that goes to this address, and answers good claims for it.
    pub(crate) fn visited(&self, address: &str) -> Value {
        let url = Url::parse(address).unwrap();
        let field = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        assert_eq!((field("response_type"), field("code_challenge_method")), ("code".to_owned(), "S256".to_owned()));
        self.shared.lock().challenge = field("code_challenge");
        let now = SystemClock.now_ms() / 1_000;
        json!({"iss": self.url, "aud": "lockstep", "sub": "1", "exp": now + 600, "nonce": field("nonce"),
            "email": "alice@example.org", "email_verified": true, "groups": ["sre", "all"]})
    }
}
