//! The traffic of a working day: transactions, slots, records and blobs, from the load model.
//!
//! Sizes beside those of the model are estimates: a note commit has 1.5 kB of objects, a stream event 1 kB.

use serde::Serialize;

use super::model::{Class, Day, Model};
use super::units::{blob_requests, is_blob, put_units, slot_bytes, write_units};

/// The bytes of the objects of an operation that is no push: a commit, its trees and a note.
const NOTE_BYTES: f64 = 1_500.0;
/// The bytes of a stream event in the event log.
const EVENT_BYTES: f64 = 1_000.0;
/// The bytes of a KiB, to which on-demand streams round each record up.
const KIB: f64 = 1_024.0;

/// Counts per working day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Ref transactions that are committed.
    pub transactions: f64,
    /// Refs of these transactions.
    pub refs: f64,
    /// Write units of their slots, outside of a transaction of DynamoDB.
    pub slot_units: f64,
    /// Records of the streams: transactions and stream events.
    pub records: f64,
    /// PUT payload units of the records.
    pub put_units: f64,
    /// KiB of the records, each rounded up.
    pub record_kib: f64,
    /// Packs that are in the blob store.
    pub blobs: f64,
    /// Requests that store them.
    pub blob_requests: f64,
    /// Bytes of these packs.
    pub blob_bytes: f64,
}

impl Traffic {
    /// The traffic of a working day of the model, with the stream events of Gerrit or without.
    #[must_use]
    pub fn of(model: &Model, has_events: bool) -> Self {
        let day = Day::of(model);
        let mut all = Self::default();
        for (class, operations) in &day.operations {
            let Some((refs, is_push)) = shape(model, *class) else { continue };
            let packs = if is_push { packs(model) } else { vec![(NOTE_BYTES, 1.0)] };
            for (pack, share) in packs {
                all.add(operations * share, refs, pack);
            }
        }
        if has_events {
            all.records += day.events;
            all.put_units += day.events * put_units(EVENT_BYTES);
            all.record_kib += day.events * (EVENT_BYTES / KIB).ceil();
        }
        all
    }

    /// Adds transactions of `refs` refs each with packs of this size.
    fn add(&mut self, transactions: f64, refs: f64, pack: f64) {
        let bytes = slot_bytes(refs, pack);
        self.transactions += transactions;
        self.refs += transactions * refs;
        self.slot_units += transactions * write_units(bytes);
        self.records += transactions;
        self.put_units += transactions * put_units(bytes);
        self.record_kib += transactions * (bytes / KIB).ceil();
        if is_blob(pack) {
            self.blobs += transactions;
            self.blob_requests += transactions * blob_requests(pack);
            self.blob_bytes += transactions * pack;
        }
    }
}

/// The refs of an operation, and whether it brings a pack of its user. None if it moves no ref, or comes with events of
/// a profile of the load test alone.
fn shape(model: &Model, class: Class) -> Option<(f64, bool)> {
    match class {
        Class::PushPatchSet => Some((model.refs_per_patch_set * model.mean_chain(), true)),
        Class::Submit => Some((model.refs_per_merge * model.mean_chain(), false)),
        Class::CiVote | Class::Comment | Class::Draft | Class::BotBump | Class::UserRef => Some((1.0, false)),
        Class::ReleaseTag | Class::MassRebase | Class::Fetch | Class::Clone | Class::LsRefs => None,
    }
}

/// The log-normal distribution of packs, as sizes with their shares: 400 steps over ten sigmas.
fn packs(model: &Model) -> Vec<(f64, f64)> {
    let steps = (-200..=200).map(|step| f64::from(step) / 40.0);
    let weighed: Vec<(f64, f64)> = steps
        .map(|sigmas| {
            let bytes = model.pack_median_bytes * (model.pack_sigma * sigmas).exp();
            (bytes.clamp(1.0, model.pack_most_bytes.max(1.0)), (-sigmas * sigmas / 2.0).exp())
        })
        .collect();
    let all: f64 = weighed.iter().map(|(_, weight)| weight).sum();
    weighed.into_iter().map(|(bytes, weight)| (bytes, weight / all)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_the_refs_of_the_model_and_a_record_per_transaction() {
        let model = Model::default();
        let (day, traffic) = (Day::of(&model), Traffic::of(&model, false));
        assert!((traffic.refs / day.refs - 1.0).abs() < 1e-9, "{} of {}", traffic.refs, day.refs);
        assert!((traffic.records - traffic.transactions).abs() < 1e-6);
        let writes: f64 = day.operations.iter().filter(|(class, _)| !class.is_read()).map(|(_, count)| count).sum();
        assert!((traffic.transactions / writes - 1.0).abs() < 1e-9);
        let with_events = Traffic::of(&model, true);
        assert!((with_events.records - traffic.records - day.events).abs() < 1e-6);
        assert_eq!(with_events.slot_units, traffic.slot_units, "stream events are in no table");
    }

    #[test]
    fn packs_have_the_median_and_the_mean_of_the_distribution() {
        let packs = packs(&Model::default());
        let below: f64 = packs.iter().filter(|(bytes, _)| *bytes < 20_000.0).map(|(_, share)| share).sum();
        assert!((below - 0.5).abs() < 0.01, "{below}");
        let mean: f64 = packs.iter().map(|(bytes, share)| bytes * share).sum();
        // The published mean is about 225 kB.
        assert!((mean / 225_000.0 - 1.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn the_published_day_has_its_blobs_and_slots() {
        let traffic = Traffic::of(&Model::default(), true);
        // Of packs with a median of 20 kB and sigma 2.2, a fifth is above 128 KiB.
        let pushes = Day::of(&Model::default()).operations[&Class::PushPatchSet];
        assert!((traffic.blobs / pushes - 0.196).abs() < 0.01, "{}", traffic.blobs / pushes);
        assert!(traffic.blob_requests > traffic.blobs && traffic.slot_units > 2.0 * traffic.transactions);
    }
}
