//! The git bridge: the hooks that git runs in a repository that Lockstep replicates.
//!
//! - [`proc_receive`] is the write path. With `receive.procReceiveRefs=refs`, git hands all commands of a push to it in
//!   one call. One push is one ref transaction, and the sidecar moves the refs.
//! - [`guard`] is the `reference-transaction` hook. It refuses writes that bypass Lockstep, and allows maintenance that
//!   keeps every value.
//! - [`install`] puts both hooks into a repository, and takes them out again.
//! - [`in_force`] tells whether git really runs them.
//!
//! The sidecar runs its own git with `core.hooksPath=/dev/null`, so these hooks do not run for it.

mod config_changes;
pub mod git;
pub mod guard;
mod hooks_folder;
pub mod in_force;
pub mod install;
mod packed_refs;
mod pktline;
pub mod proc_receive;
mod push;
mod repository_state;
mod rules;
mod update;
