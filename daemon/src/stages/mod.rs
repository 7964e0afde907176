//! The pipeline. Stages do not import each other; they meet in [`ports`], and `node::assembly` joins them.
//!
//! | room | job |
//! |---|---|
//! | `ports` | one trait per file: what a stage offers to the others |
//! | `api` | the bridge API, status, health |
//! | `commit` | a batch of ref commands becomes one conditional write of the refdb |
//! | `publish` | settled slots go to the event log |
//! | `consume` | readers of every site's stream |
//! | `apply` | committed transactions reach this node's repositories |
//! | `refresh` | what Gerrit must index or evict |
//! | `events` | Gerrit's stream events, from their origin to all other sites |
//! | `reconcile` | periodic jobs: sweep, collect, release, restore repositories |
//! | `seed` | existing repositories become projects |
//! | `handshake` | whether a Gerrit may start here |
//! | `membership` | incarnations, heartbeats, adoption of dead nodes, the barrier of project states |

pub mod api;
pub mod apply;
pub mod commit;
pub mod consume;
pub mod events;
pub mod handshake;
pub mod membership;
pub mod ports;
pub mod publish;
pub mod reconcile;
pub mod refresh;
pub mod seed;
