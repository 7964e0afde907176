//! Measurements of a run: latencies per class, the course per second, lag per site, processes, metrics of the sidecars,
//! and the generator's judgement of itself.
//!
//! | file | idea |
//! |---|---|
//! | `recorder` | takes every operation as it ends |
//! | `finished` | an operation that has ended |
//! | `hlog` | histograms as an interval log of HdrHistogram |
//! | `watch` | the status of every site, several times per second: the lag until a commit is visible |
//! | `processes` | processor, memory, files and disk of every process |
//! | `scrape` | the sidecars' own metrics, before and after |
//! | `own` | whether the generator kept up |
//! | `otlp` | the same measurements to a collector, while the run goes on |

mod finished;
mod hlog;
mod otlp;
mod own;
mod processes;
mod recorder;
mod scrape;
mod watch;

pub use finished::{Finished, Result as Outcome};
pub use hlog::write as write_hlog;
pub use otlp::Otlp;
pub use own::{OwnCheck, own_seconds};
pub use processes::{ProcessCourse, sample_processes};
pub use recorder::{ClassStats, Recorder, Recording, Second};
pub use scrape::{Scraped, scrape};
pub use watch::{SiteWatch, Watched, watch};
