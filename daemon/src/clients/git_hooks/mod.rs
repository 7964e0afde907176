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
//!
//! | file | idea |
//! |---|---|
//! | `proc_receive`, `push` | the hook that receives a push; its commands as one ref transaction, without I/O |
//! | `pktline` | the framing in which git and a hook talk |
//! | `guard` | the hook that refuses writes which bypass Lockstep |
//! | `update` | the repository's own `update` hook, which git does not run here |
//! | `pushed`, `rules` | one command of a push; receive-pack's rules for it, without I/O |
//! | `repository_state` | the settings and files that the rules look at |
//! | `install` | puts the hooks and their settings into a repository, and takes them out |
//! | `hooks_folder`, `hook_files` | the folder in which git looks for hooks; their files |
//! | `config_changes` | changes of settings that can be undone |
//! | `in_force` | tells whether git runs the hooks |
//! | `git`, `packed_refs` | questions about the repository; one ref of a large `packed-refs` |

mod config_changes;
pub mod git;
pub mod guard;
mod hook_files;
mod hooks_folder;
pub mod in_force;
pub mod install;
mod packed_refs;
mod pktline;
pub mod proc_receive;
mod push;
mod pushed;
mod repository_state;
mod rules;
mod update;
