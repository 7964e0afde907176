//! The text of an error of the SDK.

use std::error::Error;

/// The text of an error and its causes. It leaves out the SDK's inner structure, because users read it in the output of
/// `git push`.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors repeat their cause in their own text.
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts.join(": ")
}
