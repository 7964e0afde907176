//! A small private authority: one key that signs the certificates of all nodes, for those who have none of their own.
//! With cert-manager, SPIRE or Vault it is not needed.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::name::PeerName;

/// A certificate and its private key, in PEM format.
pub struct Pair {
    /// The certificate, in PEM format.
    pub certificate: String,
    /// The private key. Keep it secret.
    pub key: String,
}

/// The period in which a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The present time, since 1970.
    pub now: Duration,
    /// How long the certificate is valid.
    pub lifetime: Duration,
}

/// How far a certificate's start lies in the past, for machines whose clocks are slow.
const EARLIER: Duration = Duration::from_secs(300);

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The files of the authority do not hold what they should.
    #[error("the authority cannot be used: {0}")]
    Unusable(rcgen::Error),
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    NotMade(#[from] rcgen::Error),
}

/// Makes an authority. `name` is the subject of its certificate.
///
/// # Errors
/// See [`AuthorityError`].
pub fn init(name: &str, validity: Validity) -> Result<Pair, AuthorityError> {
    let mut params = params(name, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    Ok(Pair { certificate: authority.pem(), key: authority.key().serialize_pem() })
}

/// Issues the certificate of a node with these names. It serves for both sides of a connection.
///
/// # Errors
/// See [`AuthorityError`].
pub fn issue(authority: &Pair, names: &[PeerName], validity: Validity) -> Result<Pair, AuthorityError> {
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    signed(authority, names, &both, validity)
}

/// Issues the certificate of an operator. It serves for the client's side alone, so nobody can be a node with it.
///
/// # Errors
/// See [`AuthorityError`].
pub fn issue_operator(authority: &Pair, name: &PeerName, validity: Validity) -> Result<Pair, AuthorityError> {
    signed(authority, std::slice::from_ref(name), &[ExtendedKeyUsagePurpose::ClientAuth], validity)
}

fn signed(
    authority: &Pair,
    names: &[PeerName],
    usages: &[ExtendedKeyUsagePurpose],
    validity: Validity,
) -> Result<Pair, AuthorityError> {
    let signer = KeyPair::from_pem(&authority.key).map_err(AuthorityError::Unusable)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signer).map_err(AuthorityError::Unusable)?;
    let subject = names.first().map(PeerName::to_string).unwrap_or_default();
    let mut params = params(&subject, validity)?;
    params.subject_alt_names = names.iter().map(alternative).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(subject: &str, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    let start = validity.now.saturating_sub(EARLIER);
    params.not_before = at(start)?;
    params.not_after = at(validity.now + validity.lifetime)?;
    Ok(params)
}

fn at(since_1970: Duration) -> Result<time::OffsetDateTime, rcgen::Error> {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| rcgen::Error::Time)
}

fn alternative(name: &PeerName) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        PeerName::Spiffe(id) => SanType::URI(id.as_str().try_into()?),
        PeerName::Host(host) => match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        },
    })
}
