//! `lockstep inject serve`: the webhook that adds the sidecar to pods of an operator.
//!
//! It is a process of its own, without a node: it reads three files of TLS and the parts that a pod gets, and no
//! configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::CliError;
use crate::cli::out;
use crate::node::assembly::stop_signal;
use crate::seams::tls::{Credentials, TlsFiles};
use crate::stages::api::injection::{BoundWebhook, Injection};

/// How long the webhook goes on after a signal: an API server learns late that this pod is about to end.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Subcommand)]
pub(super) enum InjectCommand {
    /// Answer the API server of Kubernetes as a mutating webhook, by TLS, until SIGTERM or Ctrl-C
    #[command(after_help = "Example:\n  lockstep inject serve --injection injection.json --tls inject-tls\n\nPOST \
                            /v1/pods takes an AdmissionReview (admission.k8s.io/v1), GET /livez answers while it \
                            serves. A new certificate is taken without a restart; a new injection.json is not.")]
    Serve(ServeArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// File with the parts that a pod gets, written by deploy/spec/generate
    #[arg(long, value_name = "FILE")]
    injection: PathBuf,
    /// Folder with tls.crt, tls.key and ca.crt, as cert-manager and `lockstep certs issue` write them
    #[arg(long, value_name = "FOLDER")]
    tls: PathBuf,
}

pub(super) async fn run(command: InjectCommand) -> Result<(), CliError> {
    let InjectCommand::Serve(args) = command;
    serve(args).await
}

async fn serve(args: ServeArgs) -> Result<(), CliError> {
    let lines = tracing_subscriber::fmt().with_max_level(Level::INFO).with_writer(std::io::stderr).with_ansi(false);
    lines.json().flatten_event(true).try_init().map_err(CliError::failed)?;
    let injection = Injection::read(&args.injection)
        .map_err(|error| CliError::Usage(format!("--injection {error}; a retry does not help")))?;
    let [certificate, key, trust] = ["tls.crt", "tls.key", "ca.crt"].map(|name| args.tls.join(name));
    let credentials = Credentials::load(TlsFiles { certificate, key, trust })
        .map_err(|error| CliError::Usage(format!("--tls: {}: {}", error.path.display(), error.why)))?;
    let failed = |error| CliError::Failed(format!("--listen {}: {error}; free it, or name another one", args.listen));
    let bound = BoundWebhook::bind(args.listen, injection, Arc::new(credentials)).await.map_err(failed)?;
    let address = bound.address().map_err(failed)?;
    let stop = stop_signal();
    out::put(&format!("listens on {address}\n"))?;
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(shutdown.clone()));
    stop.await;
    tokio::time::sleep(LINGER).await;
    shutdown.cancel();
    serving.await.map_err(CliError::failed)
}
