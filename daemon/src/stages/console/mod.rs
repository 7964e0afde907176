//! The console: pages for operators in a browser, at the listener for operators, below `/console`.
//!
//! The pages are made here, from the answers that the command line gets too: the console reads and changes through the
//! ports of the stages, with the identity of the token's holder. It needs no script. One script, htmx, makes the live
//! parts of pages new every few seconds, and a small one marks those that are out of date. Nothing of the console is
//! loaded from another host.
//!
//! A visitor logs in with a token of `operators.token_file`, and gets a session in the memory of this node. Each
//! request looks into the file again, so a token that was removed ends its sessions. A handler that changes something
//! takes `submitted::Change`, so it cannot be reached by a viewer, from another site, or while `console.changes` is
//! not set. The handler of an approval takes `submitted::Approval`, which lets approvers in, too.
//!
//! | file | idea |
//! |---|---|
//! | `context` | the means of all pages, and the bound on requests in progress |
//! | `pages` | one file per page: its view, made by a pure function, and its handlers |
//! | `routes` | the table of paths |
//! | `login` | the pages that begin and end a session |
//! | `oidc`, `provider` | the same by OpenID Connect; the provider, and the roles of its groups |
//! | `sessions` | sessions in memory, with their ends |
//! | `visitor` | the person who is logged in, from the cookie of a request |
//! | `submitted` | the form of a request that changes something, after all checks |
//! | `csrf` | whether a request comes from a page of this console |
//! | `cookies` | cookies that are sent, and those that come back |
//! | `headers` | the headers of every answer |
//! | `denied` | the answers to requests that are not taken |
//! | `frame`, `render` | the parts that all pages share; a page as an answer |
//! | `outcome` | the page after a change: done, refused or unknown |
//! | `unknown` | the reason why a page does not know its answer |
//! | `trend` | the lag of each link over the last hour, and silent peers |
//! | `spark` | a small line chart as SVG, with its text |
//! | `words` | counts, lists and addresses as text |
//! | `assets` | style sheet, icon and scripts, compiled in |

mod assets;
mod context;
mod cookies;
mod csrf;
mod denied;
mod frame;
mod headers;
mod login;
mod oidc;
mod outcome;
mod pages;
mod provider;
mod render;
mod routes;
mod sessions;
mod spark;
mod submitted;
#[cfg(test)]
mod tests;
mod trend;
mod unknown;
mod visitor;
mod words;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;

use crate::base::clock::{Clock, Entropy};
use crate::stages::ports::{Console, Handshake, Inspection, Operators, TokenHolders};
use context::{Context, REQUESTS};
use provider::Oidc;
use sessions::Sessions;
use trend::Trend;

pub use provider::OidcLogin;

/// The settings of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Whether the holder of an operator's token may change something. If not, the console only shows.
    pub changes: bool,
    /// The provider of logins by OpenID Connect. Tokens open the console in any case.
    pub oidc: Option<OidcLogin>,
}

/// The stages that the console shows, and through which it makes changes.
pub struct ConsoleTools {
    /// All sites, failovers and drills.
    pub operators: Arc<dyn Operators>,
    /// The state of this node, and one ref at every site.
    pub inspection: Arc<dyn Inspection>,
    /// The strays of projects.
    pub handshake: Arc<dyn Handshake>,
    /// The clock that pages show.
    pub clock: Arc<dyn Clock>,
    /// The source of the ids of sessions.
    pub entropy: Arc<dyn Entropy>,
}

/// The console of one node.
pub struct ConsoleStage {
    settings: ConsoleSettings,
    tools: ConsoleTools,
    trend: Arc<Trend>,
}

impl ConsoleStage {
    /// A console that nobody has visited. [`ConsoleStage::watch`] fills its trend.
    #[must_use]
    pub fn new(settings: ConsoleSettings, tools: ConsoleTools) -> Arc<Self> {
        Arc::new(Self { settings, tools, trend: Arc::default() })
    }

    /// Looks at all sites and peers every 15 seconds, until the task is aborted. A look costs some dozen read units of
    /// the refdb, and one small call per peer.
    pub async fn watch(self: Arc<Self>) {
        let ConsoleTools { operators, inspection, clock, .. } = &self.tools;
        self.trend.watch(operators.as_ref(), inspection.as_ref(), clock.as_ref()).await;
    }
}

impl Console for ConsoleStage {
    fn router(&self, holders: Arc<dyn TokenHolders>) -> Router {
        let ConsoleTools { operators, inspection, handshake, clock, entropy } = &self.tools;
        routes::router(Context {
            operators: Arc::clone(operators),
            inspection: Arc::clone(inspection),
            handshake: Arc::clone(handshake),
            holders,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            sessions: Arc::new(Sessions::default()),
            trend: Arc::clone(&self.trend),
            room: Arc::new(Semaphore::new(REQUESTS)),
            oidc: self.settings.oidc.clone().map(|login| Arc::new(Oidc::new(login))),
            changes: self.settings.changes,
        })
    }
}
