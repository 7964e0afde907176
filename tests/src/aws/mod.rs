//! The servers that tests put between a client and the emulators of AWS.
//!
//! | file | idea |
//! |---|---|
//! | `record` | the calls that were made, and those that are denied or answered by a test |
//! | `forwarder` | stands in front of an emulator and records every call |
//! | `faults` | a DynamoDB with planned faults, and with tables in several Regions |
//! | `kinesis` | a Kinesis in this process, with the event log over it |
//! | `cuts` | cuts, refuses and denies subscriptions of Kinesis |
//! | `s3` | a small S3 in memory that records every call |

pub mod cuts;
pub mod faults;
pub mod forwarder;
pub mod kinesis;
pub mod record;
pub mod s3;
