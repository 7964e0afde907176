//! Contract suites, simulator and helpers of the tests of Lockstep.

pub mod contract;
pub mod local_git;
