//! The IAM policy of a caller: the actions of its calls, on the resources of one site.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::calls::{Caller, On, of};

/// The resources of a site, as a policy names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// The partition of AWS: `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The number of the account.
    pub account: String,
    /// The Region of the tables.
    pub tables_region: String,
    /// The name of the table of refs.
    pub refs: String,
    /// The name of the table of the journal.
    pub journal: String,
    /// Region and name of the stream of every site.
    pub streams: BTreeSet<(String, String)>,
    /// Region and name of the streams that may be read by enhanced fan-out.
    pub fan_out_streams: BTreeSet<(String, String)>,
    /// Region and name of the streams that the site owns.
    pub own_streams: BTreeSet<(String, String)>,
    /// Region and name of those whose number of shards the site's sidecars set.
    pub scaled_streams: BTreeSet<(String, String)>,
    /// Bucket and prefix of the blobs. None: they are not in S3.
    pub blobs: Option<(String, String)>,
    /// The ARNs of the KMS keys that encrypt the resources. None for AWS's own keys, which need no permission.
    pub keys: Vec<String>,
}

impl Resources {
    fn arns(&self, on: On) -> Vec<String> {
        let (partition, account) = (&self.partition, &self.account);
        let table =
            |name: &str| vec![format!("arn:{partition}:dynamodb:{}:{account}:table/{name}", self.tables_region)];
        let stream =
            |(region, name): &(String, String)| format!("arn:{partition}:kinesis:{region}:{account}:stream/{name}");
        match on {
            On::Refs => table(&self.refs),
            On::Journal => table(&self.journal),
            On::Streams => self.streams.iter().map(stream).collect(),
            On::FanOutStreams => self.fan_out_streams.iter().map(stream).collect(),
            On::Consumers => self.fan_out_streams.iter().map(|one| format!("{}/consumer/*", stream(one))).collect(),
            On::OwnStream => self.own_streams.iter().map(stream).collect(),
            On::Backups => {
                [&self.refs, &self.journal].into_iter().flat_map(|name| table(&format!("{name}/backup/*"))).collect()
            }
            On::Everything => vec!["*".to_owned()],
            On::ScaledStreams => self.scaled_streams.iter().map(stream).collect(),
            On::Bucket => self.blobs.iter().map(|(bucket, _)| format!("arn:{partition}:s3:::{bucket}")).collect(),
            On::Objects => self.blobs.iter().map(|(bucket, prefix)| objects(partition, bucket, prefix)).collect(),
        }
    }
}

fn objects(partition: &str, bucket: &str, prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => format!("arn:{partition}:s3:::{bucket}/*"),
        prefix => format!("arn:{partition}:s3:::{bucket}/{prefix}/*"),
    }
}

/// The policy that allows the calls of a caller, and nothing else.
#[must_use]
pub fn policy(resources: &Resources, caller: Caller) -> Value {
    let mut allowed: BTreeMap<On, BTreeSet<&str>> = BTreeMap::new();
    for (action, on) in of(caller).flat_map(|call| call.actions) {
        allowed.entry(*on).or_default().insert(action);
    }
    let statement = |(on, actions): (On, BTreeSet<&str>)| {
        let arns = resources.arns(on);
        (!arns.is_empty()).then(|| json!({"Sid": sid(on), "Effect": "Allow", "Action": actions, "Resource": arns}))
    };
    let mut statements: Vec<Value> = allowed.into_iter().filter_map(statement).collect();
    let uses_key = match caller {
        Caller::Run => &["kms:Decrypt", "kms:GenerateDataKey"][..],
        // DynamoDB makes a grant for itself when a table begins to use a key.
        Caller::RunAndCreate | Caller::Apply => &[
            "kms:CreateGrant",
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:Encrypt",
            "kms:GenerateDataKey",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
        ],
        Caller::Backup => &["kms:Decrypt"],
        Caller::Plan => &[],
    };
    if !resources.keys.is_empty() && !uses_key.is_empty() {
        let services = ["dynamodb.*.amazonaws.com", "kinesis.*.amazonaws.com", "s3.*.amazonaws.com"];
        statements.push(json!({
            "Sid": "Keys", "Effect": "Allow", "Action": uses_key, "Resource": resources.keys,
            "Condition": {"StringLike": {"kms:ViaService": services}},
        }));
    }
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn sid(on: On) -> &'static str {
    match on {
        On::Refs => "Refs",
        On::Journal => "Journal",
        On::Streams => "Streams",
        On::FanOutStreams => "FanOutStreams",
        On::Consumers => "Consumers",
        On::OwnStream => "OwnStream",
        On::ScaledStreams => "ScaledStreams",
        On::Objects => "Blobs",
        On::Bucket => "Bucket",
        On::Backups => "Backups",
        On::Everything => "Everything",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        let stream = |region: &str, name: &str| (region.to_owned(), name.to_owned());
        Resources {
            partition: "aws".to_owned(),
            account: "123456789012".to_owned(),
            tables_region: "eu-central-1".to_owned(),
            refs: "l-refs".to_owned(),
            journal: "l-journal".to_owned(),
            streams: [stream("eu-central-1", "l-a"), stream("eu-west-1", "l-b")].into(),
            fan_out_streams: BTreeSet::new(),
            own_streams: [stream("eu-central-1", "l-a")].into(),
            scaled_streams: BTreeSet::new(),
            blobs: Some(("packs".to_owned(), "prod".to_owned())),
            keys: Vec::new(),
        }
    }

    fn statement(policy: &Value, sid: &str) -> Option<Value> {
        policy["Statement"].as_array()?.iter().find(|one| one["Sid"] == sid).cloned()
    }

    #[test]
    fn a_sidecar_that_runs_may_create_nothing_and_no_statement_has_a_star_for_a_resource() {
        let run = policy(&resources(), Caller::Run);
        let text = run.to_string();
        assert!(!text.contains("Create") && !text.contains("\"*\"") && !text.contains(":*\""), "{text}");
        assert_eq!(statement(&run, "OwnStream"), None);
        assert_eq!(statement(&run, "Keys"), None);
        let blobs = statement(&run, "Blobs").unwrap();
        assert_eq!(blobs["Resource"], json!(["arn:aws:s3:::packs/prod/*"]));
        assert_eq!(statement(&run, "Bucket").unwrap()["Action"], json!(["s3:ListBucket"]));
        let streams = statement(&run, "Streams").unwrap();
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/l-b";
        assert_eq!(streams["Resource"][1], arn, "a node publishes what dead nodes of other sites left");
        assert!(streams["Action"].to_string().contains("kinesis:PutRecords"));
        assert!(!text.contains("Consumer") && !text.contains("Subscribe"), "no stream may be read by fan-out: {text}");
    }

    #[test]
    fn a_sidecar_may_subscribe_as_a_consumer_of_the_streams_that_are_read_by_fan_out() {
        let fan_out_streams = [("eu-west-1".to_owned(), "l-b".to_owned())].into();
        let run = policy(&Resources { fan_out_streams, ..resources() }, Caller::Run);
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/l-b";
        let consumers = statement(&run, "Consumers").unwrap();
        assert_eq!(consumers["Resource"], json!([format!("{arn}/consumer/*")]));
        assert!(consumers["Action"].to_string().contains("kinesis:SubscribeToShard"));
        let streams = statement(&run, "FanOutStreams").unwrap();
        assert_eq!(streams["Resource"], json!([arn]));
        assert!(!streams["Action"].to_string().contains("kinesis:SubscribeToShard"));
    }

    #[test]
    fn backups_are_for_operators_who_read_the_refs_and_change_nothing() {
        let backup = policy(&resources(), Caller::Backup);
        let refs = statement(&backup, "Refs").unwrap();
        assert_eq!(refs["Action"], json!(["dynamodb:CreateBackup", "dynamodb:GetItem", "dynamodb:Query"]));
        assert_eq!(statement(&backup, "Journal").unwrap()["Action"], json!(["dynamodb:CreateBackup"]));
        let table = "arn:aws:dynamodb:eu-central-1:123456789012:table";
        let backups = [format!("{table}/l-refs/backup/*"), format!("{table}/l-journal/backup/*")];
        assert_eq!(statement(&backup, "Backups").unwrap()["Resource"], json!(backups));
        let all = statement(&backup, "Everything").unwrap();
        assert_eq!((&all["Action"], &all["Resource"]), (&json!(["dynamodb:ListBackups"]), &json!(["*"])));
        assert_eq!((statement(&backup, "Streams"), statement(&backup, "Blobs")), (None, None));
        for caller in [Caller::Run, Caller::RunAndCreate, Caller::Plan, Caller::Apply] {
            assert!(!policy(&resources(), caller).to_string().contains("dynamodb:CreateBackup"), "{caller:?}");
        }
    }

    #[test]
    fn a_sidecar_with_an_autoscaler_may_set_the_shards_of_its_own_stream_and_no_other_one() {
        assert!(!policy(&resources(), Caller::Run).to_string().contains("UpdateShardCount"));
        let scaled_streams = resources().own_streams;
        let run = policy(&Resources { scaled_streams, ..resources() }, Caller::Run);
        let scaled = statement(&run, "ScaledStreams").unwrap();
        assert_eq!(scaled["Action"], json!(["kinesis:UpdateShardCount"]));
        assert_eq!(scaled["Resource"], json!(["arn:aws:kinesis:eu-central-1:123456789012:stream/l-a"]));
    }

    #[test]
    fn a_sidecar_that_creates_may_create_its_own_stream_alone() {
        let creates = policy(&resources(), Caller::RunAndCreate);
        let own = statement(&creates, "OwnStream").unwrap();
        assert_eq!(own["Action"], json!(["kinesis:CreateStream"]));
        assert_eq!(own["Resource"], json!(["arn:aws:kinesis:eu-central-1:123456789012:stream/l-a"]));
    }

    #[test]
    fn keys_are_usable_through_the_services_alone_and_blobs_in_a_folder_need_nothing() {
        let keys = vec!["arn:aws:kms:eu-central-1:123456789012:key/k".to_owned()];
        let run = policy(&Resources { keys, blobs: None, ..resources() }, Caller::Run);
        let used = statement(&run, "Keys").unwrap();
        assert_eq!(used["Action"], json!(["kms:Decrypt", "kms:GenerateDataKey"]));
        assert!(used["Condition"]["StringLike"]["kms:ViaService"].is_array());
        assert_eq!((statement(&run, "Blobs"), statement(&run, "Bucket")), (None, None));
        let whole = Resources { blobs: Some(("packs".to_owned(), String::new())), ..resources() };
        assert_eq!(
            statement(&policy(&whole, Caller::Run), "Blobs").unwrap()["Resource"],
            json!(["arn:aws:s3:::packs/*"])
        );
    }
}
