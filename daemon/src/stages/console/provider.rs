//! The provider of logins by OpenID Connect, and the roles of its groups.

use crate::seams::oidc::{OidcSettings, Provider};
use crate::stages::ports::OperatorRole;

/// The provider, and the roles of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcLogin {
    /// The provider, and this console as its client.
    pub provider: OidcSettings,
    /// The groups whose members are operators.
    pub operators: Vec<String>,
    /// The groups whose members are approvers.
    pub approvers: Vec<String>,
    /// The groups whose members are viewers.
    pub viewers: Vec<String>,
}

/// The provider of a console.
pub(super) struct Oidc {
    login: OidcLogin,
    pub(super) provider: Provider,
}

impl Oidc {
    /// The provider of these settings. Nothing is asked before the first login.
    pub(super) fn new(login: OidcLogin) -> Self {
        let provider = Provider::new(login.provider.clone());
        Self { login, provider }
    }

    /// The highest role of some groups.
    pub(super) fn role(&self, groups: &[String]) -> Option<OperatorRole> {
        let lists = [
            (OperatorRole::Operator, &self.login.operators),
            (OperatorRole::Approver, &self.login.approvers),
            (OperatorRole::Viewer, &self.login.viewers),
        ];
        let is_in = |listed: &[String]| groups.iter().any(|group| listed.contains(group));
        lists.into_iter().find(|(_, listed)| is_in(listed)).map(|(role, _)| role)
    }
}
