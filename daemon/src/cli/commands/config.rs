//! `lockstep config`: checks a configuration, or prints an example of one.

use std::path::PathBuf;

use super::CliError;
use crate::cli::out;
use crate::node::config;

/// Where the configuration is.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file; variables `LOCKSTEP_<SECTION>__<FIELD>` stand above it
    #[arg(long, env = "LOCKSTEP_CONFIG", default_value = "lockstep.toml")]
    pub config: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Report every wrong value of a configuration at once
    #[command(after_help = "Example:\n  lockstep config check --config /etc/lockstep/lockstep.toml")]
    Check(ConfigArgs),
    /// Print a commented example
    #[command(after_help = "Example:\n  lockstep config example > lockstep.toml")]
    Example,
}

pub(super) fn run(command: ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Check(args) => {
            let settings = config::load(&args.config).map_err(CliError::failed)?;
            println!("{}: good (site {}, node {})", args.config.display(), settings.site, settings.node);
            for base in settings.roots.base_paths() {
                println!("{} lies below {}", base.projects, base.path.unwrap_or_default());
            }
        }
        ConfigCommand::Example => out::put(config::EXAMPLE)?,
    }
    Ok(())
}
