//! `lockstep peers`: the peers of this node, and whether each answers.

use lockstep_proto::peer::PeerStatus;

use super::table::Table;
use super::target::Target;
use super::{CliError, json};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  lockstep peers\n\nExit code 2 if a peer does not answer.")]
pub(super) struct PeersArgs {
    #[command(flatten)]
    target: Target,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: PeersArgs) -> Result<(), CliError> {
    let peers: Vec<PeerStatus> = args.target.get("/v1/peers").await?;
    out::put(&if args.json { json(&peers)? } else { render(&peers) })?;
    if peers.iter().all(|peer| peer.answer.is_some()) { Ok(()) } else { Err(CliError::Degraded) }
}

fn render(peers: &[PeerStatus]) -> String {
    if peers.is_empty() {
        return "this node has no peers: the configuration has no [peers]\n".to_owned();
    }
    let mut table = Table::new(&["peer", "way", "address", "answer"]);
    for peer in peers {
        let answer = match (&peer.answer, &peer.problem) {
            (Some(node), _) => {
                let ready = if node.ready { "ready" } else { "not ready" };
                let (site, role, version) = (&node.site, &node.role, &node.version);
                format!("{} of {site} ({role}), {ready}, version {version}, {} ms", node.node, peer.took_ms)
            }
            (None, problem) => problem.clone().unwrap_or_default(),
        };
        table.row(vec![peer.name.clone(), peer.way.clone(), peer.address.clone(), answer]);
    }
    format!("peers\n{}", table.render())
}
