//! The few elements of S3's answers that are read, and the bodies of the requests that are made.

use crate::seams::aws::Tags;

const SPACE: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

/// The Region in which a bucket is created without saying so.
const HOME: &str = "us-east-1";

/// The text of the first element of a name. The names that are asked for hold no elements.
pub(super) fn text<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

/// The tags of an answer.
pub(super) fn tags(xml: &str) -> Tags {
    let one = |part: &str| Some((plain(text(part, "Key")?), plain(text(part, "Value")?)));
    xml.split("<Tag>").skip(1).filter_map(one).collect()
}

fn plain(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (escaped, letter)| text.replace(escaped, letter))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The body that creates a bucket in a Region.
pub(super) fn creation(region: &str) -> String {
    match region {
        HOME => String::new(),
        region => format!(
            "<CreateBucketConfiguration {SPACE}><LocationConstraint>{}</LocationConstraint>\
             </CreateBucketConfiguration>",
            escaped(region)
        ),
    }
}

/// The body that encrypts new objects by a key.
pub(super) fn encryption(key: &str) -> String {
    format!(
        "<ServerSideEncryptionConfiguration {SPACE}><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms\
         </SSEAlgorithm><KMSMasterKeyID>{}</KMSMasterKeyID></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true\
         </BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>",
        escaped(key)
    )
}

/// The four switches that keep a bucket closed to the public.
pub(super) const SWITCHES: [&str; 4] =
    ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];

/// The body that closes a bucket to the public.
pub(super) fn closed() -> String {
    let switches: String = SWITCHES.iter().map(|name| format!("<{name}>true</{name}>")).collect();
    format!("<PublicAccessBlockConfiguration {SPACE}>{switches}</PublicAccessBlockConfiguration>")
}

/// The body that gives a bucket its tags.
pub(super) fn tagging(tags: &Tags) -> String {
    let one = |(key, value): (&String, &String)| {
        format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escaped(key), escaped(value))
    };
    let tags: String = tags.iter().map(one).collect();
    format!("<Tagging {SPACE}><TagSet>{tags}</TagSet></Tagging>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back_as_they_were_sent() {
        let sent: Tags = [("a&b".to_owned(), "<1>".to_owned()), ("c".to_owned(), String::new())].into();
        assert_eq!(tags(&tagging(&sent)), sent);
        assert_eq!(text("<Error><Code>NoSuchTagSet</Code></Error>", "Code"), Some("NoSuchTagSet"));
        assert_eq!(text("<Error/>", "Code"), None);
        assert!(creation("us-east-1").is_empty() && creation("eu-west-1").contains(">eu-west-1<"));
    }
}
