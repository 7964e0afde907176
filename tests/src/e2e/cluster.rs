//! The emulators and the nodes of some sites, in one temporary folder. When a test fails, the folder stays, and its
//! path is printed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::blob::long_form::LongForms;
use lockstep::seams::blob::object::ObjectBlobs;
use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::embedded::kinesis::{EmbeddedKinesis, EmbeddedKinesisSettings};
use lockstep::seams::embedded::write_limits::WriteLimits;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::staged::{StagedRefs, WRITE_ITEMS};
use lockstep::seams::refdb::{RefDb, Setup};
use tempfile::TempDir;

use super::git::ok;
use super::node::{Node, Place};
use super::throttle::Throttle;
use super::until;
use super::wire::Wire;
use crate::aws::faults::{FaultyDynamo, Replicas};
use crate::aws::forwarder::Forwarder;
use crate::aws::record::Record;

/// Sites with their nodes, over emulators in this process.
pub struct Cluster {
    /// The nodes, in the order in which they were named.
    pub nodes: Vec<Node>,
    /// The refdb, from which tests read the committed values.
    pub refdb: RefDb,
    /// The same refdb without [`StagedRefs`]: reads do not finish transactions under locks that stopped half-way.
    pub raw: Arc<DynamoRefDb>,
    folder: TempDir,
    dynamo: EmbeddedDynamo,
    /// The limits in front of the refdb, in a cluster that has them.
    pub throttle: Option<Throttle>,
    /// The refdb's Region of each node, in a cluster over several Regions.
    pub regions: Vec<FaultyDynamo>,
    /// The event log, with its counts of appended records.
    pub kinesis: EmbeddedKinesis,
    /// The forwarders that record the calls, in a cluster that has them.
    _forwarders: Vec<Forwarder>,
}

/// The part between the nodes and the emulators.
enum Between {
    Nothing,
    Throttle,
    Record(Arc<Record>),
    Regions,
}

/// The write limits of the streams: those of Kinesis, and some answers are lost.
fn limits() -> WriteLimits {
    WriteLimits { shards: 2, bytes: 1 << 20, records: 1_000, lose_every: Some(50) }
}

impl Cluster {
    /// Starts the emulators and one node per name (`site-number`), and waits until all nodes are ready.
    pub async fn start(binary: &Path, names: &[&str]) -> Self {
        Self::start_on(binary, names, &|_| None).await
    }

    /// Like [`Cluster::start`], with other limits of the streams.
    pub async fn start_behind(binary: &Path, names: &[&str], limits: WriteLimits) -> Self {
        Self::start_with(binary, names, &|_| None, limits, Between::Nothing, &|_| {}).await
    }

    /// Like [`Cluster::start`], for a measurement: the streams lose no answer. `tune` may change the configuration of
    /// each node before its first start.
    pub async fn start_tuned(binary: &Path, names: &[&str], tune: &dyn Fn(&Node)) -> Self {
        let limits = WriteLimits { lose_every: None, ..limits() };
        Self::start_with(binary, names, &|_| None, limits, Between::Nothing, tune).await
    }

    /// Like [`Cluster::start`], beside no Gerrit: nothing has to be refreshed.
    pub async fn start_plain(binary: &Path, names: &[&str]) -> Self {
        let tune = |node: &Node| node.set_gerrit("refresh = \"none\"");
        Self::start_with(binary, names, &|_| None, limits(), Between::Nothing, &tune).await
    }

    /// Like [`Cluster::start`], with a refdb of which a test may throttle one part.
    pub async fn start_throttled(binary: &Path, names: &[&str]) -> Self {
        Self::start_with(binary, names, &|_| None, limits(), Between::Throttle, &|_| {}).await
    }

    /// Like [`Cluster::start`], with tables that have multi-Region strong consistency. Each node has a Region of its
    /// own.
    pub async fn start_in_regions(binary: &Path, names: &[&str]) -> Self {
        Self::start_with(binary, names, &|_| None, limits(), Between::Regions, &|_| {}).await
    }

    /// Like [`Cluster::start`], and every call on the emulators is recorded.
    pub async fn start_recorded(binary: &Path, names: &[&str], record: &Arc<Record>) -> Self {
        Self::start_with(binary, names, &|_| None, limits(), Between::Record(Arc::clone(record)), &|_| {}).await
    }

    /// Like [`Cluster::start`], but `elsewhere` may give a node another git volume and another program as its sidecar.
    pub async fn start_on(
        binary: &Path,
        names: &[&str],
        elsewhere: &dyn Fn(&str) -> Option<(PathBuf, PathBuf)>,
    ) -> Self {
        Self::start_with(binary, names, elsewhere, limits(), Between::Nothing, &|_| {}).await
    }

    /// # Panics
    /// If something does not start.
    async fn start_with(
        binary: &Path,
        names: &[&str],
        elsewhere: &dyn Fn(&str) -> Option<(PathBuf, PathBuf)>,
        limits: WriteLimits,
        between: Between,
        tune: &dyn Fn(&Node),
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("lockstep-e2e-").tempdir().expect("a folder");
        let dynamo = EmbeddedDynamo::in_memory().await.expect("a refdb");
        let settings = EmbeddedKinesisSettings { limits: Some(limits), ..Default::default() };
        let kinesis = EmbeddedKinesis::start(&settings).await.expect("an event log");
        let (mut throttle, mut forwarders) = (None, Vec::new());
        let (mut refdb, mut eventlog) = (dynamo.endpoint(), kinesis.endpoint());
        let (has_regions, mut regions) = (matches!(between, Between::Regions), Vec::new());
        match between {
            Between::Nothing | Between::Regions => {}
            Between::Throttle => refdb = throttle.insert(Throttle::to(&refdb).await).url(),
            Between::Record(record) => {
                for url in [&mut refdb, &mut eventlog] {
                    let forwarder = Forwarder::to(url, &record).await;
                    *url = forwarder.url();
                    forwarders.push(forwarder);
                }
            }
        }
        let site = |name: &str| name.rsplit_once('-').expect("site-number").0.to_owned();
        let sites: BTreeSet<String> = names.iter().map(|name| site(name)).collect();
        let sites: Vec<String> = sites.into_iter().collect();
        let mut nodes = Vec::new();
        for name in names {
            let home = folder.path().join(name);
            let (site, streams) = (site(name), Wire::to(&eventlog).await);
            let url = streams.url();
            let blobs = folder.path().join("blobs");
            let (root, program) = elsewhere(name).unwrap_or_else(|| (home.join("git"), binary.to_owned()));
            let peers: Vec<(&str, PathBuf)> =
                names.iter().filter(|peer| *peer != name).map(|peer| (*peer, folder.path().join(peer))).collect();
            let place =
                Place { site: &site, name, sites: &sites, peers: &peers, home, root, kinesis: &url, blobs: &blobs };
            let mut refdb = refdb.clone();
            if has_regions {
                let region = FaultyDynamo::to(&refdb, Replicas::Strong).await;
                refdb = region.url();
                regions.push(region);
            }
            nodes.push(Node::new(&program, &place, Wire::to(&refdb).await, streams));
        }
        std::fs::create_dir_all(folder.path().join("blobs")).expect("a folder");
        let (refdb, raw) = opened(&dynamo, folder.path(), "e2e").await;
        let mut cluster =
            Self { nodes, refdb, raw, folder, dynamo, throttle, regions, kinesis, _forwarders: forwarders };
        for node in &mut cluster.nodes {
            tune(node);
            node.start(None);
        }
        cluster.ready().await;
        if has_regions {
            // Without the layer in front, the tables are in one Region, and carry the mark of the nodes' mode.
            cluster.raw.prepare(false).await.expect("the tables are there");
            assert!(cluster.raw.is_single_item());
        }
        cluster
    }

    /// Adds a node of a new site, whose configuration names all sites. The other nodes' configurations do not name it.
    /// It is not started.
    pub async fn another(&mut self, binary: &Path, name: &str) {
        let site = name.rsplit_once('-').expect("site-number").0.to_owned();
        let mut sites: BTreeSet<String> = self.nodes.iter().map(|node| node.site.clone()).collect();
        sites.insert(site.clone());
        let sites: Vec<String> = sites.into_iter().collect();
        let (home, streams) = (self.folder.path().join(name), Wire::to(&self.kinesis.endpoint()).await);
        let (url, blobs) = (streams.url(), self.folder.path().join("blobs"));
        let peers: Vec<(&str, PathBuf)> =
            self.nodes.iter().map(|peer| (peer.name.as_str(), self.folder.path().join(&peer.name))).collect();
        let root = home.join("git");
        let place = Place { site: &site, name, sites: &sites, peers: &peers, home, root, kinesis: &url, blobs: &blobs };
        let node = Node::new(binary, &place, Wire::to(&self.dynamo.endpoint()).await, streams);
        self.nodes.push(node);
    }

    /// Deletes the tables of the refdb.
    ///
    /// # Panics
    /// If the emulator refuses it.
    pub async fn lose_tables(&self) {
        let client = client(&Connection::emulator(self.dynamo.endpoint())).await;
        for table in ["e2e-refs", "e2e-journal"] {
            let _ = client.delete_table().table_name(table).send().await.expect("the table is deleted");
        }
    }

    /// Reads the committed values from the tables with this prefix from now on.
    pub async fn read_from(&mut self, prefix: &str) {
        (self.refdb, self.raw) = opened(&self.dynamo, self.folder.path(), prefix).await;
    }

    /// The names of all tables.
    ///
    /// # Panics
    /// If the emulator does not answer.
    pub async fn tables(&self) -> Vec<String> {
        let client = client(&Connection::emulator(self.dynamo.endpoint())).await;
        client.list_tables().send().await.expect("the tables").table_names().to_vec()
    }

    /// Waits until every node is ready.
    pub async fn ready(&mut self) {
        for node in &mut self.nodes {
            node.ready().await;
        }
    }

    /// A folder for the test's own files.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a project at the first node, and waits until every node has it.
    pub async fn create(&self, project: &str) {
        let _ = ok(self.nodes[0].cli(&["project", "create", project]).await);
        self.exists(project).await;
    }

    /// Waits until every node has a project's repository.
    ///
    /// # Panics
    /// If the repository does not arrive.
    pub async fn exists(&self, project: &str) {
        for node in &self.nodes {
            let there = until(async || node.repository(project).exists().then_some(())).await;
            assert!(there.is_some(), "{project} did not arrive at {}\n{}", node.name, node.log_tail());
        }
    }

    /// Waits until a ref has this value at every node. `None` stands for absence.
    pub async fn show(&self, project: &str, name: &str, value: Option<&str>) {
        for node in &self.nodes {
            node.shows(project, name, value).await;
        }
    }
}

/// Opens the refdb in the tables with a prefix, with and without [`StagedRefs`].
async fn opened(dynamo: &EmbeddedDynamo, folder: &Path, prefix: &str) -> (RefDb, Arc<DynamoRefDb>) {
    let connection = Connection::emulator(dynamo.endpoint());
    let raw = Arc::new(DynamoRefDb::new(&client(&connection).await, prefix, TableSettings::default()));
    let blobs = ObjectBlobs::local(&folder.join("blobs")).expect("a blob store");
    let long_forms = LongForms::new(Arc::new(blobs), folder.to_owned(), usize::MAX);
    let staged = StagedRefs::new(RefDb::of(&raw), long_forms, WRITE_ITEMS, InjectedBugs::default());
    (Arc::new(staged).refdb(), raw)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("the nodes' folders with their logs stay in {}", self.folder.path().display());
            self.nodes.iter().for_each(|node| eprintln!("{}", node.log_tail()));
        }
    }
}
