//! The load test on real Gerrits: sites with a Gerrit and a sidecar each, users who push, vote, comment and submit, and
//! listeners to the event streams that fetch the patch sets of which they are told, as CI does.
//!
//! Model, plan, open loop, measurements and report are those of `lockstep_loadtest`.
//!
//! | module | idea |
//! |---|---|
//! | `profiles` | the profiles that the program brings |
//! | `shared` | the parts that all operations share |
//! | `world` | projects, open changes, drafts, accounts |
//! | `commits` | the commits that clients push |
//! | `client` | one request by REST or `git push`, and its answer |
//! | `told` | the ledger: every fact that a client was told |
//! | `operation` | one operation, with its tries |
//! | `acts` | the requests of each class of operations |
//! | `listen` | the listeners to the event streams |
//! | `note_db` | reads changes and drafts from the repositories |
//! | `judge` | decides whether the sites show every fact |
//! | `index` | compares each Gerrit's index with its repositories |
//! | `begin` | starts the sites, and makes accounts, projects and changes |
//! | `run` | one run, from the profile to the report |

mod acts;
mod begin;
mod client;
mod commits;
mod index;
mod judge;
mod listen;
mod note_db;
mod operation;
pub mod profiles;
pub mod run;
mod shared;
mod told;
mod world;
