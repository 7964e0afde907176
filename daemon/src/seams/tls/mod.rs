//! Mutual TLS between sidecars, and from operators to a sidecar: one certificate per node, private authorities that are
//! trusted, and names that identify a caller.
//!
//! TLS 1.3 only. Both sides present a certificate (an operator may have a token instead), and each side
//! checks two things: the chain leads to an authority of its own trust file, and the certificate has a name that the
//! configuration allows. The three files are read again while the node runs, so certificates and authorities are
//! replaced without a restart.
//!
//! | file | content |
//! |---|---|
//! | `name` | names of peers: SPIFFE ids and host names; patterns of them |
//! | `pem` | reads PEM files and certificates |
//! | `material` | the content of the files, checked as a whole |
//! | `client` | the part of it that a client needs; also for operators |
//! | `credentials` | the current material, and how it is replaced |
//! | `connection` | both sides of a handshake |
//! | `expected` | the client's check of the server's certificate |
//! | `authority` | a small private authority, for those who have none |

pub mod authority;
mod client;
mod connection;
mod credentials;
mod expected;
mod material;
mod name;
mod pem;

pub use client::{ClientFiles, ClientMaterial};
pub use connection::{Caller, accept, connect};
pub use credentials::Credentials;
pub use material::{Callers, Material, TlsFiles};
pub use name::{NamePattern, PeerName, PeerNameError};
pub use pem::TlsError;
