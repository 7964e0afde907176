//! Follows a job of the sidecar to its end.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::CliError;
use super::target::Target;

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// How often in a row the sidecar may not answer before the command gives up.
const SILENT: u32 = 20;

/// The state of the job that is followed.
pub(super) enum Seen {
    /// It is in progress: how far it is, for people.
    Running(String),
    /// It has come to its end.
    Ended,
    /// The sidecar shows another one, because it was started again.
    Another,
}

/// Looks at `path` until the job of this name has ended, and says on standard error how far it is.
///
/// # Errors
/// The sidecar was started again or does not answer: the outcome is unknown.
pub(super) async fn until_end<T: DeserializeOwned>(
    target: &Target,
    path: &str,
    job: &str,
    look: impl Fn(&T) -> Seen,
) -> Result<T, CliError> {
    let (mut said, mut unanswered) = (String::new(), 0);
    loop {
        match target.get::<Option<T>>(path).await {
            Ok(last) => {
                unanswered = 0;
                match last.map(|last| (look(&last), last)) {
                    Some((Seen::Ended, last)) => return Ok(last),
                    Some((Seen::Running(now), _)) if now != said => {
                        eprintln!("  ... {now}");
                        said = now;
                    }
                    Some((Seen::Running(_), _)) => {}
                    Some((Seen::Another, _)) | None => {
                        return Err(CliError::Failed(format!(
                            "the sidecar was started again: its outcome is unknown. All that the {job} had done stays \
                             done, and the rest was not begun: repeat the command"
                        )));
                    }
                }
            }
            Err(error) => {
                unanswered += 1;
                if unanswered >= SILENT {
                    return Err(error.unrefused());
                }
            }
        }
        sleep(LOOK).await;
    }
}
