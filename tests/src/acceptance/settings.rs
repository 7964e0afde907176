//! The settings of a run: variables of the environment. A run over real AWS needs a prefix, a bucket and a yes.

use std::time::Duration;

/// The names of the variables.
pub const PREFIX: &str = "LOCKSTEP_AWS_ACCEPTANCE_PREFIX";
/// The bucket for the suite of the blob store, or `none`.
pub const BUCKET: &str = "LOCKSTEP_AWS_ACCEPTANCE_BUCKET";
/// A part of the names of the cases to run. Without it, all run.
pub const ONLY: &str = "LOCKSTEP_AWS_ACCEPTANCE_ONLY";
/// The confirmation: `1`.
pub const YES: &str = "YES";
const DYNAMODB: &str = "AWS_ENDPOINT_URL_DYNAMODB";
const KINESIS: &str = "AWS_ENDPOINT_URL_KINESIS";

/// The settings of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The beginning of every name that the run creates, with its hyphen.
    pub prefix: String,
    /// The bucket of the blob suite. `None` runs it over an S3 in this process with emulators, and not at all with AWS.
    pub bucket: Option<String>,
    /// The endpoint of DynamoDB. `None` is that of AWS.
    pub dynamodb: Option<String>,
    /// The endpoint of Kinesis. `None` is that of AWS.
    pub kinesis: Option<String>,
    /// A part of the names of the cases to run.
    pub only: String,
    /// Whether the user has agreed to the cost.
    pub confirmed: bool,
}

impl Settings {
    /// Reads the settings by `var`, which gives the value of a variable.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong, and its remedy.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |name: &str| var(name).filter(|value| !value.is_empty());
        let prefix = given(PREFIX).ok_or_else(|| {
            format!(
                "{PREFIX} is not set: give the beginning of every name that is created, such as {PREFIX}=acme-test-"
            )
        })?;
        let is_name = prefix.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-');
        if !(is_name && prefix.ends_with('-') && (5..=30).contains(&prefix.len())) {
            return Err(format!(
                "{PREFIX}={prefix}: it has 5 to 30 small letters, digits and hyphens, and ends with a hyphen"
            ));
        }
        let settings = Self {
            prefix,
            bucket: given(BUCKET).filter(|bucket| bucket != "none"),
            dynamodb: given(DYNAMODB),
            kinesis: given(KINESIS),
            only: given(ONLY).unwrap_or_default(),
            confirmed: given(YES).is_some_and(|yes| yes == "1"),
        };
        if !settings.is_emulated() && given(BUCKET).is_none() {
            return Err(format!(
                "{BUCKET} is not set: give a bucket for the blob suite, which writes below {}blobs/ in it, or `none`",
                settings.prefix
            ));
        }
        Ok(settings)
    }

    /// Whether tables and streams are those of emulators on this machine, so that a run costs nothing.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        is_here(self.dynamodb.as_ref()) && is_here(self.kinesis.as_ref())
    }

    /// How long a stream may take to give a record that it took: with AWS longer than with an emulator.
    #[must_use]
    pub fn patience(&self) -> Duration {
        if is_here(self.kinesis.as_ref()) { Duration::from_millis(100) } else { Duration::from_secs(2) }
    }

    /// The pause between two looks at something that is being made or deleted.
    #[must_use]
    pub fn look(&self) -> Duration {
        if self.is_emulated() { Duration::from_millis(20) } else { Duration::from_secs(1) }
    }
}

/// Whether an endpoint is on this machine.
pub(super) fn is_here(endpoint: Option<&String>) -> bool {
    endpoint.is_some_and(|url| url.starts_with("http://127.0.0.1:") || url.starts_with("http://localhost:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_run_without_an_explicit_prefix_is_refused() {
        assert!(read(&[]).unwrap_err().contains(PREFIX));
        assert!(read(&[(PREFIX, "")]).unwrap_err().contains(PREFIX));
        for prefix in ["a-", "acme", "Acme-test-", "acme test-", &format!("{}-", "a".repeat(30))] {
            assert!(read(&[(PREFIX, prefix), (BUCKET, "none")]).unwrap_err().contains(prefix), "{prefix}");
        }
    }

    #[test]
    fn aws_needs_a_bucket_or_none_and_a_yes() {
        assert!(read(&[(PREFIX, "acme-test-")]).unwrap_err().contains(BUCKET));
        let settings = read(&[(PREFIX, "acme-test-"), (BUCKET, "none")]).unwrap();
        assert!(!settings.is_emulated() && !settings.confirmed);
        assert_eq!(settings.bucket, None);
        assert!(read(&[(PREFIX, "acme-test-"), (BUCKET, "b"), (YES, "1")]).unwrap().confirmed);
        assert!(!read(&[(PREFIX, "acme-test-"), (BUCKET, "b"), (YES, "yes")]).unwrap().confirmed);
    }

    #[test]
    fn only_two_endpoints_on_this_machine_are_emulators() {
        let of = |dynamodb, kinesis| {
            let pairs = [(PREFIX, "acme-test-"), (BUCKET, "none"), (DYNAMODB, dynamodb), (KINESIS, kinesis)];
            read(&pairs).unwrap().is_emulated()
        };
        assert!(of("http://127.0.0.1:1", "http://localhost:2"));
        assert!(!of("http://127.0.0.1:1", "https://kinesis.eu-west-1.amazonaws.com"));
        assert!(!of("http://127.0.0.1:1", ""));
    }
}
