//! Records a trace: reads the streams of all sites of a configuration, which repeat their journals, and writes one line
//! per transaction. Projects and sites become numbers, and nothing of refs, users and content is kept but their counts,
//! sizes and kinds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use lockstep::node::assembly::seams;
use lockstep::node::config;
use lockstep::seams::eventlog::{EventLog, Position};
use lockstep_proto::record::Record;
use lockstep_proto::transaction::{Pack, Transaction};
use lockstep_proto::{RefKey, SiteId};

use crate::Fallible;
use crate::load::model::Class;
use crate::load::plan::{MOST_ARRIVALS, TraceLine};

/// Records per read of a shard.
const BATCH: usize = 1_000;

/// A transaction, as far as the trace keeps it.
struct Seen {
    at_ms: u64,
    project: String,
    site: String,
    class: Class,
    refs: u32,
    bytes: u32,
}

/// The counts of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Lines of the trace.
    pub transactions: usize,
    /// Records that are left out: stream events, and transactions whose long form is in the blob store.
    pub left_out: usize,
}

/// Writes the trace of all transactions that the streams still keep.
///
/// # Errors
/// The configuration is none, or a stream does not answer.
pub async fn record(configuration: &Path, out: &Path) -> Fallible<Recorded> {
    let settings = config::load(configuration)?;
    let seams = seams(&settings, None).await?;
    let (mut seen, mut left_out) = (Vec::new(), 0);
    for site in &settings.sites {
        left_out += read_site(seams.eventlog.as_ref(), site, &mut seen).await?;
    }
    let lines = anonymous(seen);
    let mut file = std::io::BufWriter::new(std::fs::File::create(out)?);
    for line in &lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(Recorded { transactions: lines.len(), left_out })
}

async fn read_site(log: &dyn EventLog, site: &SiteId, seen: &mut Vec<Seen>) -> Fallible<usize> {
    let mut left_out = 0;
    for shard in log.describe(site).await?.shards {
        let mut reader = log.open(site, &shard.id, &Position::Start).await?;
        loop {
            let batch = reader.next(BATCH).await?;
            for (_, data) in &batch.records {
                match Record::decode(data) {
                    Ok(Record::Transaction(transaction)) => seen.push(see(&transaction)),
                    _ => left_out += 1,
                }
            }
            if seen.len() > MOST_ARRIVALS {
                return Err(format!("the streams keep more than {MOST_ARRIVALS} transactions").into());
            }
            if batch.ended || (batch.records.is_empty() && !batch.behind) {
                break;
            }
        }
    }
    Ok(left_out)
}

fn see(transaction: &Transaction) -> Seen {
    let bytes = match &transaction.pack {
        Pack::Empty => 0,
        Pack::Inline(pack) => pack.len() as u64,
        Pack::Blob { bytes, .. } => *bytes,
    };
    let names = transaction.commands.iter().filter_map(|command| match &command.key {
        RefKey::Ref(name) => Some(name.to_string()),
        _ => None,
    });
    Seen {
        at_ms: transaction.committed_at_ms,
        project: transaction.project.to_string(),
        site: transaction.site.to_string(),
        class: class(&names.collect::<Vec<_>>()),
        refs: u32::try_from(transaction.commands.len()).unwrap_or(u32::MAX),
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
    }
}

/// The class that the names of the refs suggest.
fn class(names: &[String]) -> Class {
    let any = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let is_meta = |name: &&String| name.ends_with("/meta") || name.ends_with("/robot-comments");
    if any("refs/tags/") {
        Class::ReleaseTag
    } else if any("refs/draft-comments/") || any("refs/starred-changes/") {
        Class::Draft
    } else if any("refs/users/") {
        Class::UserRef
    } else if any("refs/heads/") && any("refs/changes/") {
        Class::Submit
    } else if any("refs/changes/") {
        if names.iter().all(|name| is_meta(&name)) { Class::Comment } else { Class::PushPatchSet }
    } else {
        Class::BotBump
    }
}

/// Replaces names by numbers, and times by those after the first transaction.
fn anonymous(mut seen: Vec<Seen>) -> Vec<TraceLine> {
    seen.sort_by(|one, other| (one.at_ms, &one.project, one.refs).cmp(&(other.at_ms, &other.project, other.refs)));
    let first = seen.first().map_or(0, |first| first.at_ms);
    let (mut projects, mut sites) = (BTreeMap::new(), BTreeMap::new());
    let number = |numbers: &mut BTreeMap<String, u32>, name: String| {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        *numbers.entry(name).or_insert(next)
    };
    let line = |one: Seen| TraceLine {
        at_ms: one.at_ms - first,
        class: one.class,
        project: number(&mut projects, one.project),
        site: number(&mut sites, one.site),
        refs: one.refs,
        bytes: one.bytes,
    };
    seen.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use lockstep::node::assembly::Embedded;
    use lockstep::seams::eventlog::Record as Appended;
    use lockstep_proto::RefValue;
    use lockstep_proto::slot::{Incarnation, IncarnationId, Lane, Seq};
    use lockstep_proto::transaction::Command;

    use super::*;
    use crate::load::plan::read_trace;

    /// A transaction of some refs in the first incarnation of a project.
    fn transaction(project: &str, seq: u64, at_ms: u64, names: &[&str]) -> Transaction {
        let node = IncarnationId { node: "muc-1-0".parse().unwrap(), number: Incarnation(1) };
        let id = node.lane(Lane(0)).slot(Seq(seq)).txn(7 + seq);
        let value = RefValue::Oid("8e61b46ca5eec1b00746d09badd63fc9dd690c10".parse().unwrap());
        let command = |name: &&str| Command::creation(name.parse().unwrap(), value.clone());
        Transaction {
            committed_at_ms: at_ms,
            request_id: "r".to_owned(),
            commands: names.iter().map(command).collect(),
            ..Transaction::empty(id, "muc-1".parse().unwrap(), format!("{project}#1").parse().unwrap())
        }
    }

    #[tokio::test]
    async fn the_streams_of_a_site_become_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = Embedded::start(&folder.path().join("aws")).await.unwrap();
        let (home, configuration) = (folder.path().display(), folder.path().join("lockstep.toml"));
        let text = format!(
            "site = \"muc-1\"\nnode = \"muc-1-0\"\nsites = [\"muc-1\"]\nroot = \"{home}/git\"\n\
             state = \"{home}/git/.lockstep\"\n[api]\nsocket = \"{home}/api.sock\"\n[refdb]\nprefix = \"load\"\n\
             endpoint = \"{}\"\n[eventlog]\nprefix = \"load\"\nendpoint = \"{}\"\n\
             [blobs]\nurl = \"file://{home}/blobs\"\n",
            cloud.dynamo_endpoint(),
            cloud.kinesis_endpoint(),
        );
        std::fs::write(&configuration, text).unwrap();
        let log = seams(&config::load(&configuration).unwrap(), None).await.unwrap().eventlog;
        let site: SiteId = "muc-1".parse().unwrap();
        log.ensure(&site).await.unwrap();
        let records = [
            transaction("secret", 0, 5_000, &["refs/changes/01/1/1", "refs/changes/01/1/meta"]),
            transaction("other", 1, 5_250, &["refs/heads/main"]),
        ];
        let records: Vec<_> =
            records.iter().map(|one| Appended { partition_key: one.project.to_string(), data: one.encode() }).collect();
        assert!(log.append(&site, &records).await.unwrap().iter().all(Result::is_ok));
        let out = folder.path().join("trace.jsonl");
        let recorded = record(&configuration, &out).await.unwrap();
        assert_eq!(recorded, Recorded { transactions: 2, left_out: 0 });
        let text = std::fs::read_to_string(&out).unwrap();
        let trace = read_trace(&text).unwrap();
        let seen: Vec<_> = trace.iter().map(|line| (line.at_ms, line.class, line.refs, line.project)).collect();
        assert_eq!(seen, [(0, Class::PushPatchSet, 2, 0), (250, Class::BotBump, 1, 1)]);
        assert!(!text.contains("secret") && !text.contains("refs/"), "{text}");
    }

    #[test]
    fn names_become_numbers_and_kinds() {
        let class_of = |names: &[&str]| class(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(class_of(&["refs/changes/01/1/1", "refs/changes/01/1/meta"]), Class::PushPatchSet);
        assert_eq!(class_of(&["refs/changes/01/1/meta"]), Class::Comment);
        assert_eq!(class_of(&["refs/heads/main", "refs/changes/01/1/meta"]), Class::Submit);
        assert_eq!(class_of(&["refs/draft-comments/01/1/7"]), Class::Draft);
        assert_eq!(class_of(&["refs/heads/main"]), Class::BotBump);
        let seen = |at_ms, project: &str| Seen {
            at_ms,
            project: project.to_owned(),
            site: "muc".to_owned(),
            class: Class::Draft,
            refs: 1,
            bytes: 5,
        };
        let lines = anonymous(vec![seen(1_005, "secret"), seen(1_000, "other")]);
        let text = serde_json::to_string(&lines).unwrap();
        assert!(!text.contains("secret") && !text.contains("muc"), "{text}");
        assert_eq!(lines.iter().map(|line| (line.at_ms, line.project)).collect::<Vec<_>>(), [(0, 0), (5, 1)]);
    }
}
