//! Lockstep: a sidecar that keeps the Gerrit sites of one company in lockstep.
//!
//! One folder per layer. A layer imports only the layers above it in this list; `tests/tests/tidy` enforces this, and
//! `docs/ARCHITECTURE.md` names every room.
//!
//! | layer | job |
//! |---|---|
//! | [`base`] | vocabulary and tools that know nothing of replication: clock, tasks, names, injected bugs |
//! | [`seams`] | the outside world behind traits: refdb, event log, blob store, git, volume, Gerrit, peers |
//! | [`state`] | the state of one node: journal, version map, refs on disk, durable steps |
//! | [`telemetry`] | metrics, traces, logs and the status board |
//! | [`stages`] | the pipeline: api, commit, publish, consume, apply, refresh, events, and the jobs around it |
//! | [`clients`] | programs that call the sidecar: API client, git hooks |
//! | [`node`] | configuration, and the assembly of stages on seams into a running sidecar |
//! | [`cli`] | the command line and the demo |

pub mod base;
pub mod seams;
pub mod state;
pub mod telemetry;

pub mod stages;

pub mod clients;
pub mod node;

pub mod cli;
