//! A whole node: its configuration, and the stages joined on their seams.
//!
//! | room | job |
//! |---|---|
//! | `config` | the TOML file and the environment, validated |
//! | `assembly` | builds, joins and stops the stages; the only place that names adapters |

pub mod assembly;
pub mod config;
