//! The load model: from builds per day to operations per second. Everything here is a pure function of the
//! coefficients, and randomness is a parameter.
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
//! | `curve` | the course of a day and of a week |
//! | `draws` | sizes, delays, chains and projects, from their distributions |

mod class;
mod coefficients;
mod curve;
mod day;
mod draws;

pub use class::Class;
pub use coefficients::Model;
pub use curve::Curve;
pub use day::Day;
pub use draws::{Draws, exponential};
