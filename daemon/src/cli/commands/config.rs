//! `lockstep config`: checks a configuration, or prints an example or the reference.

use std::path::PathBuf;

use super::CliError;
use crate::cli::out;
use crate::node::config;

/// The arguments of each subcommand that reads the configuration.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file; environment variables `LOCKSTEP_<SECTION>__<FIELD>` override its values
    #[arg(long, env = "LOCKSTEP_CONFIG", default_value = "lockstep.toml")]
    pub config: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration and report all wrong values at once
    #[command(after_help = "Example:\n  lockstep config check --config /etc/lockstep/lockstep.toml")]
    Check(ConfigArgs),
    /// Print an example configuration with comments
    #[command(after_help = "Example:\n  lockstep config example > lockstep.toml")]
    Example,
    /// Print the reference of all settings in Markdown (docs/configuration.md)
    #[command(after_help = "Example:\n  lockstep config reference > docs/configuration.md")]
    Reference,
}

pub(super) fn run(command: ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Check(args) => {
            let settings = config::load(&args.config).map_err(CliError::failed)?;
            println!("{}: valid (site {}, node {})", args.config.display(), settings.site, settings.node);
            for base in settings.base_paths.sections() {
                println!("repositories of {} are below {}", base.projects, base.path.unwrap_or_default());
            }
        }
        ConfigCommand::Example => out::put(config::EXAMPLE)?,
        ConfigCommand::Reference => out::put(&config::reference::reference())?,
    }
    Ok(())
}
