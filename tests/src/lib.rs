//! Contract suites, simulator, end-to-end tests and the tidy test of Lockstep.

pub mod contract;
