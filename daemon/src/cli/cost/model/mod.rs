//! The load model: from builds per day to operations per day. Everything here is a pure function of the coefficients.
//! The load test takes its rates from the same model.
//!
//! The formula comes from published figures of large Gerrit sites (`docs/load/README.md` names them). With `B` builds
//! and `D` developers: `T = B / jobs_per_trigger` triggers, `P = 0.55 T` patch sets, `M = 0.2 T` merges; ref updates
//! per day are `2 P + 1.5 T + 2 P + 6 P + 3.5 M + 6 M + 0.2 D`. Each number is a coefficient.
//!
//! | file | idea |
//! |---|---|
//! | `class` | the classes of operations |
//! | `coefficients` | every number of the model, with its check |
//! | `day` | counts per day, and rates of the peak hour |

mod class;
mod coefficients;
mod day;

pub use class::Class;
pub use coefficients::Model;
pub use day::Day;
