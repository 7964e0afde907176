//! The outside world behind traits. `tests/src/contract` has one suite for each of `refdb`, `eventlog`, `blob`, `git`
//! and `volume`, and every implementation passes it. The implementations of the other rooms have tests of their own.
//!
//! | room | job |
//! |---|---|
//! | `aws` | the calls on AWS, their policy, and the properties that tables, streams and the bucket should have |
//! | `refdb` | the global ref database: DynamoDB, memory |
//! | `eventlog` | one ordered stream per site: Kinesis, memory |
//! | `blob` | packs too large to travel inline: object store, memory |
//! | `git` | repositories on the volume: libgit2 for objects, git for refs; a model |
//! | `volume` | the node's own durable store: redb, memory |
//! | `copy` | copies of a volume, for silent drills |
//! | `gerrit` | a stock Gerrit reached by REST; a recording fake |
//! | `handover` | programs and services that move the users' traffic |
//! | `oidc` | logins by OpenID Connect: a provider, and the check of its tokens |
//! | `probe` | users of a site: a push and a fetch by git, a page, a command over SSH |
//! | `tls` | mutual TLS between sidecars: certificates, names, handshakes |
//! | `signing` | signatures of records: the key of a site, and the check of a signature |
//! | `peers` | objects from other nodes |
//! | `embedded` | emulators of DynamoDB and Kinesis in this process, reached through the AWS adapters |

pub mod aws;
pub mod blob;
pub mod copy;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod eventlog;
pub mod gerrit;
pub mod git;
pub mod handover;
pub mod oidc;
pub mod peers;
pub mod probe;
pub mod refdb;
pub mod signing;
pub mod tls;
pub mod volume;
