//! The wishes of an operator beside the configuration: encryption keys, tags, and the mode of streams.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Tags that a resource must have.
pub type Tags = BTreeMap<String, String>;

/// Why a wish cannot be met. Correct the arguments of the command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// The text is not the ARN of a key.
    #[error("write the ARN of a key: arn:aws:kms:eu-central-1:123456789012:key/ID")]
    NoArn,
    /// This key is the second one of this Region.
    #[error("--kms-key {0}: there is a key for {1} already")]
    SecondKey(String, String),
    /// Keys were asked for, and none is of this Region.
    #[error("no --kms-key is of Region {0}, where this site has resources: give one more")]
    NoKey(String),
    /// The text is not a mode of a stream.
    #[error("write provisioned or on-demand")]
    NoMode,
}

/// The ARN of a KMS key. An alias or a bare id could not be compared with the ARN that AWS tells of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArn {
    text: String,
    region: String,
}

impl KeyArn {
    /// The whole ARN, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether AWS means this key by `id`: an ARN, or the id of the key alone.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        id == self.text || (!id.is_empty() && self.text.ends_with(&format!(":key/{id}")))
    }
}

impl FromStr for KeyArn {
    type Err = WishError;

    fn from_str(text: &str) -> Result<Self, WishError> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts[..] {
            ["arn", partition, "kms", region, account, key]
                if !partition.is_empty()
                    && !region.is_empty()
                    && account.bytes().all(|byte| byte.is_ascii_digit())
                    && key.strip_prefix("key/").is_some_and(|id| !id.is_empty()) =>
            {
                Ok(Self { text: text.to_owned(), region: region.to_owned() })
            }
            _ => Err(WishError::NoArn),
        }
    }
}

/// The KMS keys that encrypt the resources of a site, one per Region. None: AWS's own keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsKeys(Vec<KeyArn>);

impl KmsKeys {
    /// Keys of different Regions.
    ///
    /// # Errors
    /// Two keys of one Region.
    pub fn new(keys: Vec<KeyArn>) -> Result<Self, WishError> {
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.region == key.region) {
                return Err(WishError::SecondKey(key.text.clone(), key.region.clone()));
            }
        }
        Ok(Self(keys))
    }

    /// The key for a resource of a Region. None if no key was asked for.
    ///
    /// # Errors
    /// Keys were asked for, and none is of this Region.
    pub fn of(&self, region: &str) -> Result<Option<KeyArn>, WishError> {
        let found = self.0.iter().find(|key| key.region == region);
        if found.is_none() && !self.0.is_empty() {
            return Err(WishError::NoKey(region.to_owned()));
        }
        Ok(found.cloned())
    }

    /// The ARNs of all keys.
    #[must_use]
    pub fn arns(&self) -> Vec<&str> {
        self.0.iter().map(KeyArn::as_str).collect()
    }
}

/// How the capacity of a stream is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// A number of shards that is paid for by the hour.
    Provisioned,
    /// Kinesis sets the number of shards.
    OnDemand,
}

impl StreamMode {
    /// The mode in AWS's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

impl FromStr for StreamMode {
    type Err = WishError;

    fn from_str(text: &str) -> Result<Self, WishError> {
        match text {
            "provisioned" => Ok(Self::Provisioned),
            "on-demand" => Ok(Self::OnDemand),
            _ => Err(WishError::NoMode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1234-abcd";

    #[test]
    fn only_the_arn_of_a_key_is_taken_and_its_id_is_recognised() {
        let key: KeyArn = KEY.parse().unwrap();
        assert!(key.is(KEY) && key.is("1234-abcd") && !key.is("abcd") && !key.is("") && !key.is("alias/aws/kinesis"));
        for wrong in ["alias/x", "1234-abcd", "arn:aws:kms:eu-west-1:123456789012:alias/x", "arn:aws:kms::1:key/x", ""]
        {
            assert!(wrong.parse::<KeyArn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_region_has_its_own_key() {
        let key: KeyArn = KEY.parse().unwrap();
        let keys = KmsKeys::new(vec![key.clone()]).unwrap();
        assert_eq!(keys.of("eu-west-1"), Ok(Some(key.clone())));
        assert_eq!(keys.of("us-east-1"), Err(WishError::NoKey("us-east-1".to_owned())));
        assert_eq!(KmsKeys::default().of("us-east-1"), Ok(None));
        assert!(KmsKeys::new(vec![key.clone(), key]).is_err());
    }
}
