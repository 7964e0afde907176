//! The bucket of the blobs as `lockstep aws` looks at it, creates it and mends it.
//!
//! The `object_store` crate has no calls on buckets. It signs requests and finds credentials; the calls are made here.
//!
//! | file | content |
//! |---|---|
//! | `wire` | one signed call, and its answer |
//! | `xml` | the few elements of S3's answers and requests |
//! | `compared` | the properties that a bucket should have |

mod compared;
mod wire;
mod xml;

use async_trait::async_trait;
use object_store::path::Path as Key;

use self::compared::{Seen, compare};
use self::wire::{Answer, Lost, Wire};
use super::object::OpenError;
use crate::seams::aws::{KeyArn, Property, Provided, ProvisionError, Row, Tags};

/// The properties that a bucket should have.
#[derive(Clone, Debug)]
pub struct BucketWishes {
    /// The key of the encryption. None accepts every key.
    pub key: Option<KeyArn>,
    /// Tags that the bucket must have.
    pub tags: Tags,
}

/// The bucket of the blobs of all sites.
#[derive(Debug)]
pub struct ProvidedBucket {
    wire: Wire,
    bucket: String,
    wishes: BucketWishes,
}

/// Bucket and prefix of a URL `s3://bucket/prefix`. None: the blobs are elsewhere.
#[must_use]
pub fn bucket_of(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("s3://")?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// The Region of the buckets that this process reaches: `AWS_REGION`, as S3 reads it.
#[must_use]
pub fn bucket_region(options: &[(String, String)]) -> String {
    wire::region(options)
}

impl ProvidedBucket {
    /// The bucket of a URL, with the options of [`super::object::ObjectBlobs::from_url`].
    ///
    /// # Errors
    /// The URL is not of S3, or an option does not exist.
    pub fn open(url: &str, options: &[(String, String)], wishes: BucketWishes) -> Result<Self, OpenError> {
        let refuse = |why: String| OpenError { place: url.to_owned(), why };
        let (bucket, prefix) = bucket_of(url).ok_or_else(|| refuse("is not s3://bucket/prefix".to_owned()))?;
        Key::parse(prefix).map_err(|error| refuse(format!("has a bad prefix ({error})")))?;
        let wire = Wire::open(bucket, options).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { wire, bucket: bucket.to_owned(), wishes })
    }

    fn resource(&self) -> String {
        format!("bucket {}", self.bucket)
    }

    /// Translates a call that was lost, or an answer that is not the one of success.
    fn failed(&self, action: &str, answer: Result<&Answer, Lost>) -> ProvisionError {
        let resource = self.resource();
        match answer {
            Err(Lost::Before(why)) => ProvisionError::Failed { resource, why: format!("{action}: {why}") },
            Err(Lost::Unknown(why)) => ProvisionError::lost(resource, action, &why),
            Ok(answer) if answer.status == 403 => {
                ProvisionError::Denied { action: format!("s3:{action}"), resource, why: answer.told() }
            }
            Ok(answer) if answer.status == 301 => {
                let why = format!("{action}: it is in another Region: set AWS_REGION to that ({})", answer.told());
                ProvisionError::Failed { resource, why }
            }
            Ok(answer) if answer.status >= 500 => ProvisionError::lost(resource, action, &answer.told()),
            Ok(answer) => ProvisionError::Failed { resource, why: format!("{action}: {}", answer.told()) },
        }
    }

    /// Asks for a part of the bucket's settings. `Some(None)`: there is none. None: the endpoint does not know it.
    async fn ask(&self, action: &str, part: &str, absent: &str) -> Result<Option<Option<String>>, ProvisionError> {
        let answer = self.wire.get(part).await.map_err(|lost| self.failed(action, Err(lost)))?;
        match answer.status {
            200 => Ok(Some(Some(answer.text))),
            404 if answer.code() == Some(absent) => Ok(Some(None)),
            405 | 501 => Ok(None),
            _ => Err(self.failed(action, Ok(&answer))),
        }
    }

    async fn put(&self, action: &str, part: &str, body: String) -> Result<(), ProvisionError> {
        let answer = self.wire.put(part, body).await.map_err(|lost| self.failed(action, Err(lost)))?;
        if (200..300).contains(&answer.status) { Ok(()) } else { Err(self.failed(action, Ok(&answer))) }
    }

    async fn exists(&self) -> Result<bool, ProvisionError> {
        let answer = self.wire.head().await.map_err(|lost| self.failed("ListBucket", Err(lost)))?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.failed("ListBucket", Ok(&answer))),
        }
    }

    async fn seen(&self) -> Result<Seen, ProvisionError> {
        let absent = "ServerSideEncryptionConfigurationNotFoundError";
        let encryption = self.ask("GetEncryptionConfiguration", "encryption", absent).await?;
        let absent = "NoSuchPublicAccessBlockConfiguration";
        let access = self.ask("GetBucketPublicAccessBlock", "publicAccessBlock", absent).await?;
        let tags = match self.wishes.tags.is_empty() {
            true => Some(None),
            false => self.ask("GetBucketTagging", "tagging", "NoSuchTagSet").await?,
        };
        Ok(Seen { encryption, access, tags })
    }
}

#[async_trait]
impl Provided for ProvidedBucket {
    async fn look(&self) -> Result<Vec<Row>, ProvisionError> {
        let seen = if self.exists().await? { Some(self.seen().await?) } else { None };
        Ok(compare(&self.resource(), self.wire.region(), &self.wishes, seen.as_ref()))
    }

    async fn mend(&self, row: &Row) -> Result<(), ProvisionError> {
        let key = self.wishes.key.as_ref();
        match &row.property {
            Property::Existence => self.put("CreateBucket", "", xml::creation(self.wire.region())).await,
            Property::Encryption => match key {
                Some(key) => self.put("PutEncryptionConfiguration", "encryption", xml::encryption(key.as_str())).await,
                None => Ok(()),
            },
            Property::PublicAccess => self.put("PutBucketPublicAccessBlock", "publicAccessBlock", xml::closed()).await,
            // The call replaces all tags, so it is made for a bucket that has none.
            Property::Tag(_) => self.put("PutBucketTagging", "tagging", xml::tagging(&self.wishes.tags)).await,
            other => {
                let why = format!("{other} is changed by an operator alone");
                Err(ProvisionError::Failed { resource: self.resource(), why })
            }
        }
    }
}
