//! The outside of a sidecar: real git with the real hooks, the command line and the API, against a commit stage
//! that is a fake (it moves the refs with git, and remembers what it was asked).

mod bounds;
mod command;
mod fake;
mod guard;
mod peers;
mod push;
mod server;
