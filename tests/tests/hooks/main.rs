//! The outer interface of a sidecar: real git with the real hooks, the command line and the API, over a fake commit
//! stage, which moves the refs with git and keeps its requests.

mod bounds;
mod command;
mod fake;
mod fitness;
mod guard;
mod install;
mod peers;
mod push;
mod server;
