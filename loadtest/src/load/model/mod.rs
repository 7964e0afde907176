//! The load model of the load test: the counts and rates that `lockstep cost` has too, and the distributions that a
//! run draws from. Everything here is a pure function of the coefficients, and randomness is a parameter.
//!
//! | file | idea |
//! |---|---|
//! | `curve` | the course of a day and of a week |
//! | `draws` | sizes, delays, chains and projects, from their distributions |

mod curve;
mod draws;

pub use curve::Curve;
pub use draws::{Draws, exponential};
pub use lockstep::cli::cost::model::{Class, Day, Model};
