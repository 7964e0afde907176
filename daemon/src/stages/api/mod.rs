//! The bridge API: bridges hand in ref transactions here, and operators read the state of the node.
//!
//! This stage turns HTTP requests into calls of the ports ([`Transactions`], [`Inspection`] and others), and their
//! answers into HTTP. It knows neither git nor AWS: `node/assembly` hands it the implementations.
//!
//! | file | idea |
//! |---|---|
//! | `server` | binds the listeners and runs them |
//! | `serve` | serves one listener within its bounds |
//! | `patience` | ends a connection whose caller takes nothing |
//! | `access` | bearer tokens of the TCP listener |
//! | `admission` | bounds the requests in progress |
//! | `extract` | turns paths and bodies into validated types |
//! | `check` | rules of a request that its types do not express |
//! | `context` | the stages behind the API; work outlives its caller |
//! | `deadlines` | how long a caller waits |
//! | `in_time` | answers a batch inside of that time |
//! | `routes` | the table of routes |
//! | `turns` | the order of batches when more of them come than this node works on |
//! | `transactions`, `projects` | ref transactions and their fate; projects and their `HEAD` |
//! | `arrivals` | waits of callers for a transaction |
//! | `inspection` | status, parked, quarantined; one ref at every site |
//! | `resync` | resyncs and replays of this node |
//! | `injection` | the webhook that adds the sidecar to pods, a listener of a process of its own |
//! | `gerrit` | the handshake of a Gerrit, and strays |
//! | `sites` | all sites, and failover |
//! | `signing` | signed records: the sites that must sign, and their keys |
//! | `locks` | locks of operators and bridges, and maintenance |
//! | `drills` | drills and the preflight |
//! | `doctor` | the checks of this node, and the settings that all nodes should share |
//! | `rebuild` | the version map for peers, and the rebuilding of a lost refdb |
//! | `operators` | the users that are operators; the operators' socket, which knows its callers by user id |
//! | `operator_listener`, `operator_tokens` | the listener for operators, which knows them by certificate or token |
//! | `out_of_reach` | whether a user could replace a file |
//! | `seed` | seeding of existing repositories |
//! | `events` | stream events |
//! | `refresh` | refresh tasks |
//! | `peer_listener` | the listener for peers: bounds for each, and a short list of calls |
//! | `peer_admission` | decides which callers that listener accepts |
//! | `handshakes`, `addresses` | TLS handshakes of callers, within bounds; places per address |
//! | `places` | the places of operators without a certificate; connections without a request give way |
//! | `peers` | this node as a peer, and the peers of this node |
//! | `objects` | objects for peers |
//! | `fetches` | fetches of git, for peers |
//! | `error` | gives every error answer its HTTP status |
//! | `openapi` | the OpenAPI document |
//! | `health` | the listener for health and metrics |
//! | `readiness` | the preconditions of readiness |

pub mod access;
mod addresses;
mod admission;
mod arrivals;
mod check;
mod context;
pub mod deadlines;
mod doctor;
mod drills;
mod error;
mod events;
mod extract;
mod fetches;
mod gerrit;
mod handshakes;
pub mod health;
pub mod in_time;
pub mod injection;
mod inspection;
mod locks;
mod objects;
pub mod openapi;
pub mod operator_listener;
pub mod operator_tokens;
mod operators;
mod out_of_reach;
mod patience;
mod peer_admission;
pub mod peer_listener;
mod peers;
mod places;
mod projects;
pub mod readiness;
mod rebuild;
mod refresh;
mod resync;
mod routes;
mod seed;
mod serve;
pub mod server;
mod signing;
mod sites;
mod transactions;
pub mod turns;

pub use crate::stages::ports::{Handshake, Inspection, Seeding, Transactions};
