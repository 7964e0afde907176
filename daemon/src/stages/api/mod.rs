//! The bridge API: where ref transactions come in, and where operators look.
//!
//! This stage turns HTTP into calls of [`Transactions`] and [`Inspection`] and their answers into HTTP; it knows
//! neither git nor AWS. `app` hands it the implementations.

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
