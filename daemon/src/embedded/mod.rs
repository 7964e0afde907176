//! The newcomer's backend: emulators of the AWS services in this process, reached through the AWS adapters.

pub mod kinesis;
