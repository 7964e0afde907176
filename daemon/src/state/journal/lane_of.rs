//! The lane of a project in an incarnation with a number of lanes. It must be the same in every build, and the standard
//! library's hasher does not promise that.

use std::hash::Hasher;

use lockstep_proto::{Lane, ProjectName};

/// The lane of a project in any incarnation that has `lanes` lanes.
#[must_use]
pub fn lane_of(project: &ProjectName, lanes: usize) -> Lane {
    let mut hasher = Fnv::default();
    hasher.write(project.as_str().as_bytes());
    let lane = hasher.finish() % u64::try_from(lanes.max(1)).unwrap_or(u64::MAX);
    Lane(u8::try_from(lane).unwrap_or(0))
}

/// The 64-bit FNV-1a hash, the same on every machine and in every release.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
