//! The git bridge: what git runs in a repository that Lockstep replicates.
//!
//! - [`proc_receive`] is the write path: with `receive.procReceiveRefs=refs`, git hands all commands of a push to
//!   it in one call. One push is one ref transaction, and the sidecar moves the refs.
//! - [`guard`] (`reference-transaction`) is no write path: it refuses writes that bypass Lockstep, and lets
//!   maintenance pass that keeps every value.
//! - [`install`] puts both into a repository.
//!
//! The sidecar's own git runs with `core.hooksPath=/dev/null` and never meets them.

pub mod git;
pub mod guard;
pub mod install;
mod packed;
mod pktline;
pub mod proc_receive;
mod push;
mod update;
