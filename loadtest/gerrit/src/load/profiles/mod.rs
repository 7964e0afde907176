//! The profiles that the program brings. `lockstep-loadtest-gerrit profile NAME` prints one, to change it.

use std::path::Path;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::profile::{Profile, ProfileError, Shape, Target, parse};

/// Each profile: its name, its text, and one line about it.
pub const BUILTIN: [(&str, &str, &str); 2] = [
    ("smoke", include_str!("smoke.toml"), "every class once, for half a minute"),
    ("100k", include_str!("100k.toml"), "the peak hour of 100,000 builds per day, for 10 minutes"),
];

/// The profile of a name or of a file, with single values replaced.
///
/// # Errors
/// There is no such profile, a value is impossible, or the profile needs other sites than real Gerrits.
pub fn read(name: &str, set: &[String]) -> Fallible<Profile> {
    let profile = match BUILTIN.iter().find(|(own, ..)| *own == name) {
        Some((_, text, _)) => parse(name, text, set)?,
        None => {
            let path = Path::new(name);
            let text = std::fs::read_to_string(path).map_err(|error| {
                let known = BUILTIN.map(|(name, ..)| name).join(", ");
                ProfileError(vec![format!("{name}: {error}; it is neither a file nor one of {known}")])
            })?;
            let stem = path.file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
            parse(&stem, &text, set)?
        }
    };
    let mut faults = Vec::new();
    if profile.run.target != Target::Gerrit {
        faults.push("run.target: it must be \"gerrit\" here; `make load` runs the other targets".to_owned());
    }
    if profile.load.shape == Shape::Replay {
        faults.push("load.shape = \"replay\": a trace has no reviews; `make load` replays it".to_owned());
    }
    if !profile.faults.is_empty() {
        faults.push("faults: none are injected into Gerrits; `make load` does it with sidecars".to_owned());
    }
    if faults.is_empty() { Ok(profile) } else { Err(ProfileError(faults).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_whole_and_no_other_target_is_taken() {
        for (name, ..) in BUILTIN {
            assert_eq!(read(name, &[]).map(|profile| profile.name).ok().as_deref(), Some(name));
        }
        let why = |set: &str| read("smoke", &[set.to_owned()]).map(|_| ()).unwrap_err().to_string();
        assert!(why("run.target=api").contains("it must be \"gerrit\" here"), "{}", why("run.target=api"));
        assert!(why("load.shape=replay").contains("a trace has no reviews"));
        assert!(why("run.seconds=0").contains("run.seconds = 0"));
        let why = read("smoky", &[]).map(|_| ()).unwrap_err().to_string();
        assert!(why.contains("it is neither a file nor one of smoke, 100k"), "{why}");
    }
}
