//! The cases of a run by name, their run one after the other, and the deletion of everything at the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lockstep_proto::SiteId;

use super::blobs::Blobs;
use super::settings::Settings;
use super::streams::Streams;
use super::tables::Tables;
use crate::contract::{blob, eventlog};

crate::refdb_contract!(named);

/// Everything that the cases run against.
pub struct Grounds {
    /// The tables of the refdb.
    pub tables: Tables,
    /// The streams of the event log.
    pub streams: Streams,
    /// The blob store. None if its suite is not run.
    pub blobs: Option<Blobs>,
}

type Run = Box<dyn FnOnce(Arc<Grounds>) -> LocalBoxFuture<'static, ()>>;

/// A case with its name.
pub struct Case {
    /// The suite and the sentence that is tested.
    pub name: String,
    /// The test. It panics if the sentence does not hold.
    pub run: Run,
}

/// Makes a case of each sentence of the event log. Its stream is that of the site with the sentence's name.
macro_rules! streams {
    ($($sentence:ident),*) => {
        /// The names of the cases of the event log, which are those of their sites.
        const STREAMS: &[&str] = &[$(stringify!($sentence)),*];

        fn of_streams() -> Vec<Case> {
            vec![$(Case {
                name: concat!("eventlog ", stringify!($sentence)).to_owned(),
                run: Box::new(|grounds: Arc<Grounds>| {
                    async move {
                        eventlog::$sentence(&grounds.streams).await;
                        grounds.streams.tag(&eventlog::site(stringify!($sentence))).await;
                    }
                    .boxed_local()
                }),
            }),*]
        }
    };
}

/// Makes a case of each sentence of the blob store.
macro_rules! blobs {
    ($($sentence:ident),*) => {
        fn of_blobs() -> Vec<Case> {
            vec![$(Case {
                name: concat!("blob ", stringify!($sentence)).to_owned(),
                run: Box::new(|grounds: Arc<Grounds>| {
                    async move {
                        blob::$sentence(grounds.blobs.as_ref().expect("the suite is listed with a store only")).await;
                    }
                    .boxed_local()
                }),
            }),*]
        }
    };
}

// `trimmed` and `times` remove records at once, which only the emulator in this process can.
streams!(streams, order, tail, answers, reshard, recreated, concurrent);
blobs!(round_trip, absent, again, bad);

impl Grounds {
    /// Reaches everything. Creates nothing in tables and streams.
    ///
    /// # Errors
    /// A name is taken, or a service does not answer.
    pub async fn of(settings: &Settings) -> Result<Self, String> {
        let sites: BTreeSet<SiteId> = STREAMS.iter().map(|name| eventlog::site(name)).collect();
        Ok(Self {
            tables: Tables::of(settings).await?,
            streams: Streams::of(settings, sites).await?,
            blobs: Blobs::of(settings).await?,
        })
    }

    /// The cases whose name contains `only`.
    #[must_use]
    pub fn cases(&self, only: &str) -> Vec<Case> {
        let of_refdb = |(name, case): (&str, crate::contract::refdb::Case)| Case {
            name: format!("refdb {name}"),
            run: Box::new(move |grounds: Arc<Self>| {
                async move { case(grounds.tables.fresh().await).await }.boxed_local()
            }),
        };
        let mut all: Vec<Case> = cases().into_iter().map(of_refdb).collect();
        all.extend(of_streams());
        if self.blobs.is_some() {
            all.extend(of_blobs());
        }
        all.retain(|case| case.name.contains(only));
        all
    }

    /// Deletes everything. Goes on after a failure, and names everything that is left.
    pub async fn delete(self: Arc<Self>) -> Vec<String> {
        let grounds = Arc::clone(&self);
        let streams = tokio::spawn(async move { grounds.streams.delete().await }).await;
        let blobs = match &self.blobs {
            Some(blobs) => blobs.remove_all().await,
            None => Ok(()),
        };
        let streams = streams.unwrap_or_else(|error| Err(format!("a stream is left: {error}")));
        [self.tables.delete().await, streams, blobs].into_iter().filter_map(Result::err).collect()
    }
}

/// Runs the cases one after the other. Returns the names of those that failed. Call it within a `LocalSet`.
pub async fn run(grounds: &Arc<Grounds>, cases: Vec<Case>) -> Vec<String> {
    let mut failed = Vec::new();
    for Case { name, run } in cases {
        let ended = tokio::task::spawn_local(run(Arc::clone(grounds))).await;
        println!("{} {name}", if ended.is_ok() { "ok     " } else { "FAILED " });
        if ended.is_err() {
            failed.push(name);
        }
    }
    failed
}
