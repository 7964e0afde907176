//! The command line.
//!
//! | room | job |
//! |---|---|
//! | `commands` | one subcommand per file |
//! | `demo` | three sites in one process |
//! | `out` | standard output |

pub mod commands;
#[cfg(feature = "embedded")]
pub mod demo;
mod out;

pub use commands::main;
