//! `lockstep await`: waits until a site shows a transaction.

use std::time::Duration;

use lockstep_proto::arrival::{Arrival, AwaitResponse};
use lockstep_proto::{SiteId, TxnId, limits};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep_until};

use super::target::Target;
use super::{CliError, json};
use crate::cli::out;
use crate::clients::api_client::{Call, Client, ClientError};
use crate::node::config::value;

/// How much longer than the sidecar waits its answer may take: it may wait for the refdb.
const SLACK: Duration = Duration::from_secs(15);

/// The longest time that the command waits.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The pause before a sidecar is asked again that could not answer.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep await muc-1-0.2.4.0.0461b471e825e3c2\n  \
                        lockstep await muc-1-0.2.4.0.0461b471e825e3c2 --site eu-aws --timeout 10m\n\n\
                        Exit code 0 if the site shows it, 3 if it was not committed and never will be, 1 if it is not \
                        shown yet (a retry helps) or nothing is known of it (a retry does not help).")]
pub(super) struct AwaitArgs {
    #[command(flatten)]
    target: Target,
    /// Transaction id, as a push tells it
    txn: TxnId,
    /// Site that must show it [default: the site of the sidecar]
    #[arg(long)]
    site: Option<SiteId>,
    /// How long to wait, a day at most: 500ms, 60s or 10m
    #[arg(long, default_value = "60s", value_parser = value::duration)]
    timeout: Duration,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: AwaitArgs) -> Result<(), CliError> {
    let answer = wait(&args.target.client()?, &args).await?;
    if args.json {
        out::put(&json(&answer)?)?;
    }
    conclude(&args, &answer)
}

/// Asks until there is an answer that stays, or the time is over.
async fn wait(client: &Client, args: &AwaitArgs) -> Result<AwaitResponse, CliError> {
    let end = Instant::now() + args.timeout.min(LONGEST);
    let mut reached = false;
    loop {
        let most = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(limits::POLL_WAIT_MS));
        let call = Call::get(path(args, most));
        let answer = client.resend::<AwaitResponse>(&call, Instant::now() + most + SLACK).await;
        // A sidecar that was reached once comes back from a restart.
        reached |= !matches!(answer, Err(ClientError::NotSent { .. }));
        match answer {
            Ok(answer) if answer.outcome == Arrival::NotYet && Instant::now() < end => {}
            Ok(answer) => return Ok(answer),
            Err(error) if reached && !is_final(&error) && Instant::now() < end => {
                sleep_until(end.min(Instant::now() + PAUSE)).await;
            }
            Err(ClientError::NoAnswer(why)) => {
                let what = format!("the sidecar gave no answer ({why}); nothing is known of {}", args.txn);
                return Err(CliError::Failed(format!("{what}; a retry may help")));
            }
            Err(error) => return Err(CliError::from(error).unrefused()),
        }
    }
}

/// Whether the same request has this error again later.
fn is_final(error: &ClientError) -> bool {
    matches!(error, ClientError::Answered(answer) if !answer.retry)
}

fn path(args: &AwaitArgs, most: Duration) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let site = args.site.as_ref().map(|site| format!("&site={}", encode(site.as_str()))).unwrap_or_default();
    format!("/v1/await?txn={}&wait_ms={}{site}", encode(&args.txn.to_string()), most.as_millis())
}

fn conclude(args: &AwaitArgs, answer: &AwaitResponse) -> Result<(), CliError> {
    let AwaitResponse { txn, site, .. } = answer;
    let why = answer.message.as_deref().unwrap_or("no reason was given");
    match answer.outcome {
        Arrival::Shown if args.json => Ok(()),
        Arrival::Shown => Ok(out::put(&format!("site {site} shows {txn}\n"))?),
        Arrival::Refused => Err(CliError::Refused(format!("{txn}: {why}"))),
        Arrival::NotYet => {
            Err(CliError::Failed(format!("site {site} does not show {txn} yet: {why}; a retry may help")))
        }
        Arrival::Unknown => Err(CliError::Failed(format!("{txn}: {why}; a retry does not help"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::super::{Cli, Command};
    use super::*;

    const TXN: &str = "muc-1-0.2.4.0.0461b471e825e3c2";

    fn parse(words: &[&str]) -> Option<AwaitArgs> {
        match Cli::try_parse_from([&["lockstep", "await"][..], words].concat()).ok()?.command {
            Command::Await(args) => Some(args),
            _ => None,
        }
    }

    #[test]
    fn the_query_is_percent_encoded_and_names_the_wait() {
        let args = parse(&[TXN, "--site", "eu-aws", "--timeout", "10m"]).unwrap();
        assert_eq!(args.timeout, Duration::from_secs(600));
        let path = path(&args, Duration::from_secs(30));
        let txn = "muc%2D1%2D0%2E2%2E4%2E0%2E0461b471e825e3c2";
        assert_eq!(path, format!("/v1/await?txn={txn}&wait_ms=30000&site=eu%2Daws"));
        assert!(parse(&["nonsense"]).is_none());
    }

    /// A sidecar that answers one request at a socket, and ends.
    async fn sidecar(socket: &Path, outcome: &str) {
        let listener = UnixListener::bind(socket).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        let body = format!("{{\"outcome\":\"{outcome}\",\"txn\":\"{TXN}\",\"site\":\"s\",\"retry\":true}}");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        std::fs::remove_file(socket).unwrap();
    }

    #[tokio::test]
    async fn a_restart_that_takes_longer_than_a_call_is_patient_does_not_end_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let (client, args) = (Client::new(&socket), parse(&[TXN, "--timeout", "10s"]).unwrap());
        let restart = async {
            sidecar(&socket, "not_yet").await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            sidecar(&socket, "shown").await;
        };
        let (shown, ()) = tokio::join!(wait(&client, &args), restart);
        assert_eq!(shown.unwrap().outcome, Arrival::Shown);
    }

    #[test]
    fn every_outcome_has_its_exit_code() {
        let args = parse(&[TXN, "--json"]).unwrap();
        let code = |outcome: Arrival| {
            let (txn, site, retry) = (TXN.parse().unwrap(), "s".parse().unwrap(), outcome == Arrival::NotYet);
            let answer = AwaitResponse { outcome, txn, site, retry, message: None };
            conclude(&args, &answer).map_or_else(|error| error.exit_code(), |()| 0)
        };
        let codes = [Arrival::Shown, Arrival::Refused, Arrival::NotYet, Arrival::Unknown].map(code);
        assert_eq!(codes, [0, 3, 1, 1]);
    }
}
