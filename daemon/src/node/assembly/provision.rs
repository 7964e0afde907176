//! The resources of a site at AWS: to be compared with the needs of its configuration, and named in
//! its policy.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_proto::SiteId;
use lockstep_proto::site_list::StreamPlace;

use super::production::{connection, streams_at, units, warm, way};
use crate::node::config::Settings;
use crate::node::config::settings::Stream;
use crate::seams::aws::policy::Resources;
use crate::seams::aws::{KmsKeys, Provided, StreamMode, Tags, WishError};
use crate::seams::blob::bucket::{BucketWishes, ProvidedBucket, bucket_of, bucket_region};
use crate::seams::blob::endpoint_options;
use crate::seams::blob::object::OpenError;
use crate::seams::eventlog::kinesis::{self, ProvidedStream, ReadingMode, StreamWishes};
use crate::seams::refdb::dynamo::{self, ProvidedTable, TableWishes, WarmedTable, table_names};

/// The wishes of an operator beside the configuration.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The sites whose streams are looked at.
    pub sites: BTreeSet<SiteId>,
    /// The keys of the encryption.
    pub keys: KmsKeys,
    /// The tags of all resources.
    pub tags: Tags,
    /// How the capacity of streams is set. None: as it is.
    pub mode: Option<StreamMode>,
}

/// Account, partition and default Region of the resources, which no configuration has.
#[derive(Clone, Debug)]
pub struct Account {
    /// The partition of AWS.
    pub partition: String,
    /// The number of the account.
    pub number: String,
    /// The Region of the resources for which the configuration names none.
    pub region: Option<String>,
}

/// Why the resources of a configuration cannot be named or reached.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The emulators of a sidecar are in its process.
    #[error(
        "embedded.dir is set: this node has its tables and streams in its own process, and nothing at AWS. Remove \
         [embedded] first"
    )]
    Embedded,
    /// A site of the command line is not in the configuration.
    #[error("--site {0}: the configuration has no such site; `sites` lists them")]
    UnknownSite(SiteId),
    /// Neither the configuration nor the environment names a Region.
    #[error("{0} is not set, and neither is AWS_REGION: set one of them")]
    NoRegion(&'static str),
    /// The keys of the command line do not fit.
    #[error(transparent)]
    Keys(#[from] WishError),
    /// The blob store of the configuration cannot be used.
    #[error("blobs.url: {0}")]
    Blobs(#[from] OpenError),
}

fn stream_of<'a>(settings: &'a Settings, site: &SiteId) -> Result<&'a Stream, SetupError> {
    settings.eventlog.streams.get(site).ok_or_else(|| SetupError::UnknownSite(site.clone()))
}

/// How long a stream should keep records: as configured, and for longer than a node may be away in any case.
fn retention(settings: &Settings) -> Duration {
    settings.eventlog.retention.max(settings.lease.expelled_after.saturating_add(Duration::from_secs(1)))
}

/// The resources that the sites need. No call is made.
///
/// # Errors
/// See [`SetupError`].
pub async fn provided(settings: &Settings, wishes: &Wishes) -> Result<Vec<Box<dyn Provided>>, SetupError> {
    if settings.embedded_dir.is_some() {
        return Err(SetupError::Embedded);
    }
    let (keys, tags) = (&wishes.keys, &wishes.tags);
    let key = |region: &str| keys.of(region).map_err(SetupError::Keys);
    let refdb = &settings.refdb;
    let way = way(settings);
    let client = dynamo::client_by(&connection(refdb, refdb.endpoint.clone()), &way).await;
    let region = client.config().region().map(ToString::to_string).ok_or(SetupError::NoRegion("refdb.region"))?;
    let of = TableWishes { key: key(&region)?, region, tags: tags.clone(), warm: warm(refdb) };
    let mut all: Vec<Box<dyn Provided>> = Vec::new();
    all.extend(ProvidedTable::all(&client, &refdb.prefix, &of).into_iter().map(|one| Box::new(one) as _));
    for site in &wishes.sites {
        let Stream { region, endpoint, .. } = stream_of(settings, site)?.clone();
        let client = kinesis::client_by(&streams_at(StreamPlace { region, endpoint }), &way).await;
        let region =
            client.config().region().map(ToString::to_string).ok_or(SetupError::NoRegion("eventlog.region"))?;
        let of = StreamWishes {
            key: key(&region)?,
            region,
            tags: tags.clone(),
            mode: wishes.mode,
            shards: i32::try_from(settings.eventlog.least_shards()).unwrap_or(i32::MAX),
            retention: retention(settings),
        };
        all.push(Box::new(ProvidedStream::new(&client, &settings.eventlog.prefix, site, of)));
    }
    if bucket_of(&settings.blobs_url).is_some() {
        let of = BucketWishes { key: key(&bucket_region(&[]))?, tags: tags.clone() };
        let options = endpoint_options(way.kind);
        all.push(Box::new(ProvidedBucket::open(&settings.blobs_url, &options, of)?));
    }
    Ok(all)
}

/// The tables, of which only the warm throughput is looked at and raised. No call is made.
///
/// # Errors
/// See [`SetupError`].
pub async fn warmed(settings: &Settings, throughput: (u64, u64)) -> Result<Vec<Box<dyn Provided>>, SetupError> {
    if settings.embedded_dir.is_some() {
        return Err(SetupError::Embedded);
    }
    let refdb = &settings.refdb;
    let client = dynamo::client_by(&connection(refdb, refdb.endpoint.clone()), &way(settings)).await;
    let region = client.config().region().map(ToString::to_string).ok_or(SetupError::NoRegion("refdb.region"))?;
    let of = TableWishes { key: None, region, tags: Tags::new(), warm: Some(units(throughput)) };
    let tables = WarmedTable::all(&client, &refdb.prefix, &of).into_iter();
    Ok(tables.map(|one| Box::new(one) as Box<dyn Provided>).collect())
}

/// The resources that the policy of a site names.
///
/// # Errors
/// See [`SetupError`].
pub fn resources(
    settings: &Settings,
    own: &BTreeSet<SiteId>,
    keys: &KmsKeys,
    account: &Account,
) -> Result<Resources, SetupError> {
    let of = |region: &Option<String>, field: &'static str| {
        region.clone().or_else(|| account.region.clone()).ok_or(SetupError::NoRegion(field))
    };
    let stream = |site: &SiteId| {
        let region = of(&stream_of(settings, site)?.region, "eventlog.region")?;
        Ok::<_, SetupError>((region, kinesis::stream_name(&settings.eventlog.prefix, site)))
    };
    let fan_out = settings.eventlog.streams.iter().filter(|(_, of)| of.reading != ReadingMode::Polling);
    let scales = settings.eventlog.autoscale.as_ref().is_some_and(|of| !of.dry_run);
    let own_streams = own.iter().map(stream).collect::<Result<BTreeSet<_>, SetupError>>()?;
    let [refs, journal] = table_names(&settings.refdb.prefix);
    let blobs = bucket_of(&settings.blobs_url).map(|(bucket, prefix)| (bucket.to_owned(), prefix.to_owned()));
    Ok(Resources {
        partition: account.partition.clone(),
        account: account.number.clone(),
        tables_region: of(&settings.refdb.region, "refdb.region")?,
        refs,
        journal,
        streams: settings.eventlog.streams.keys().map(stream).collect::<Result<_, SetupError>>()?,
        fan_out_streams: fan_out.map(|(site, _)| stream(site)).collect::<Result<_, SetupError>>()?,
        scaled_streams: if scales { own_streams.clone() } else { BTreeSet::new() },
        own_streams,
        blobs,
        keys: keys.arns().into_iter().map(str::to_owned).collect(),
    })
}
