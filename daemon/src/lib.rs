//! Lockstep: a sidecar that keeps the Gerrit sites of one company in lockstep.
//!
//! One folder per layer. A layer imports only the layers above it in this list; `tests/tests/tidy` enforces this, and
//! `docs/ARCHITECTURE.md` names every room.
//!
//! | layer | job |
//! |---|---|
//! | [`base`] | vocabulary and tools that know nothing of replication: clock, tasks, budgets, names, injected bugs |
//! | [`seams`] | the outside: refdb, event log, blobs, git, volume, Gerrit, peers, probe, handover, AWS and others |
//! | [`state`] | the state of one node: journal, version map, refs on disk, durable steps, debts, the list of sites |
//! | [`telemetry`] | metrics, traces, logs and the status board |
//! | [`stages`] | the pipeline: api, commit, publish, consume, apply; beside it verify, failover, rebuild and others |
//! | [`clients`] | programs that call the sidecar: API client, git hooks |
//! | [`node`] | configuration, and the assembly of stages on seams into a running sidecar |
//! | [`cli`] | the command line, the demo, and the watch beside another replication |

pub mod base;
pub mod seams;
pub mod state;
pub mod telemetry;

pub mod stages;

pub mod clients;
pub mod node;

pub mod cli;
