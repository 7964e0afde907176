//! The needs of a site at AWS: the calls that the code makes, the policy that allows them, and the properties that
//! tables, streams and the bucket should have.
//!
//! Nothing in this room calls AWS. The adapters do: `refdb/dynamo/provision`, `eventlog/kinesis/provision` and
//! `blob/bucket` implement [`Provided`] for the resources that they know.
//!
//! | file | content |
//! |---|---|
//! | `calls` | the table of all calls: call, IAM actions, resource, caller |
//! | `policy` | the IAM policy of a caller, made from that table |
//! | `causes` | the text of an error of the SDK |
//! | `denied` | the text for operators when AWS denies a call |
//! | `provided` | a resource that can be compared with the needs of a site, and mended |
//! | `mend` | looks at all resources of a site, and mends them |
//! | `wishes` | encryption keys, tags and modes that an operator asks for |

pub mod calls;
mod causes;
pub mod denied;
pub mod mend;
pub mod policy;
mod provided;
mod wishes;

pub use causes::causes;
pub use provided::{Property, Provided, ProvisionError, Row, Rows, Verdict};
pub use wishes::{KeyArn, KmsKeys, StreamMode, Tags, WishError};
