//! The last records of one shard, as its reader has read them: a bounded buffer without a gap.
//!
//! The buffer begins behind a position and has every record of the shard from there to its newest one. A position is
//! looked up by its very sequence number. One that is not there is never replaced by a neighbour, so a gap or trimmed
//! records are never passed over: the sibling reads the stream, which tells it.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::seams::eventlog::Batch;
use crate::seams::eventlog::position::compare;

/// The records of one shard, oldest first.
#[derive(Debug)]
pub(super) struct Buffer {
    /// The sequence number that the first record follows. None: the oldest record of the stream.
    from: Option<String>,
    records: VecDeque<(String, Bytes)>,
    /// The bytes of all records together.
    bytes: usize,
    /// Whether the shard has ended behind the last record.
    ended: bool,
    /// Whether the stream has more than was read.
    behind: bool,
}

/// The bounds of a buffer, or of one look into it, or its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The largest number of records.
    pub records: usize,
    /// The most bytes of all records together.
    pub bytes: usize,
}

/// The content of a buffer behind a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// These records follow it. None, if the shard has ended there.
    Records(Batch),
    /// It is the newest one.
    Nothing {
        /// Whether the stream has more than was read.
        behind: bool,
    },
    /// The reader has not come to it yet.
    Ahead,
    /// It is not in the buffer, which begins behind this position.
    Elsewhere(Option<String>),
}

impl Buffer {
    /// An empty buffer that begins behind a position.
    pub(super) fn begin(from: Option<String>) -> Self {
        Self { from, records: VecDeque::new(), bytes: 0, ended: false, behind: false }
    }

    /// The position of the newest record. None: the oldest record of the stream.
    pub(super) fn end(&self) -> Option<&str> {
        self.records.back().map(|(sequence, _)| sequence.as_str()).or(self.from.as_deref())
    }

    /// Takes the records that follow the newest one, and drops the oldest ones beyond the bounds.
    pub(super) fn push(&mut self, batch: &Batch, bounds: Bounds) {
        self.bytes += batch.records.iter().map(size).sum::<usize>();
        self.records.extend(batch.records.iter().cloned());
        (self.ended, self.behind) = (batch.ended, batch.behind);
        self.shrink(bounds);
    }

    /// Drops the oldest records beyond the bounds.
    pub(super) fn shrink(&mut self, bounds: Bounds) {
        while self.records.len() > bounds.records || self.bytes > bounds.bytes {
            let Some(oldest) = self.records.pop_front() else { return };
            self.bytes -= size(&oldest);
            self.from = Some(oldest.0);
        }
    }

    /// The records behind a position. None: behind the beginning of the stream. A record that is larger than `most`
    /// comes alone.
    pub(super) fn after(&self, position: Option<&str>, most: Bounds) -> Found {
        let index = match position {
            at if at == self.from.as_deref() => 0,
            None => return self.elsewhere(),
            Some(at) => match self.records.binary_search_by(|(have, _)| compare(have, at)) {
                Ok(index) => index + 1,
                Err(_) if self.end().is_none_or(|end| compare(end, at) == Ordering::Less) => return Found::Ahead,
                Err(_) => return self.elsewhere(),
            },
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        for record in self.records.iter().skip(index).take(most.records) {
            bytes += size(record);
            if bytes > most.bytes && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        let is_all = index + records.len() == self.records.len();
        let (ended, behind) = (is_all && self.ended, !is_all || self.behind);
        match records.is_empty() && !ended {
            true => Found::Nothing { behind },
            false => Found::Records(Batch { records, ended, behind: behind && !ended }),
        }
    }

    fn elsewhere(&self) -> Found {
        Found::Elsewhere(self.from.clone())
    }
}

/// The size of a record in the buffer, in bytes.
pub(super) fn size((sequence, data): &(String, Bytes)) -> usize {
    sequence.len() + data.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Bounds = Bounds { records: 100, bytes: 10_000 };
    const MOST: Bounds = WIDE;

    fn records(numbers: &[u32]) -> Vec<(String, Bytes)> {
        numbers.iter().map(|number| (number.to_string(), Bytes::from(vec![0; 10]))).collect()
    }

    fn batch(numbers: &[u32]) -> Batch {
        Batch { records: records(numbers), ..Batch::default() }
    }

    fn filled(from: Option<&str>, numbers: &[u32], bounds: Bounds) -> Buffer {
        let mut buffer = Buffer::begin(from.map(str::to_owned));
        buffer.push(&batch(numbers), bounds);
        buffer
    }

    fn numbers(found: Found) -> Vec<String> {
        match found {
            Found::Records(batch) => batch.records.into_iter().map(|(number, _)| number).collect(),
            other => panic!("no records: {other:?}"),
        }
    }

    #[test]
    fn the_records_behind_a_position_follow_it_exactly() {
        let buffer = filled(Some("7"), &[9, 10, 12], WIDE);
        assert_eq!(numbers(buffer.after(Some("7"), MOST)), ["9", "10", "12"]);
        assert_eq!(numbers(buffer.after(Some("9"), MOST)), ["10", "12"], "10 is larger than 9");
        assert_eq!(buffer.after(Some("12"), MOST), Found::Nothing { behind: false });
        assert_eq!(buffer.after(Some("13"), MOST), Found::Ahead);
        let few = Bounds { records: 1, ..MOST };
        let Found::Records(one) = buffer.after(Some("7"), few) else { panic!("there are records") };
        assert!(one.records.len() == 1 && one.behind);
        let small = Bounds { bytes: 1, ..MOST };
        assert_eq!(numbers(buffer.after(Some("7"), small)), ["9"], "one record at least");
    }

    #[test]
    fn a_position_that_is_not_there_has_no_records_behind_it() {
        let buffer = filled(Some("7"), &[9, 10, 12], WIDE);
        for unknown in [Some("6"), Some("8"), Some("11"), None] {
            assert_eq!(buffer.after(unknown, MOST), Found::Elsewhere(Some("7".to_owned())), "{unknown:?}");
        }
    }

    /// The reader was told of trimmed records and began again at the oldest one. A sibling must be told, too.
    #[test]
    fn a_buffer_that_begins_at_the_oldest_record_does_not_stand_for_earlier_positions() {
        let mut buffer = filled(None, &[20, 21], WIDE);
        assert_eq!(buffer.after(Some("15"), MOST), Found::Elsewhere(None));
        assert_eq!(numbers(buffer.after(None, MOST)), ["20", "21"]);
        buffer.shrink(Bounds { records: 1, ..WIDE });
        assert_eq!(buffer.after(None, MOST), Found::Elsewhere(Some("20".to_owned())), "20 is gone");
        assert_eq!(Buffer::begin(None).after(Some("15"), MOST), Found::Ahead, "nobody knows yet");
        assert_eq!(Buffer::begin(None).after(None, MOST), Found::Nothing { behind: false });
    }

    #[test]
    fn the_oldest_records_give_way_beyond_the_bounds() {
        let few = Bounds { records: 2, ..WIDE };
        let mut buffer = filled(Some("7"), &[8, 9, 10], few);
        assert_eq!(buffer.after(Some("7"), MOST), Found::Elsewhere(Some("8".to_owned())));
        assert_eq!(numbers(buffer.after(Some("8"), MOST)), ["9", "10"]);
        buffer.push(&batch(&[11]), Bounds { bytes: 12, ..WIDE });
        assert_eq!((buffer.bytes, buffer.end()), (12, Some("11")));
        buffer.push(&batch(&[12]), Bounds { bytes: 5, ..WIDE });
        assert_eq!((buffer.bytes, buffer.records.len(), buffer.end()), (0, 0, Some("12")));
        assert_eq!(buffer.after(Some("11"), MOST), Found::Elsewhere(Some("12".to_owned())));
    }

    #[test]
    fn the_end_of_a_shard_comes_with_its_last_record_and_not_before() {
        let mut buffer = filled(Some("7"), &[8], WIDE);
        buffer.push(&Batch { ended: true, ..batch(&[9]) }, WIDE);
        let ended = |found: Found| matches!(found, Found::Records(batch) if batch.ended && !batch.behind);
        assert!(ended(buffer.after(Some("8"), MOST)) && ended(buffer.after(Some("9"), MOST)));
        assert!(!ended(buffer.after(Some("7"), Bounds { records: 1, ..MOST })));
    }
}
