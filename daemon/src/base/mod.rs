//! Vocabulary and tools that know nothing of replication.
//!
//! | room | job |
//! |---|---|
//! | `clock` | time and randomness as parameters |
//! | `tasks` | background tasks with an owner |
//! | `backoff` | the one retry delay of the program |
//! | `budget` | a budget of bytes that many holders share |
//! | `time_text` | times and spans as text |
//! | `ref_names` | the kinds of refs, and names that exclude each other |
//! | `base_paths` | the folder that holds a project's repository |
//! | `observer` | the trait through which stages report to metrics, status and the simulator |
//! | `faults` | failpoints and injected bugs; compiled out of the production image |
//! | `transaction_builder` | the builder of transactions in unit tests |

pub mod backoff;
pub mod base_paths;
pub mod budget;
pub mod clock;
pub mod faults;
pub mod observer;
pub mod ref_names;
pub mod tasks;
pub mod time_text;
#[cfg(test)]
pub(crate) mod transaction_builder;
