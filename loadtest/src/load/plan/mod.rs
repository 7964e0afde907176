//! The plan of a run: every arrival with its time, drawn before the run begins. It is a pure function of profile and
//! seed. The same seed gives the same plan, and the answers of the sites do not change it: the load is open.
//!
//! | file | idea |
//! |---|---|
//! | `arrival` | one arrival |
//! | `intensity` | the rate over time |
//! | `draw` | draws the arrivals of all classes |
//! | `trace` | arrivals of a recorded trace, and their file format |

mod arrival;
mod draw;
mod intensity;
mod trace;

pub use arrival::Arrival;
pub use draw::{MOST_ARRIVALS, Plan, PlanError};
pub use intensity::Intensity;
pub use trace::{TraceLine, read_trace, replay};
