//! The needs of a site at AWS: the calls that the code makes, the policy that allows them, and the properties that
//! tables, streams and the bucket should have. And the way there: bounds, retries, circuits and credentials.
//!
//! Nothing in this room calls AWS. The adapters do: `refdb/dynamo/provision`, `eventlog/kinesis/provision` and
//! `blob/bucket` implement [`Provided`] for the resources that they know.
//!
//! | file | content |
//! |---|---|
//! | `calls` | the table of all calls: call, IAM actions, resource, caller |
//! | `policy` | the IAM policy of a caller, made from that table |
//! | `causes` | the text of an error of the SDK |
//! | `circuit` | the circuit breaker of one endpoint, as a pure state machine |
//! | `denied` | the text for operators when AWS denies a call |
//! | `guard` | the part of a client that minds the circuit; calls that bypass it |
//! | `identities` | the credentials: cached, renewed ahead of their expiry, told without anything secret |
//! | `links` | all endpoints of the process with their circuits |
//! | `provided` | a resource that can be compared with the needs of a site, and mended |
//! | `mend` | looks at all resources of a site, and mends them |
//! | `stale` | the text for operators when credentials have expired, or a clock is wrong |
//! | `way` | endpoint, bounds, retries and credentials of every client of the SDK |
//! | `wishes` | encryption keys, tags and modes that an operator asks for |

pub mod calls;
mod causes;
pub mod circuit;
pub mod denied;
mod guard;
mod identities;
mod links;
pub mod mend;
pub mod policy;
mod provided;
pub mod stale;
mod way;
mod wishes;

pub use causes::causes;
pub use guard::{Guard, is_in_chain, never_sent, unconnected, vital};
pub use identities::{AHEAD, Identities};
pub use links::{Link, Links, Service};
pub use provided::{Property, Provided, ProvisionError, Row, Rows, Verdict};
pub use way::{Bounds, Endpoint, EndpointKind, Way};
pub use wishes::{KeyArn, KmsKeys, StreamMode, Tags, WishError};
