//! The settings that all nodes should share, in a short canonical form that peers compare, and a hash of the whole
//! configuration of a node.
//!
//! A setting is in this list if nodes that differ in it work against each other. Endpoints are not in it: sites may
//! reach the same tables on different ways. A Region that is not set comes from the environment, and is left out, and
//! so is a blob store in a local folder.

use lockstep_proto::doctor::SharedSettings;
use sha2::{Digest, Sha256};

use crate::node::config::Settings;

/// The settings of this node that all nodes should share. No value has credentials.
#[must_use]
pub fn shared_settings(settings: &Settings) -> SharedSettings {
    let Settings { refdb, eventlog, lease, gerrit, .. } = settings;
    let mut shared: Vec<(String, Option<String>)> = vec![
        ("refdb.prefix".to_owned(), Some(refdb.prefix.clone())),
        ("refdb.region".to_owned(), refdb.region.clone()),
        ("eventlog.prefix".to_owned(), Some(eventlog.prefix.clone())),
        ("eventlog.retention".to_owned(), Some(format!("{:?}", eventlog.retention))),
        ("blobs.url".to_owned(), Some(settings.blobs_url.clone()).filter(|url| url.starts_with("s3://"))),
        ("lease.heartbeat".to_owned(), Some(format!("{:?}", lease.heartbeat))),
        ("lease.expires_after".to_owned(), Some(format!("{:?}", lease.expires_after))),
        ("lease.adopted_elsewhere_after".to_owned(), Some(format!("{:?}", lease.adopted_elsewhere_after))),
        ("lease.expelled_after".to_owned(), Some(format!("{:?}", lease.expelled_after))),
        ("gerrit.all_projects".to_owned(), Some(gerrit.all_projects.to_string())),
        ("gerrit.all_users".to_owned(), Some(gerrit.all_users.to_string())),
    ];
    let regions = eventlog.streams.iter();
    shared.extend(regions.map(|(site, stream)| (format!("eventlog.streams.{site}.region"), stream.region.clone())));
    SharedSettings { settings: shared.into_iter().filter_map(|(name, value)| Some((name, value?))).collect() }
}

/// A hash of a whole configuration. Two programs of the same version give the same one for the same settings.
#[must_use]
pub fn configuration_hash(settings: &Settings) -> String {
    hex::encode(&Sha256::digest(format!("{settings:?}").as_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config;

    fn settings() -> Settings {
        config::parse(config::EXAMPLE).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_setting_that_nodes_must_share_is_in_the_list_with_its_name() {
        let here = shared_settings(&settings());
        let mut other = settings();
        other.lease.expelled_after += std::time::Duration::from_secs(60);
        other.refdb.prefix = "other".to_owned();
        let there = shared_settings(&other);
        let names: Vec<&str> = here.differences(&there).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["lease.expelled_after", "refdb.prefix"]);
    }

    #[test]
    fn names_of_nodes_and_ways_to_tables_may_differ() {
        let here = shared_settings(&settings());
        let mut other = settings();
        other.node = "another-0".parse().unwrap();
        other.refdb.endpoint = Some("https://vpce.example.org".to_owned());
        assert_eq!(here, shared_settings(&other));
        assert_ne!(configuration_hash(&settings()), configuration_hash(&other));
        assert_eq!(configuration_hash(&settings()), configuration_hash(&settings()));
    }
}
