//! Faults that tests switch on: crashes at named points, and bugs that the simulator must find.
//!
//! Without the feature `failpoints` (in the production image) both do nothing, and the compiler removes them.

pub mod failpoint;
pub mod injected_bug;
