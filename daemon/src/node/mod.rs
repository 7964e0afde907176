//! A whole node: its configuration, and its stages built on the seams.
//!
//! | room | job |
//! |---|---|
//! | `config` | reads and validates the TOML file and the environment |
//! | `doctor` | checks of a node and its surroundings, while everything is up |
//! | `silent_drill` | makes the copy of a silent drill, starts the standby on it, and judges |
//! | `assembly` | builds, connects, starts and stops the stages; the only place that names adapters |

pub mod assembly;
pub mod config;
pub mod doctor;
mod silent_drill;
