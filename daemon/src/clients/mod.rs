//! Programs that call a running sidecar.
//!
//! | room | job |
//! |---|---|
//! | `api_client` | HTTP over the sidecar's Unix socket, with outcomes kept apart |
//! | `git_hooks` | `proc-receive`, the `reference-transaction` guard, and their installation |

pub mod api_client;
pub mod git_hooks;
