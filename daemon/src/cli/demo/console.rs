//! The console of each site in the demo: a certificate of an authority that the demo makes for itself, and one token.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::DemoError;
use crate::base::clock::{Clock, SeededEntropy, SystemClock};
use crate::seams::tls::PeerName;
use crate::seams::tls::authority::{self, Validity};
use crate::stages::api::operator_tokens::{Holder, new_token};
use crate::stages::ports::OperatorRole;

/// How long the certificate is valid. A demo in a folder of its own gets a new one at each start.
const VALID: Duration = Duration::from_secs(30 * 86_400);

/// The way into the consoles of all sites.
pub(super) struct ConsoleAccess {
    /// The token of an operator.
    pub(super) token: String,
    /// The sections of a site's configuration that serve the console.
    pub(super) settings: String,
}

impl ConsoleAccess {
    /// Makes certificate and token, in a folder below the one of the demo.
    pub(super) fn prepare(folder: &Path) -> Result<Self, DemoError> {
        let home = folder.join("console");
        std::fs::create_dir_all(&home).map_err(DemoError::of)?;
        let validity = Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime: VALID };
        let authority = authority::init("Lockstep demo", validity).map_err(DemoError::of)?;
        let names = ["127.0.0.1".parse::<PeerName>().map_err(DemoError::of)?];
        let own = authority::issue(&authority, &names, validity).map_err(DemoError::of)?;
        let holder: Holder = "demo".parse().map_err(DemoError::of)?;
        let made = new_token(&holder, OperatorRole::Operator, &SeededEntropy::from_machine());
        for (name, text) in [
            ("tls.crt", own.certificate.as_str()),
            ("tls.key", own.key.as_str()),
            ("ca.crt", authority.certificate.as_str()),
            ("operators", made.line.as_str()),
        ] {
            write(&home.join(name), text)?;
        }
        let settings = format!(
            r#"
[tls]
certificate_file = "{home}/tls.crt"
key_file = "{home}/tls.key"
trust_file = "{home}/ca.crt"
[operators]
listen = "127.0.0.1:0"
token_file = "{home}/operators"
[console]
enabled = true
changes = true
"#,
            home = home.display(),
        );
        Ok(Self { token: made.token, settings })
    }
}

/// Writes a file that only the user of the demo can read.
fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    let mut file: File = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| DemoError(format!("{}: {error}", path.display())))?;
    writeln!(file, "{text}").map_err(|error| DemoError(format!("{}: {error}", path.display())))
}
