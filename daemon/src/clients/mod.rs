//! Programs that call a running sidecar.
//!
//! | room | job |
//! |---|---|
//! | `api_client` | HTTP client of the sidecar's Unix socket; its errors separate "not sent" from "no answer" |
//! | `git_hooks` | the `proc-receive` hook, the `reference-transaction` guard, and their installation |

pub mod api_client;
pub mod git_hooks;
