//! The check of an ID token. RS256 and ES256 are taken, and no other algorithm: neither `none`, nor one whose key is a
//! shared secret.

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::{Identity, OidcSettings};

/// The algorithms that are taken.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];
/// The longest name of a person, in bytes.
const LONGEST_NAME: usize = 128;
/// The most groups of a person that are read.
const MOST_GROUPS: usize = 1_000;

/// Why an ID token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// It is no token, or its header names an algorithm that nobody knows, such as `none`.
    #[error("the ID token cannot be read, or has no signature: {0}")]
    Unreadable(String),
    /// Its algorithm is not taken.
    #[error("the ID token is signed by {0}, and RS256 and ES256 alone are taken: correct the client at the provider")]
    Algorithm(String),
    /// It names no key.
    #[error("the ID token names no key (kid)")]
    NoKey,
    /// The provider does not publish the key that it names.
    #[error("the ID token is signed with the key {0:?}, which the provider does not publish")]
    UnknownKey(String),
    /// The signature is wrong, or the key is one of another kind.
    #[error("the signature of the ID token is wrong")]
    Signature,
    /// It is of another issuer.
    #[error("the ID token is of another issuer than console.oidc.issuer")]
    Issuer,
    /// It is for another client.
    #[error("the ID token is for another client than console.oidc.client_id")]
    Audience,
    /// It has expired, or is not valid yet.
    #[error("the ID token has expired, or is not valid yet: compare the clocks, and log in again")]
    Time,
    /// It is of another login.
    #[error("the ID token is of another login (nonce): log in again")]
    Nonce,
    /// It lacks a claim that is needed, or has it in another form.
    #[error("the ID token lacks a usable claim {0}: correct the scopes, or console.oidc.name_claim")]
    Claim(String),
    /// The provider has not verified that the address belongs to the person.
    #[error("the provider has not verified the e-mail address of this account")]
    Unverified,
}

impl TokenRefused {
    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSignature
            | ErrorKind::InvalidAlgorithm
            | ErrorKind::InvalidKeyFormat
            | ErrorKind::InvalidEcdsaKey
            | ErrorKind::InvalidRsaKey(_) => Self::Signature,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => Self::Time,
            ErrorKind::MissingRequiredClaim(claim) => Self::Claim(claim.clone()),
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

/// The algorithm of a token, if it is taken, and the id of its key.
pub(super) fn header(token: &str) -> Result<(Algorithm, String), TokenRefused> {
    let header = decode_header(token).map_err(|error| TokenRefused::Unreadable(error.to_string()))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(TokenRefused::Algorithm(format!("{:?}", header.alg)));
    }
    Ok((header.alg, header.kid.ok_or(TokenRefused::NoKey)?))
}

/// Checks a token with the key that it names, and tells the person.
pub(super) fn check(token: &str, key: &Jwk, settings: &OidcSettings, nonce: &str) -> Result<Identity, TokenRefused> {
    let (algorithm, _) = header(token)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| TokenRefused::Signature)?;
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[&settings.client_id]);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    let decoded = decode::<Map<String, Value>>(token, &key, &validation);
    let claims = decoded.map_err(|error| TokenRefused::of(&error))?.claims;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("nonce") != Some(nonce) {
        return Err(TokenRefused::Nonce);
    }
    // A token for several clients names the one that asked for it.
    let is_for_several = claims.get("aud").and_then(Value::as_array).is_some_and(|clients| clients.len() > 1);
    let client = text("azp").or(if is_for_several { None } else { Some(settings.client_id.as_str()) });
    if client != Some(settings.client_id.as_str()) {
        return Err(TokenRefused::Audience);
    }
    // Some providers leave the claim out, and some write it as text.
    let denies = |claim: &Value| claim.as_bool() != Some(true) && claim.as_str() != Some("true");
    if settings.name_claim == "email" && claims.get("email_verified").is_some_and(denies) {
        return Err(TokenRefused::Unverified);
    }
    let fits = |name: &&str| (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(char::is_control);
    let name = text(&settings.name_claim).filter(fits);
    let name = name.ok_or_else(|| TokenRefused::Claim(settings.name_claim.clone()))?.to_owned();
    Ok(Identity { name, groups: groups(claims.get(&settings.groups_claim)) })
}

/// The groups of a claim: a list of texts, or one text.
fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(group)) => vec![group.clone()],
        Some(Value::Array(groups)) => {
            groups.iter().filter_map(Value::as_str).take(MOST_GROUPS).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}
