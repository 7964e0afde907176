//! The command line.
//!
//! | room | job |
//! |---|---|
//! | `commands` | the subcommands of `lockstep`, one per file |
//! | `demo` | `lockstep demo`: three sites in one process |

pub mod commands;
#[cfg(feature = "embedded")]
pub mod demo;

pub use commands::main;
