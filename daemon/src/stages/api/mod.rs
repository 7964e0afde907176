//! The bridge API: bridges hand in ref transactions here, and operators read the state of the node.
//!
//! This stage turns HTTP requests into calls of the ports ([`Transactions`], [`Inspection`] and others), and their
//! answers into HTTP. It knows neither git nor AWS: `node/assembly` hands it the implementations.
//!
//! | file | idea |
//! |---|---|
//! | `server` | binds the listeners and runs them |
//! | `serve` | serves one listener within its bounds |
//! | `access` | bearer tokens of the TCP listener |
//! | `admission` | bounds the requests in progress |
//! | `extract` | turns paths and bodies into validated types |
//! | `check` | rules of a request that its types do not express |
//! | `context` | the stages behind the API; work outlives its caller |
//! | `deadlines` | how long a caller waits |
//! | `routes` | the table of routes |
//! | `transactions`, `projects` | ref transactions and their fate; projects and their `HEAD` |
//! | `inspection` | status, parked, quarantined |
//! | `gerrit` | the handshake of a Gerrit, and strays |
//! | `sites` | all sites, and failover |
//! | `operators` | the operators' socket, which knows its callers by their user id |
//! | `seed` | seeding of existing repositories |
//! | `events` | stream events |
//! | `refresh` | refresh tasks |
//! | `objects` | objects for peers |
//! | `error` | gives every error answer its HTTP status |
//! | `openapi` | the OpenAPI document |
//! | `health` | the listener for health and metrics |
//! | `readiness` | the preconditions of readiness |

pub mod access;
mod admission;
mod check;
mod context;
pub mod deadlines;
mod error;
mod events;
mod extract;
mod gerrit;
pub mod health;
mod inspection;
mod objects;
pub mod openapi;
mod operators;
mod projects;
pub mod readiness;
mod refresh;
mod routes;
mod seed;
mod serve;
pub mod server;
mod sites;
mod transactions;

pub use crate::stages::ports::{Handshake, Inspection, Seeding, Transactions};
