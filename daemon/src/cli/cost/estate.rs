//! The estate whose cost is asked for: its sites, its nodes, and the kinds of its tables and streams.

use clap::ValueEnum;
use serde::Serialize;

/// The kind of the tables, which decides the units of a commit and their price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TableMode {
    /// In one Region, billed by request.
    OnDemand,
    /// In one Region, with a capacity that is paid by the hour.
    Provisioned,
    /// In several Regions with strong consistency, billed by request in each of them.
    Mrsc,
}

impl TableMode {
    /// Whether the tables take transactions. Those in several Regions do not.
    #[must_use]
    pub fn has_transactions(self) -> bool {
        self != Self::Mrsc
    }
}

/// The kind of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum StreamMode {
    /// A number of shards that is paid by the hour.
    Provisioned,
    /// Billed by stream and by byte.
    OnDemand,
}

/// The way in which nodes read the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ReadingMode {
    /// Each node polls each shard.
    Polling,
    /// Each node has a consumer of its own at each stream.
    FanOut,
}

/// Whether the nodes of a site share their reads of the streams: the setting `eventlog.sharing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SharingMode {
    /// One node of a site reads each shard, and hands the records to its siblings.
    Auto,
    /// Each node reads all shards.
    Off,
}

/// The parts of an estate that decide its cost.
#[derive(Clone, Debug, PartialEq, Serialize, clap::Args)]
pub struct Estate {
    /// Number of sites; each has a stream
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub sites: u32,
    /// Number of nodes (replicas) per site
    #[arg(long = "nodes-per-site", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub nodes_per_site: u32,
    /// Kind of the tables
    #[arg(long, value_enum, default_value_t = TableMode::OnDemand)]
    pub tables: TableMode,
    /// Replicas of tables with multi-Region strong consistency: 3, or 2 with a witness
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=3))]
    pub regions: u32,
    /// Kind of the streams
    #[arg(long, value_enum, default_value_t = StreamMode::Provisioned)]
    pub streams: StreamMode,
    /// Number of shards per stream
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: u32,
    /// Way in which the streams are read
    #[arg(long, value_enum, default_value_t = ReadingMode::Polling)]
    pub reading: ReadingMode,
    /// Sharing of reads among the nodes of a site (setting eventlog.sharing)
    #[arg(long, value_enum, default_value_t = SharingMode::Auto)]
    pub sharing: SharingMode,
    /// Hours for which the streams keep their records
    #[arg(long = "retention-hours", default_value_t = 168, value_parser = clap::value_parser!(u32).range(24..=8760))]
    pub retention_hours: u32,
    /// Refs in the tables: they are stored, and each node reads each of them once a day to verify it
    #[arg(long, default_value_t = 10_000_000)]
    pub refs: u64,
    /// Heartbeat of the nodes in seconds (setting lease.heartbeat)
    #[arg(long = "heartbeat-s", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub heartbeat_s: u32,
    /// Do not count stream events: the sites are plain git servers, or Gerrits without the bridge
    #[arg(long = "no-events")]
    pub no_events: bool,
}

impl Estate {
    /// The nodes of all sites.
    #[must_use]
    pub fn nodes(&self) -> f64 {
        f64::from(self.sites) * f64::from(self.nodes_per_site)
    }

    /// Whether nodes hand records to each other. A node that is alone in its site has nobody to share with.
    #[must_use]
    pub fn shares(&self) -> bool {
        self.sharing == SharingMode::Auto && self.nodes_per_site > 1
    }

    /// The nodes that read each shard of a stream: one per site if they share their reads, or else all.
    #[must_use]
    pub fn readers(&self) -> f64 {
        if self.shares() { f64::from(self.sites) } else { self.nodes() }
    }

    /// The tables in which a write is billed: one, or one per Region.
    #[must_use]
    pub fn replicas(&self) -> f64 {
        if self.tables == TableMode::Mrsc { f64::from(self.regions) } else { 1.0 }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Three sites of one node, with the defaults of the command line.
    pub fn estate() -> Estate {
        Estate {
            sites: 3,
            nodes_per_site: 1,
            tables: TableMode::OnDemand,
            regions: 3,
            streams: StreamMode::Provisioned,
            shards: 2,
            reading: ReadingMode::Polling,
            sharing: SharingMode::Auto,
            retention_hours: 168,
            refs: 10_000_000,
            heartbeat_s: 5,
            no_events: false,
        }
    }

    #[test]
    fn a_write_is_billed_in_each_region() {
        assert_eq!(estate().replicas(), 1.0);
        assert_eq!(Estate { tables: TableMode::Mrsc, ..estate() }.replicas(), 3.0);
        assert_eq!(Estate { nodes_per_site: 5, ..estate() }.nodes(), 15.0);
    }

    #[test]
    fn fifty_nodes_of_a_site_read_as_one_if_they_share() {
        let of = |nodes_per_site, sharing| Estate { nodes_per_site, sharing, ..estate() };
        assert_eq!([1, 50].map(|nodes| of(nodes, SharingMode::Auto).readers()), [3.0, 3.0]);
        assert_eq!([1, 50].map(|nodes| of(nodes, SharingMode::Off).readers()), [3.0, 150.0]);
        assert!(!of(1, SharingMode::Auto).shares() && of(2, SharingMode::Auto).shares());
    }
}
