//! One file per page. Each has the view of the page, made from the answers of the stages by a pure function, and the
//! handlers. The template of the page has the same name, in `daemon/templates/console`.
//!
//! The first line of each page answers its question in words. A page whose stage does not answer says so, and since
//! when.
//!
//! | file | question |
//! |---|---|
//! | `overview` | is it safe to fail over now, and what would be lost? |
//! | `topology` | which node reads which stream, and how far is it behind? |
//! | `projects` | which projects are not in order at this node? |
//! | `time_line` | how far has the last change of a ref come? |
//! | `failover` | which failover goes on, and where does it stand? |
//! | `plan` | what would a failover do, and may it begin? |
//! | `drills` | would a failover go well, by the drills so far? |
//! | `quarantine` | which transactions has this node set aside? |
//! | `strays` | which values gave way to committed ones? |
//! | `audit` | who has changed what? |

pub(super) mod audit;
pub(super) mod drills;
pub(super) mod failover;
pub(super) mod overview;
pub(super) mod plan;
pub(super) mod projects;
pub(super) mod quarantine;
pub(super) mod strays;
pub(super) mod time_line;
pub(super) mod topology;
