//! Logins at a provider in this process: good ones, and every token that must be refused.

use serde_json::{Value, json};

use super::fake::{Fake, Key, unsigned};
use super::{Attempt, Identity, OidcError, Provider, TokenRefused};

/// A provider with one key, and a client of it.
struct World {
    fake: Fake,
    provider: Provider,
    key: Key,
}

impl World {
    async fn new(key: Key) -> Self {
        let fake = Fake::start().await;
        fake.shared.lock().keys = vec![key.published("k1"), json!({"kty": "unknown", "kid": "k0"})];
        let provider = Provider::new(fake.settings());
        Self { fake, provider, key }
    }

    /// A login in which the provider answers with the token that is made of the claims.
    async fn login(&self, token: impl FnOnce(Value) -> String) -> Result<Identity, OidcError> {
        let attempt = Attempt::of("secret");
        let claims = self.fake.visited(&self.provider.begin(&attempt).await?);
        self.fake.shared.lock().token = token(claims);
        self.provider.finish(&attempt, "code").await
    }

    /// The refusal of a token, one of whose claims has another value.
    async fn refused(&self, claim: &str, value: Value) -> TokenRefused {
        let token = |mut claims: Value| {
            claims[claim] = value;
            self.key.token("k1", &claims)
        };
        refusal(self.login(token).await)
    }
}

fn refusal(login: Result<Identity, OidcError>) -> TokenRefused {
    match login {
        Err(OidcError::Token(refused)) => refused,
        other => panic!("the token was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_that_is_signed_by_a_key_of_the_provider_names_the_person_and_the_groups() {
    for key in [Key::ec(), Key::rsa()] {
        let world = World::new(key).await;
        let identity = world.login(|claims| world.key.token("k1", &claims)).await.unwrap();
        assert_eq!(identity.name, "alice@example.org");
        assert_eq!(identity.groups, ["sre", "all"]);
    }
}

#[tokio::test]
async fn a_token_of_another_login_issuer_or_client_and_an_old_one_are_refused_with_the_reason() {
    let world = World::new(Key::ec()).await;
    for (claim, value, reason) in [
        ("nonce", json!("other"), TokenRefused::Nonce),
        ("nonce", Value::Null, TokenRefused::Nonce),
        ("aud", json!("other"), TokenRefused::Audience),
        ("aud", json!(["other"]), TokenRefused::Audience),
        ("aud", json!(["lockstep", "other"]), TokenRefused::Audience),
        ("azp", json!("other"), TokenRefused::Audience),
        ("iss", json!("https://evil.example.org"), TokenRefused::Issuer),
        ("exp", json!(1_000_000), TokenRefused::Time),
        ("exp", Value::Null, TokenRefused::Claim("exp".to_owned())),
        ("nbf", json!(99_999_999_999_u64), TokenRefused::Time),
        ("email", Value::Null, TokenRefused::Claim("email".to_owned())),
        ("email", json!("a\nb"), TokenRefused::Claim("email".to_owned())),
        ("email_verified", json!(false), TokenRefused::Unverified),
        ("email_verified", json!("false"), TokenRefused::Unverified),
        ("email_verified", Value::Null, TokenRefused::Unverified),
    ] {
        let told = format!("{claim} {value}");
        assert_eq!(world.refused(claim, value).await, reason, "{told}");
    }
}

#[tokio::test]
async fn a_token_without_a_signature_or_with_a_wrong_one_is_refused() {
    let world = World::new(Key::ec()).await;
    let none = world.login(|claims| format!("{}.", unsigned(&json!({"alg": "none", "kid": "k1"}), &claims))).await;
    assert!(matches!(refusal(none), TokenRefused::Unreadable(_)));
    let shared = |claims: Value| format!("{}.c2ln", unsigned(&json!({"alg": "HS256", "kid": "k1"}), &claims));
    assert_eq!(refusal(world.login(shared).await), TokenRefused::Algorithm("HS256".to_owned()));
    let no_key = |claims: Value| format!("{}.c2ln", unsigned(&json!({"alg": "ES256"}), &claims));
    assert_eq!(refusal(world.login(no_key).await), TokenRefused::NoKey);
    let forged = world.login(|claims| Key::ec().token("k1", &claims)).await;
    assert_eq!(refusal(forged), TokenRefused::Signature);
    let other_kind = world.login(|claims| Key::rsa().token("k1", &claims)).await;
    assert_eq!(refusal(other_kind), TokenRefused::Signature);
}

#[tokio::test]
async fn a_key_that_the_provider_has_changed_is_read_again_once() {
    let world = World::new(Key::ec()).await;
    for _ in 0..2 {
        assert!(world.login(|claims| world.key.token("k1", &claims)).await.is_ok());
    }
    assert_eq!(world.fake.shared.lock().key_reads, 1, "keys are kept");
    let new = Key::ec();
    world.fake.shared.lock().keys = vec![new.published("k2")];
    assert!(world.login(|claims| new.token("k2", &claims)).await.is_ok());
    assert_eq!(world.fake.shared.lock().key_reads, 2);
    let unknown = world.login(|claims| new.token("k3", &claims)).await;
    assert_eq!(refusal(unknown), TokenRefused::UnknownKey("k3".to_owned()));
    assert_eq!(world.fake.shared.lock().key_reads, 3);
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_verifier_of_its_login_alone() {
    let world = World::new(Key::ec()).await;
    let (own, other) = (Attempt::of("own"), Attempt::of("other"));
    assert!(own.state != other.state && own.nonce != other.nonce);
    let claims = world.fake.visited(&world.provider.begin(&own).await.unwrap());
    world.fake.shared.lock().token = world.key.token("k1", &claims);
    let refused = world.provider.finish(&other, "code").await.unwrap_err();
    assert!(matches!(&refused, OidcError::Refused(why) if why == "invalid_grant"), "{refused}");
    assert!(world.provider.finish(&own, "code").await.is_ok());
}

#[tokio::test]
async fn a_provider_of_another_issuer_or_without_an_answer_begins_no_login() {
    let world = World::new(Key::ec()).await;
    world.fake.shared.lock().issuer = "https://evil.example.org".to_owned();
    let error = world.provider.begin(&Attempt::of("x")).await.unwrap_err();
    assert!(matches!(error, OidcError::Unusable("discovery document", _)), "{error}");
    let settings = super::OidcSettings { issuer: "http://127.0.0.1:1".to_owned(), ..world.fake.settings() };
    let error = Provider::new(settings).begin(&Attempt::of("x")).await.unwrap_err();
    assert!(matches!(error, OidcError::NoAnswer("discovery document", _)), "{error}");
}
