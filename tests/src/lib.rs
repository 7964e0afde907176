//! The shared code of the tests: builders, the contract suites that every implementation of a seam passes, the
//! end-to-end harness, and the simulator.

pub mod acceptance;
pub mod aws;
pub mod build;
pub mod contract;
pub mod e2e;
pub mod local_git;
pub mod odd;
pub mod sim;
pub mod unfit;
