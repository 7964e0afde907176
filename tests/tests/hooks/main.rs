//! The outer interface of a sidecar: real git with the real hooks, the command line and the API, over a fake commit
//! stage, which moves the refs with git and keeps its requests.

mod bounds;
mod certificates;
mod command;
mod fake;
mod fetches;
mod fitness;
mod guard;
mod install;
mod mutual_tls;
mod operators;
mod peers;
mod push;
mod server;
