//! How long a caller of the bridge API waits for its answer.

use std::time::Duration;

use lockstep_proto::bridge::LONGEST_DEADLINE_MS;

/// The default deadline of a request that names none.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The longest deadline that a request may name.
pub const LONGEST_DEADLINE: Duration = Duration::from_millis(LONGEST_DEADLINE_MS);
