//! What the tests share: builders, and the contract suites that every implementation of a seam passes.

pub mod build;
pub mod contract;
