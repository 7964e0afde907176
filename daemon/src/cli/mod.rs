//! The command line.
//!
//! | room | job |
//! |---|---|
//! | `commands` | one subcommand per file |
//! | `demo` | three sites in one process |

pub mod commands;
#[cfg(feature = "embedded")]
pub mod demo;

pub use commands::main;
