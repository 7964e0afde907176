//! Logins of users at a Gerrit.

/// A login for the REST API: user name and HTTP password.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a>(pub &'a str, pub &'a str);

/// The administrator, who created the site.
pub const ADMIN: Login<'_> = Login("admin", "secret");
