//! The command line.
//!
//! | room | job |
//! |---|---|
//! | `commands` | the subcommands of `lockstep`, one per file |
//! | `cost` | units of AWS per month, and their price |
//! | `demo` | `lockstep demo`: three sites in one process |
//! | `shadow` | watches what another replication does, and compares sites |
//! | `out` | standard output |

pub mod commands;
pub mod cost;
#[cfg(feature = "embedded")]
pub mod demo;
mod out;
pub mod shadow;

pub use commands::main;
