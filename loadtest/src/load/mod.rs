//! The load test: an open load from a model of real days, against sites of Lockstep, and a judgement of the result.
//!
//! | module | idea |
//! |---|---|
//! | `model` | builds per day to operations per second |
//! | `profile` | the profile of a run |
//! | `plan` | every arrival with its time, drawn before the run |
//! | `ledger` | every request with its answer |
//! | `git` | git as a client runs it |
//! | `estate` | the sites, started here or named by a file |
//! | `world` | projects, changes, and the commits that an operation needs |
//! | `drive` | carries out the plan |
//! | `measure` | latencies, lag, processes, metrics |
//! | `oracle` | decides whether the sites hold exactly what their clients were told |
//! | `results` | the report |
//! | `compare` | two reports, and whether the second one is worse |
//! | `knee` | the highest step of a growing load at which every objective holds |
//! | `record` | a trace of a real site, without names |
//! | `run` | one run, from the profile to the report |

pub mod compare;
pub mod drive;
pub mod estate;
pub mod git;
pub mod knee;
pub mod ledger;
pub mod measure;
pub mod model;
pub mod oracle;
pub mod plan;
pub mod profile;
pub mod record;
pub mod results;
pub mod run;
pub mod world;
