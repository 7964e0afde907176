//! The request units that calls of the refdb consumed: the measure by which on-demand tables are billed.

use parking_lot::Mutex;

/// Request units, as the service counts them. A transaction takes two for each item.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Read request units (RRU).
    pub read: f64,
    /// Write request units (WRU).
    pub write: f64,
}

/// Counts request units since the start of the process. A service that tells no units leaves it at zero.
#[derive(Debug, Default)]
pub struct RequestUnits(Mutex<Units>);

impl RequestUnits {
    /// The units of all calls so far.
    #[must_use]
    pub fn consumed(&self) -> Units {
        *self.0.lock()
    }

    /// Counts the units of one call.
    pub fn add(&self, call: Units) {
        let mut all = self.0.lock();
        all.read += call.read;
        all.write += call.write;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_are_counted_apart() {
        let units = RequestUnits::default();
        units.add(Units { read: 0.5, write: 0.0 });
        units.add(Units { read: 1.0, write: 4.0 });
        assert_eq!(units.consumed(), Units { read: 1.5, write: 4.0 });
    }
}
