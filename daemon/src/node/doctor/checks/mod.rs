//! The checks of the doctor, one per file. Each has the same shape: a constant with its name, what it looks at, and a
//! pure function of the facts.
//!
//! | file | looks at |
//! |---|---|
//! | `dns` | names of hosts in the configuration |
//! | `tls` | the node's certificate and the authorities that it trusts |
//! | `permissions` | calls of the node at the refdb, the event log and the blob store |
//! | `clock` | this machine's clock |
//! | `disk` | the space of the node's folders |
//! | `process` | user and mode bits of the sidecar |
//! | `git` | the git program |
//! | `peers` | the peers of the configuration |
//! | `drift` | settings that all nodes should share |
//! | `retention` | how long streams keep records |
//! | `versions` | the programs of all nodes |
//! | `gerrit` | the Gerrit of this node |

pub(super) mod clock;
pub(super) mod disk;
pub(super) mod dns;
pub(super) mod drift;
pub(super) mod gerrit;
pub(super) mod git;
pub(super) mod peers;
pub(super) mod permissions;
pub(super) mod process;
pub(super) mod retention;
pub(super) mod tls;
pub(super) mod versions;
