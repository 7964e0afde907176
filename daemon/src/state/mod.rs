//! The state of one node, and the steps that make it durable.
//!
//! | room | job |
//! |---|---|
//! | `journal` | slots, windows and marks of the running incarnation |
//! | `version_map` | each ref's version, value and transaction; the overlay of moves that are not durable; ref locks |
//! | `materialize` | moves a project's local refs to committed values |
//! | `durability` | the durable step: sync the repositories, then commit the node's store |
//! | `low_water` | low-water marks: every slot of a lane below its mark is applied here |
//! | `low_water_extent` | the same marks in the bounded form of a node's record |
//! | `debts` | projects and refs that this node cannot bring up to date: durable, with growing pauses between tries |
//! | `quiesce` | holds new commits of a project, and waits until those in progress have ended |
//! | `known_folders` | the directory marks that the running incarnation has set, so that it need not set them again |
//! | `operator_locks` | the locks of operators and bridges, as this node read them last, and how far it obeys them |
//! | `operator_run` | a long run that operators begin, such as a resync: one at a time, with a report |
//! | `context` | the handles from which stages are built: the node's seams, and the state above |
//! | `plain_slots` | the slots of this node that the collector need not read |
//! | `committed_requests` | committed requests of the bridge, for callers that repeat them |
//! | `went_back` | whether the refdb is older than this node, because it was restored from a backup |
//! | `bound_refdb` | the refdb that this node's volume belongs to |
//! | `signing` | signs the transactions of this node, and verifies those of streams |
//! | `site_roles` | the list of sites with their roles, as this node read them last |
//! | `bootstrap` | the progress of a node that takes everything from the refdb and from peers |
//! | `coming_back` | whether this node comes back from a time in which its site was off |
//! | `gone_nodes` | the nodes whose heartbeat stands still |
//! | `gerrit_session` | tracks Gerrit processes: only the newest one is answered |

pub mod bootstrap;
pub mod bound_refdb;
pub mod coming_back;
pub mod committed_requests;
pub mod context;
pub mod debts;
pub mod durability;
pub mod gerrit_session;
pub mod gone_nodes;
pub mod journal;
pub mod known_folders;
pub mod low_water;
pub mod low_water_extent;
pub mod materialize;
pub mod operator_locks;
pub mod operator_run;
pub mod plain_slots;
pub mod quiesce;
pub mod signing;
pub mod site_roles;
pub mod version_map;
pub mod went_back;
