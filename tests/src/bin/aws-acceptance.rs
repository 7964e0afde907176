//! `make aws-acceptance` and `make contract-emulators`: runs the contract suites over tables, streams and a bucket
//! outside of this process. Exit codes: 0 all hold, 1 a case failed or something is left, 64 refused.

use std::process::ExitCode;
use std::sync::Arc;

use lockstep_tests::acceptance::cases::{Grounds, run};
use lockstep_tests::acceptance::estimate::estimate;
use lockstep_tests::acceptance::settings::{Settings, YES};
use tokio::task::LocalSet;

const REFUSED: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::read(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(why) => return refused(&why),
    };
    if !settings.is_emulated() {
        match estimate() {
            Ok((_, text)) => println!("{text}"),
            Err(error) => return refused(&error.to_string()),
        }
        if !settings.confirmed {
            return refused(&format!("this creates and deletes resources at AWS; agree with {YES}=1"));
        }
    }
    let grounds = match Grounds::of(&settings).await {
        Ok(grounds) => Arc::new(grounds),
        Err(why) => return refused(&why),
    };
    if grounds.blobs.is_none() {
        println!("NOT RUN: the suite of the blob store, because there is no bucket");
    }
    let cases = grounds.cases(&settings.only);
    let count = cases.len();
    let failed = LocalSet::new()
        .run_until(async {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => vec!["interrupted".to_owned()],
                failed = run(&grounds, cases) => failed,
            }
        })
        .await;
    println!("deleting everything below {} ...", settings.prefix);
    let left = grounds.delete().await;
    for one in failed.iter().chain(&left) {
        eprintln!("FAILED: {one}");
    }
    if count == 0 || !failed.is_empty() || !left.is_empty() {
        eprintln!("{} of {count} cases failed", failed.len());
        return ExitCode::FAILURE;
    }
    println!("OK: {count} cases hold, and nothing is left");
    ExitCode::SUCCESS
}

fn refused(why: &str) -> ExitCode {
    eprintln!("refused: {why}");
    ExitCode::from(REFUSED)
}
