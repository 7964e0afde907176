//! Access to the TCP listener: a request needs a token of the token file.
//!
//! The file has one token per line, and is read on each request. To rotate a token, add the new one, move the callers,
//! remove the old one. This needs no restart and fails no call. While the file cannot be read, every request is denied.

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::error::Failure;
use crate::base::clock::Entropy;

/// The file with the bearer tokens.
#[derive(Clone, Debug)]
pub struct TokenFile(Arc<Path>);

impl TokenFile {
    /// Uses this file. Creates it with one random token and mode 0600 if it does not exist.
    ///
    /// # Errors
    /// The file cannot be created, or its existence cannot be checked.
    pub fn ensure(path: PathBuf, entropy: &dyn Entropy) -> io::Result<Self> {
        if !path.try_exists()? {
            make(&path, entropy)?;
        }
        Ok(Self(path.into()))
    }

    async fn admits(&self, presented: &str) -> Result<bool, Failure> {
        let text = tokio::fs::read_to_string(&self.0).await.map_err(|error| {
            Failure::unavailable(format!("api.token_file {} cannot be read ({error}); restore it", self.0.display()))
        })?;
        let tokens = text.lines().map(str::trim).filter(|token| !token.is_empty());
        // Every token is compared in full, so that the time of an answer reveals nothing about any of them.
        let equal = tokens
            .map(|token| token.as_bytes().ct_eq(presented.as_bytes()))
            .fold(0u8, |any, one| any | one.unwrap_u8());
        Ok(equal == 1)
    }
}

/// Creates the file atomically. An empty file, left by a crash, would deny every request for ever.
fn make(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let token: String = (0..4).map(|_| format!("{:016x}", entropy.next())).collect();
    writeln!(file, "{token}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

/// Passes a request on if it carries a token of the file, and otherwise answers 401.
pub(super) async fn require_token(
    State(file): State<TokenFile>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let presented = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| {
            Failure::unauthorized(
                "header authorization is missing or malformed; send `Bearer <token>` with a token of api.token_file",
            )
        })?;
    if !file.admits(presented.trim()).await? {
        return Err(Failure::unauthorized(
            "the token in header authorization is not in api.token_file; read the file again, it may have been rotated",
        ));
    }
    Ok(next.run(request).await)
}
