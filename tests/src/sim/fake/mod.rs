//! A tiny node and a tiny volume for the simulator's own tests. It is the simplest node that keeps the invariants. With
//! a built-in mistake it breaks one of them. It replaces the real node nowhere else.

mod handle;
mod node;
mod tests;
mod volume;
