//! A tiny node and a tiny volume for the simulator's own tests: the plainest thing that keeps the invariants, and,
//! with a mistake built in, breaks one. It stands in for the real node nowhere else.

mod handle;
mod node;
mod tests;
mod volume;
