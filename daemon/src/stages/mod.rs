//! The stages of the data flow. Stages do not import each other: they use each other through [`ports`], and
//! `node::assembly` joins them.
//!
//! | room | job |
//! |---|---|
//! | `ports` | the traits through which stages use each other, one file per conversation |
//! | `api` | the bridge API, status, health |
//! | `commit` | turns a batch of ref commands into one conditional write to the refdb |
//! | `publish` | moves settled slots to the event log |
//! | `consume` | reads the stream of every site |
//! | `share` | lets one node of a site read a shard for the others |
//! | `apply` | applies committed transactions to this node's repositories |
//! | `arrival` | waits until a site shows a transaction |
//! | `refresh` | tells Gerrit which index documents and cache entries to bring up to date |
//! | `events` | carries Gerrit's stream events from their origin to all other sites |
//! | `reconcile` | periodic jobs: sweep, collect, release, restore repositories |
//! | `rebuild` | makes a new refdb from the version maps of all sites, when the old one is lost |
//! | `resync` | brings refs and objects of this node again to the refdb's state, as an operator asks |
//! | `seed` | turns existing repositories into projects |
//! | `verify` | compares refs with the refdb and with peers; verifies all refs and objects in the background |
//! | `handshake` | decides whether a Gerrit may start here |
//! | `failover` | moves the writes of one site to another, step by step |
//! | `locks` | locks of operators and bridges on projects and refs, and maintenance |
//! | `handover` | tells programs and services outside which role the site has |
//! | `membership` | incarnations, heartbeats, adoption of dead nodes, the barrier of closing projects |
//! | `capacity` | the number of shards of the site's stream follows the load |
//! | `console` | pages for operators in a browser |

pub mod api;
pub mod apply;
pub mod arrival;
pub mod capacity;
pub mod commit;
pub mod console;
pub mod consume;
pub mod events;
pub mod failover;
pub mod handover;
pub mod handshake;
pub mod locks;
pub mod membership;
pub mod ports;
pub mod publish;
pub mod rebuild;
pub mod reconcile;
pub mod refresh;
pub mod resync;
pub mod seed;
pub mod share;
pub mod verify;
