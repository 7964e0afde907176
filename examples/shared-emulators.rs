//! The emulators of `[embedded]` in a process of their own, so that several sidecars can share them.
//!
//! - `shared-emulators FOLDER` prints the two endpoints as shell assignments.
//! - `shared-emulators FOLDER IP` also takes connections at this address of the machine: port 8000 is DynamoDB, port
//!   4567 is Kinesis. Pods of a Kubernetes cluster reach them so.
//! - `shared-emulators --front HOST IP` runs no emulators, and passes connections on to those of another machine.
//!   Without it, nobody reaches them: an outage in which they forget nothing.
//!
//! It runs until it is terminated.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use lockstep::node::assembly::{Embedded, stop_signal};
use tokio::net::{TcpListener, TcpStream};

/// The ports of DynamoDB and Kinesis at the address that the command names.
const PORTS: [u16; 2] = [8000, 4567];
const USAGE: &str = "usage: shared-emulators FOLDER [IP] | shared-emulators --front HOST IP";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--front", host, ip] => {
            forward(ip.parse()?, PORTS.map(|port| format!("{host}:{port}"))).await?;
            stop_signal().await;
        }
        [folder, ref listen @ ..] if listen.len() < 2 => {
            let emulators = Embedded::start(Path::new(folder)).await?;
            let endpoints = [emulators.dynamo_endpoint(), emulators.kinesis_endpoint()];
            println!("DYNAMODB_ENDPOINT={}", endpoints[0]);
            println!("KINESIS_ENDPOINT={}", endpoints[1]);
            if let Some(ip) = listen.first() {
                forward(ip.parse()?, endpoints.map(|url| url.trim_start_matches("http://").to_owned())).await?;
            }
            stop_signal().await;
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

/// Takes connections at the two ports of an address, and passes them on.
async fn forward(ip: IpAddr, to: [String; 2]) -> io::Result<()> {
    for (port, to) in PORTS.into_iter().zip(to) {
        let listener = TcpListener::bind((ip, port)).await?;
        tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let to = to.clone();
                tokio::spawn(async move {
                    // The caller sees a closed connection when there is no emulator, or when it ends.
                    if let Ok(mut emulator) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut caller, &mut emulator).await;
                    }
                });
            }
        });
    }
    Ok(())
}
