//! Decorators of seams that measure each call: its number, its result, its duration or its bytes.

mod blobs;
mod eventlog;
mod refdb;
mod repositories;

pub use blobs::MeteredBlobs;
pub use eventlog::MeteredEventLog;
pub use refdb::metered;
pub use repositories::MeteredRepositories;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use lockstep_proto::overview::Written;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::seams::blob::memory::MemoryBlobs;
    use crate::seams::blob::{BlobStore, Payload};
    use crate::seams::eventlog::limits::RECORD_BYTES;
    use crate::seams::eventlog::memory::MemoryEventLog;
    use crate::seams::eventlog::{EventLog, Position, Record};
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::git::model::counted::CountedRepositories;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::{LogFormat, Settings, Telemetry};

    fn telemetry() -> Telemetry {
        let settings = Settings {
            site: "a".parse().unwrap(),
            node: "a-0".parse().unwrap(),
            log_format: LogFormat::Text,
            log_filter: "warn".to_owned(),
            otlp_endpoint: None,
        };
        Telemetry::build(&settings).unwrap()
    }

    fn has(telemetry: &Telemetry, line: &str) -> bool {
        telemetry.render().unwrap().lines().any(|one| one == line)
    }

    #[tokio::test]
    async fn records_are_counted_once_they_are_taken_and_when_they_are_read() {
        let telemetry = telemetry();
        let metrics = Metrics::new(&telemetry.meter()).eventlog;
        let log = MeteredEventLog::new(Arc::new(MemoryEventLog::new(1)), metrics);
        let site = "a".parse().unwrap();
        log.ensure(&site).await.unwrap();
        let record = |bytes| Record { partition_key: "tools".to_owned(), data: Bytes::from(vec![0; bytes]) };
        let answers = log.append(&site, &[record(95), record(RECORD_BYTES + 1)]).await.unwrap();
        assert!(answers[0].is_ok() && answers[1].is_err(), "{answers:?}");
        assert!(has(&telemetry, "lockstep_eventlog_appended_records_total 1"));
        assert!(has(&telemetry, "lockstep_eventlog_appended_bytes_total 100"));
        let written = Written { bytes: 100, records: 1, refused: 0 };
        assert_eq!(log.written(&site), Some(written), "a record that is too large is no throttled one");
        assert_eq!(log.written(&"b".parse().unwrap()), Some(Written::default()));
        let shard = log.describe(&site).await.unwrap().shards.remove(0).id;
        let mut reader = log.open(&site, &shard, &Position::Start).await.unwrap();
        assert_eq!(reader.next(10).await.unwrap().records.len(), 1);
        assert!(has(&telemetry, "lockstep_eventlog_read_bytes_total 95"));
    }

    #[tokio::test]
    async fn blobs_are_counted_when_they_moved_and_a_missing_one_is_not() {
        let telemetry = telemetry();
        let blobs = MeteredBlobs::new(Arc::new(MemoryBlobs::default()), Metrics::new(&telemetry.meter()).blob);
        let (content, spill) = (Bytes::from_static(b"pack"), tempfile::tempdir().unwrap());
        let sha256: [u8; 32] = Sha256::digest(&content).into();
        blobs.put("k", &Payload::Memory(content)).await.unwrap();
        for (key, found) in [("k", true), ("other", false)] {
            assert_eq!(blobs.get(key, 4, &sha256, spill.path()).await.is_ok(), found);
        }
        blobs.delete("k").await.unwrap();
        for (call, bytes) in [("put", Some(4)), ("get", Some(4)), ("delete", None)] {
            assert!(has(&telemetry, &format!("lockstep_blob_calls_total{{call=\"{call}\"}} 1")), "{call}");
            let moved = |bytes| has(&telemetry, &format!("lockstep_blob_bytes_total{{call=\"{call}\"}} {bytes}"));
            assert!(bytes.is_none_or(moved), "{call}");
        }
    }

    /// A call about many objects that the decorator does not pass on would become a call for each object.
    #[tokio::test]
    async fn one_call_about_many_objects_stays_one_call() {
        let model = ModelRepositories::default();
        let project = "p".parse().unwrap();
        model.create(&project, &"refs/heads/main".parse().unwrap()).await.unwrap();
        let [one, other] = [1, 2].map(|nonce| model.add_object(&project, &[], nonce));
        let counted = Arc::new(CountedRepositories::new(model));
        let repositories = MeteredRepositories::new(Arc::clone(&counted) as _, Metrics::noop().git);
        let pairs = [(one, other), (one, one)];
        assert_eq!(repositories.share_histories(&project, &pairs).await, Ok(vec![false, true]));
        assert_eq!(repositories.counters(&project, &[one, other]).await, Ok(vec![None, None]));
        assert_eq!(repositories.relations(&project, &pairs).await.map(|relations| relations.len()), Ok(2));
        let calls = [("share_histories", "share_history"), ("counters", "counter"), ("relations", "relation")];
        for (many, single) in calls {
            assert_eq!((counted.calls(many), counted.calls(single)), (1, 0), "{many}");
        }
    }
}
