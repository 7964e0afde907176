//! Compares a bucket with the needs of a site. Pure: the answers are S3's, or made up by a test.

use super::BucketWishes;
use super::xml;
use crate::seams::aws::{Property, Row, Rows};

/// The settings of a bucket, as S3 answers them. `Some(None)`: not set. None: the endpoint does not know the question.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) encryption: Option<Option<String>>,
    pub(super) access: Option<Option<String>>,
    pub(super) tags: Option<Option<String>>,
}

/// The rows of a bucket. `seen` is None if it does not exist.
pub(super) fn compare(resource: &str, region: &str, wishes: &BucketWishes, seen: Option<&Seen>) -> Vec<Row> {
    let mut rows = Rows::of(resource, region);
    let Some(seen) = seen else {
        rows.missing_unless(false, Property::Existence, "a bucket", "none");
        return rows.done();
    };
    rows.missing_unless(true, Property::Existence, "a bucket", "a bucket");
    encryption(wishes, seen, &mut rows);
    match &seen.access {
        None => rows.not_answered(Property::PublicAccess, "blocked"),
        Some(access) => {
            let is_on = |name: &&str| access.as_deref().and_then(|text| xml::text(text, name)) == Some("true");
            let blocked = xml::SWITCHES.iter().filter(|name| is_on(name)).count();
            let found = if blocked == xml::SWITCHES.len() { "blocked" } else { "not blocked" };
            rows.missing_unless(found == "blocked", Property::PublicAccess, "blocked", found);
        }
    }
    match &seen.tags {
        None => wishes.tags.iter().for_each(|(key, value)| rows.not_answered(Property::Tag(key.clone()), value)),
        Some(text) => tags(resource, wishes, text.as_deref(), &mut rows),
    }
    rows.done()
}

fn encryption(wishes: &BucketWishes, seen: &Seen, rows: &mut Rows) {
    let wanted = wishes.key.as_ref().map_or("any key", |key| key.as_str());
    let Some(text) = &seen.encryption else { return rows.not_answered(Property::Encryption, wanted) };
    let text = text.as_deref().unwrap_or_default();
    let is_kms = xml::text(text, "SSEAlgorithm").is_some_and(|name| name.starts_with("aws:kms"));
    let has = is_kms.then(|| xml::text(text, "KMSMasterKeyID").unwrap_or("AWS-managed KMS key"));
    match (&wishes.key, has) {
        (None, has) => rows.missing_unless(true, Property::Encryption, wanted, has.unwrap_or("S3-managed key")),
        (Some(_), None) => rows.missing_unless(false, Property::Encryption, wanted, "S3-managed key"),
        (Some(key), Some(has)) => {
            let remedy = format!("give --kms-key {has}, or change the default encryption of the bucket");
            rows.differs_unless(key.is(has), Property::Encryption, wanted, has, remedy);
        }
    }
}

/// S3 replaces all tags of a bucket in one call, so tags are added to a bucket that has none alone.
fn tags(resource: &str, wishes: &BucketWishes, text: Option<&str>, rows: &mut Rows) {
    let found = text.map(xml::tags).unwrap_or_default();
    if found.is_empty() {
        return rows.tags(&wishes.tags, &found);
    }
    for (key, value) in &wishes.tags {
        let has = found.get(key);
        let remedy =
            format!("add it to the other tags of {resource}: aws s3api put-bucket-tagging replaces all of them");
        let told = has.map_or("none", String::as_str);
        rows.differs_unless(has == Some(value), Property::Tag(key.clone()), value, told, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::aws::Verdict;

    const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/k";

    fn wishes(key: Option<&str>) -> BucketWishes {
        let tags = [("team".to_owned(), "scm".to_owned())].into();
        BucketWishes { key: key.map(|key| key.parse().unwrap()), tags }
    }

    fn others(seen: &Seen, key: Option<&str>) -> Vec<(Property, Verdict)> {
        let rows = compare("bucket packs", "eu-west-1", &wishes(key), Some(seen));
        let rows = rows.into_iter().filter(|row| row.verdict != Verdict::Same);
        rows.map(|row| (row.property, row.verdict)).collect()
    }

    fn good() -> Seen {
        let tags = Some(Some(xml::tagging(&wishes(None).tags)));
        Seen { encryption: Some(Some(xml::encryption(KEY))), access: Some(Some(xml::closed())), tags }
    }

    #[test]
    fn a_bucket_that_is_as_wanted_has_no_difference() {
        assert_eq!(others(&good(), Some(KEY)), []);
        assert_eq!(others(&Seen { encryption: Some(None), ..good() }, None), []);
    }

    #[test]
    fn a_new_bucket_lacks_what_can_be_added() {
        let new = Seen { encryption: Some(None), access: Some(None), tags: Some(None) };
        let missing = [Property::Encryption, Property::PublicAccess, Property::Tag("team".to_owned())];
        assert_eq!(others(&new, Some(KEY)), missing.map(|property| (property, Verdict::Missing)));
        let half = xml::closed().replacen("true", "false", 1);
        let half = Seen { access: Some(Some(half)), ..good() };
        assert_eq!(others(&half, None), [(Property::PublicAccess, Verdict::Missing)]);
    }

    #[test]
    fn tags_of_others_and_another_key_are_left_alone() {
        let theirs = [("owner".to_owned(), "them".to_owned())].into();
        let seen = Seen { tags: Some(Some(xml::tagging(&theirs))), ..good() };
        assert_eq!(others(&seen, None), [(Property::Tag("team".to_owned()), Verdict::Differs)]);
        let other = Some("arn:aws:kms:eu-west-1:123456789012:key/other");
        assert_eq!(others(&good(), other), [(Property::Encryption, Verdict::Differs)]);
        let silent = Seen { encryption: None, access: None, tags: None };
        assert!(others(&silent, None).iter().all(|(_, verdict)| *verdict == Verdict::NotAnswered));
    }
}
