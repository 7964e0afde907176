//! The emulators of `[embedded]` in a process of their own, so that several sidecars on one machine can share them.
//!
//! `shared-emulators FOLDER` prints the two endpoints as shell assignments. It runs until it is terminated.

use std::error::Error;
use std::path::PathBuf;

use lockstep::node::assembly::{Embedded, stop_signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: shared-emulators FOLDER")?;
    let emulators = Embedded::start(&folder).await?;
    println!("DYNAMODB_ENDPOINT={}", emulators.dynamo_endpoint());
    println!("KINESIS_ENDPOINT={}", emulators.kinesis_endpoint());
    stop_signal().await;
    Ok(())
}
