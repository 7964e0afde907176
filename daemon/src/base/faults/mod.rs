//! Faults that tests switch on: crashes at named points, and bugs that the simulator must find.
//!
//! Without the feature `failpoints` (the production image) both are constants that the compiler removes.

pub mod failpoint;
pub mod injected_bug;
