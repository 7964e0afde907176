//! Contract suites: what every implementation of a seam must do, run from `tests/tests/contract_*.rs`.

pub mod repositories;
