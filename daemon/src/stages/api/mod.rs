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
//! | `routes` | the table of routes; ref transactions, projects, status |
//! | `gerrit` | the handshake of a Gerrit, and strays |
//! | `seed` | seeding of existing repositories |
//! | `events` | stream events |
//! | `refresh` | refresh tasks |
//! | `objects` | objects for peers |
//! | `error` | gives every error answer its HTTP status |
//! | `openapi` | the OpenAPI document |
//! | `health` | the listener for health and metrics |
//! | `latch` | the preconditions of readiness |

pub mod access;
mod admission;
mod check;
mod error;
mod events;
mod extract;
mod gerrit;
pub mod health;
pub mod latch;
mod objects;
pub mod openapi;
mod refresh;
mod routes;
mod seed;
mod serve;
pub mod server;

pub use crate::stages::ports::{Handshake, Inspection, Seeding, Transactions};
