//! The git bridge: the hooks that git runs in a repository that Lockstep replicates.
//!
//! - [`proc_receive`] is the write path. With `receive.procReceiveRefs=refs`, git hands all commands of a push to it in
//!   one call. One push is one ref transaction, and the sidecar moves the refs.
//! - [`guard`] is the `reference-transaction` hook. It refuses writes that bypass Lockstep, and allows maintenance that
//!   keeps every value.
//! - [`install`] puts both hooks into a repository.
//!
//! The sidecar runs its own git with `core.hooksPath=/dev/null`, so these hooks do not run for it.
//!
//! | file | idea |
//! |---|---|
//! | `proc_receive`, `push` | the hook that receives a push; its commands as one ref transaction, without I/O |
//! | `pktline` | the framing in which git and a hook talk |
//! | `guard` | the hook that refuses writes which bypass Lockstep |
//! | `update` | the repository's own `update` hook, which git does not run here |
//! | `install` | puts the hooks and their settings into a repository |
//! | `git`, `packed_refs` | questions about the repository; one ref of a large `packed-refs` |

pub mod git;
pub mod guard;
pub mod install;
mod packed_refs;
mod pktline;
pub mod proc_receive;
mod push;
mod update;
