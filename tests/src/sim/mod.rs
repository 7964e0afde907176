//! The simulator: whole sites in one process on virtual time, with faults from a seed.
//!
//! A run has two phases. *Safety*: clients push, the nemesis breaks things, and every property is judged at the moment
//! of an action (`watch`, `check`). *Liveness*: everything is healed, and all nodes must equal the refdb within a
//! bounded virtual time. In some scenarios, a site then loses its volumes and must recover.
//!
//! The same seed gives the same trace, byte by byte. Therefore a run has one thread, paused time, `biased` selects and
//! no real I/O. It never uses the order of a hash table, and no clock or randomness but its own.
//!
//! | module | idea |
//! |---|---|
//! | [`dice`], [`trace`], [`scenario`] | randomness, the record of a run, the settings of a run |
//! | `towards` | the scenarios of the injected bugs |
//! | `folders` | the scenario of names that are folders at one time, and branches at another |
//! | [`faults`], [`link`] | the faults of calls |
//! | `blobs`, `eventlog`, `peers`, `refdb`, `repositories`, `store` | one seam each, behind the faults |
//! | `item_by_item` | reads of the refdb that are not one moment |
//! | [`keys`] | the keys of the sites, and signatures that an attacker has |
//! | [`backend`], [`memory`] | the services and volumes below the seams |
//! | [`node`], [`world`] | the real node, and the sites |
//! | `capacity` | a load that jumps, for the autoscalers of the nodes |
//! | [`nemesis`], [`action`], [`forgery`] | the faults of nodes and streams |
//! | [`failovers`], [`site_list`] | operators that move the writes of a site to another; that add and remove sites |
//! | `rebuilds` | a lost refdb that is rebuilt |
//! | [`rotten`] | committed content that every node holds as bad |
//! | `fake` | a tiny node with a mistake on demand, for the tests of the simulator itself |
//! | `run`, `phases` | one run, from its start to convergence |
//! | [`gerrit`], `gerrit_process` | the Gerrit beside each node, and its process |
//! | [`clients`], [`workload`], [`history`] | clients, their requests and their answers |
//! | `commits` | whether clients commit at the nodes that could |
//! | [`listeners`] | listeners, which receive stream events |
//! | [`bugs`], [`rates`] | the injected bugs, the properties that find them, and how many seeds do |
//! | `agreement` | whether Gerrits and the refdb show what the facts say |
//! | [`read_limits`], `retention` | the limits of reading a stream; streams that forget old records |
//! | [`story`] | the world without random faults, in which a test takes one step after the other |
//! | [`witness`], [`facts`], [`mirror`], [`watch`], [`check`] | the facts below all faults, and their checkers |

pub mod action;
mod agreement;
pub mod backend;
pub mod blobs;
pub mod bugs;
mod capacity;
pub mod check;
pub mod clients;
mod commits;
pub mod dice;
pub mod eventlog;
pub mod facts;
pub mod failovers;
#[cfg(test)]
mod fake;
pub mod faults;
mod folders;
pub mod forgery;
pub mod gerrit;
mod gerrit_process;
pub mod history;
mod item_by_item;
pub mod keys;
pub mod link;
pub mod listeners;
pub mod memory;
pub mod mirror;
pub mod nemesis;
pub mod node;
pub mod peers;
mod phases;
pub mod rates;
pub mod read_limits;
mod rebuilds;
pub mod refdb;
pub mod repositories;
mod retention;
pub mod rotten;
pub mod run;
pub mod scenario;
pub mod site_list;
pub mod store;
pub mod story;
mod towards;
pub mod trace;
pub mod watch;
pub mod witness;
pub mod workload;
pub mod world;

pub use check::Violation;
pub use node::simulate;
pub use run::{Failure, Report};
pub use scenario::Scenario;
