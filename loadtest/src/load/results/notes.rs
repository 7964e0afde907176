//! How far a run is from a real day. Nothing is scaled silently: every difference is a sentence of the report.

use crate::load::estate::NICE;
use crate::load::model::Model;
use crate::load::plan::Intensity;
use crate::load::profile::{Profile, Target};

/// The sentences for a profile.
#[must_use]
pub fn notes(profile: &Profile, is_local: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let (run, usual) = (&profile.run, Model::default());
    let compression = Intensity::of(profile).compression();
    if (compression - 1.0).abs() > f64::EPSILON {
        notes.push(format!(
            "Time is compressed {compression} times. Rates are that much higher, and so is the share of operations \
             that meet each other. Everything with a time of its own is not compressed: round trips, the pause between \
             two reads of a stream, syncs of the disk, heartbeats, time-outs. Caches and maintenance get less time per \
             operation than on a real day."
        ));
    }
    if run.reads_share < 1.0 {
        notes.push(format!(
            "{} % of the model's fetches, clones and listings are offered. The rest of that load is missing on the \
             sites' processors and disks.",
            crate::report::round(run.reads_share * 100.0)
        ));
    }
    if profile.model.projects < usual.projects {
        notes.push(format!(
            "{} projects stand for {}: the busiest one has a larger share of the load.",
            profile.model.projects, usual.projects
        ));
    }
    if profile.model.pack_most_bytes < usual.pack_most_bytes {
        notes.push(format!("Pushes are cut at {} new bytes.", profile.model.pack_most_bytes));
    }
    notes.push(
        "The projects are new: they begin with a few open changes, where a real one has a median of 2,000 refs and a \
         history."
            .to_owned(),
    );
    if run.target != Target::Gerrit {
        notes.push("No Gerrit runs. Its indexes, caches, REST and SSH are not measured.".to_owned());
    }
    if is_local {
        notes.push(match run.round_trip_ms {
            0 => "Sites, emulators and generator share one machine, and the emulators stand for DynamoDB and \
                     Kinesis without a network between. A round trip to AWS comes on top of each commit."
                .to_owned(),
            far => format!(
                "Sites, emulators and generator share one machine. Each call from a site to DynamoDB and Kinesis \
                     takes {far} ms more, as if AWS were that far away."
            ),
        });
        // The Gerrits, and the emulators beside them, keep the priority of the generator.
        if run.target != Target::Gerrit {
            notes.push(format!(
                "Sites and emulators run at nice {NICE}, so that operations begin on time: the generator stands for \
                 other machines."
            ));
        }
    } else {
        notes.push("The lag compares the clocks of two sites. It is as exact as they agree.".to_owned());
    }
    notes
}
