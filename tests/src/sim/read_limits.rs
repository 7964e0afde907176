//! The limits of reading a stream, as those of `GetRecords`: on the records and bytes of one read, and on the reads and
//! bytes of one shard per second, which all its readers share. They belong to the service and are no faults, so they
//! hold while everything is healed, too.

use std::collections::BTreeMap;

use lockstep_proto::SiteId;
use parking_lot::Mutex;

/// The limits of one run. The numbers are small because the runs are short.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// The most records of one read.
    pub records: usize,
    /// The bytes at which one read ends. It has one record at least.
    pub bytes: usize,
    /// The most reads of a shard in a second. Further ones fail.
    pub shard_reads: u64,
    /// The most bytes of a shard in a second. Beyond it, reads are empty although there is more.
    pub shard_bytes: usize,
}

/// Counts the reads of all nodes.
pub struct ReadMeter {
    limits: ReadLimits,
    shards: Mutex<BTreeMap<(SiteId, String), Second>>,
}

/// The reads of a shard in one second.
#[derive(Clone, Copy, Default)]
struct Second {
    number: u64,
    reads: u64,
    bytes: usize,
}

/// The answer of the service to a read that begins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The read takes place, within the limits of one read.
    Reads,
    /// The read is answered without records.
    Empty,
    /// The read fails.
    Fails,
}

impl ReadMeter {
    /// A meter that has counted nothing.
    #[must_use]
    pub fn new(limits: ReadLimits) -> Self {
        Self { limits, shards: Mutex::default() }
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> ReadLimits {
        self.limits
    }

    /// Counts a read of a shard that begins now.
    #[must_use]
    pub fn read(&self, site: &SiteId, shard: &str, now_ms: u64) -> Admission {
        let mut shards = self.shards.lock();
        let second = shards.entry((site.clone(), shard.to_owned())).or_default();
        if second.number != now_ms / 1_000 {
            *second = Second { number: now_ms / 1_000, ..Second::default() };
        }
        if second.reads >= self.limits.shard_reads {
            return Admission::Fails;
        }
        second.reads += 1;
        if second.bytes >= self.limits.shard_bytes { Admission::Empty } else { Admission::Reads }
    }

    /// Counts the bytes that a read returned.
    pub fn returned(&self, site: &SiteId, shard: &str, bytes: usize) {
        if let Some(second) = self.shards.lock().get_mut(&(site.clone(), shard.to_owned())) {
            second.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_fails_beyond_its_reads_and_is_empty_beyond_its_bytes_until_the_second_ends() {
        let meter = ReadMeter::new(ReadLimits { records: 9, bytes: 99, shard_reads: 3, shard_bytes: 10 });
        let site: SiteId = "s".parse().unwrap();
        let read = |now_ms| meter.read(&site, "0", now_ms);
        assert_eq!(read(500), Admission::Reads);
        meter.returned(&site, "0", 10);
        assert_eq!([read(600), read(700), read(999)], [Admission::Empty, Admission::Empty, Admission::Fails]);
        assert_eq!(meter.read(&site, "1", 999), Admission::Reads, "another shard has limits of its own");
        assert_eq!(read(1_000), Admission::Reads);
    }
}
