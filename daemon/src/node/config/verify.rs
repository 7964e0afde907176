//! Reads the section `[verify]`: the verification in the background.

use std::time::Duration;

use super::fields::{flag, time};
use super::raw;
use super::report::Problems;
use crate::stages::verify::BackgroundSettings;

/// The shortest time of a pass. A slice is followed by a pause of a second at most, if there is nothing to do.
const SHORTEST: Duration = Duration::from_secs(1);

pub(super) fn read(raw: &raw::Verify, to: &mut Problems) -> BackgroundSettings {
    let usual = BackgroundSettings::default();
    BackgroundSettings {
        refs_within: to.or("verify.refs_within", &raw.refs_within, usual.refs_within, within),
        objects_within: to.or("verify.objects_within", &raw.objects_within, usual.objects_within, within),
        share_of_core: to.or("verify.share_of_core", &raw.share_of_core, usual.share_of_core, share),
        fsck: to.or("verify.fsck", &raw.fsck, usual.fsck, flag),
    }
}

fn within(text: &str) -> Result<Duration, String> {
    let within = time(text)?;
    if within >= SHORTEST { Ok(within) } else { Err(format!("write at least {SHORTEST:?}")) }
}

/// The share of a core, in thousandths.
fn share(text: &str) -> Result<u32, String> {
    let remedy = || "write the share of one core, from 0.001 to 1, such as 0.05".to_owned();
    let share: f64 = text.parse().map_err(|_| remedy())?;
    let thousandths = (1..=1_000).find(|thousandths| (share * 1_000.0 - f64::from(*thousandths)).abs() < 0.5);
    thousandths.ok_or_else(remedy)
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};
    use super::*;

    fn with(verify: &str) -> Result<BackgroundSettings, String> {
        let text = EXAMPLE.replacen("[verify]", &format!("[verify]\n{verify}\n#"), 1);
        parse(&text).map(|settings| settings.verify).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_is_verified_within_a_week_unless_the_section_says_otherwise() {
        assert_eq!(with(""), Ok(BackgroundSettings::default()));
        let read = with("refs_within = \"1h\"\nobjects_within = \"2d\"\nshare_of_core = 0.2\nfsck = true").unwrap();
        let (refs_within, objects_within) = (Duration::from_secs(3_600), Duration::from_secs(2 * 86_400));
        assert_eq!(read, BackgroundSettings { refs_within, objects_within, share_of_core: 200, fsck: true });
        assert_eq!(
            ["0.001", "1", "1.0"].map(|share| with(&format!("share_of_core = {share}")).unwrap().share_of_core),
            [1, 1_000, 1_000]
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_field() {
        for (verify, part) in [
            ("refs_within = \"10ms\"", "verify.refs_within = \"10ms\": write at least 1s"),
            ("objects_within = \"never\"", "verify.objects_within"),
            ("share_of_core = 0", "verify.share_of_core = 0: write the share of one core"),
            ("share_of_core = 5", "from 0.001 to 1"),
            ("share_of_core = \"nan\"", "from 0.001 to 1"),
            ("fsck = 1", "verify.fsck"),
        ] {
            let error = with(verify).unwrap_err();
            assert!(error.contains(part), "{verify}: {error}");
        }
    }
}
