//! The phases of a run, which pass virtual time and check everything meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::check::Violation;
use super::world::World;

/// The phases of a run.
pub(super) struct Phases {
    pub(super) world: Arc<World>,
}

impl Phases {
    /// The first property that did not hold.
    pub(super) fn judge(&self) -> Result<(), Violation> {
        self.world.watch.violation().map_or(Ok(()), Err)
    }

    /// Lets virtual time pass, and checks everything at every tick.
    pub(super) async fn pass(&self, ms: u64) -> Result<(), Violation> {
        let until = self.world.trace.now_ms() + ms;
        while self.world.trace.now_ms() < until {
            sleep(Duration::from_millis(self.world.scenario.tick_ms)).await;
            self.world.tick();
            self.world.note_cut_off();
            self.judge()?;
        }
        Ok(())
    }

    /// Waits until every node serves.
    pub(super) async fn all_ready(&self) -> Result<(), Violation> {
        let until = self.world.trace.now_ms() + self.world.scenario.converge_ms;
        loop {
            self.pass(100).await?;
            let late = self.world.not_ready();
            if late.is_empty() {
                return Ok(());
            }
            if self.world.trace.now_ms() > until {
                let what = format!("{late:?} did not become ready in time");
                return Err(Violation { property: "convergence", what });
            }
        }
    }
}
