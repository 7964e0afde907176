//! The profile of a run: a TOML file, built in or the user's own, with single values replaced by `--set NAME=VALUE`.
//!
//! | file | idea |
//! |---|---|
//! | `fields` | the sections and their fields |
//! | `check` | the values that no run can have |
//! | `builtin` | the profiles that the program brings |

mod builtin;
mod check;
mod fields;

pub use builtin::{BUILTIN, builtin};
pub use fields::{Event, EventKind, Fault, FaultKind, Goals, Limits, Load, Prices, Profile, Run, Shape, Target};

use toml::{Table, Value};

/// A profile that cannot be used, with every reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ProfileError(pub Vec<String>);

impl ProfileError {
    fn one(why: impl Into<String>) -> Self {
        Self(vec![why.into()])
    }
}

/// Reads a profile, replaces single values (`section.field=value`), and checks it.
///
/// # Errors
/// The text is no TOML, a field is unknown, or a value is impossible.
pub fn parse(name: &str, text: &str, replaced: &[String]) -> Result<Profile, ProfileError> {
    let mut table: Table =
        toml::from_str(text).map_err(|error| ProfileError::one(format!("profile {name}: {error}")))?;
    for one in replaced {
        replace(&mut table, one).map_err(|why| ProfileError::one(format!("--set {one}: {why}")))?;
    }
    let read = Value::Table(table).try_into::<Profile>();
    let mut profile = read.map_err(|error| ProfileError::one(format!("profile {name}: {}", error.message())))?;
    name.clone_into(&mut profile.name);
    let faults = check::faults(&profile);
    if faults.is_empty() { Ok(profile) } else { Err(ProfileError(faults)) }
}

fn replace(table: &mut Table, one: &str) -> Result<(), String> {
    let form = "write SECTION.FIELD=VALUE, such as model.builds_per_day=300000";
    let (path, value) = one.split_once('=').ok_or(form)?;
    let (section, field) = path.trim().split_once('.').ok_or(form)?;
    // A word without quotes is a string: shells take the quotes away.
    let quoted = || toml::from_str::<Table>(&format!("value = {:?}", value.trim()));
    let read = toml::from_str::<Table>(&format!("value = {}", value.trim())).or_else(|_| quoted());
    let value = read.map_err(|error| error.to_string())?.remove("value").ok_or(form)?;
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    let section = section.as_table_mut().ok_or("this name is not a section of a profile")?;
    let value = match (section.get(field), &value) {
        (Some(Value::Float(_)), Value::Integer(whole)) => {
            #[expect(clippy::cast_precision_loss, reason = "a value of a profile, typed by a person")]
            let whole = *whole as f64;
            Value::Float(whole)
        }
        _ => value,
    };
    section.insert(field.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_whole() {
        for (name, text, _) in BUILTIN {
            assert_eq!(parse(name, text, &[]).map(|profile| profile.name), Ok((*name).to_owned()));
        }
        assert!(builtin("smoke").is_some() && builtin("none").is_none());
    }

    #[test]
    fn single_values_are_replaced() {
        let set = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            parse("smoke", builtin("smoke").unwrap(), &values)
        };
        let profile = set(&["model.builds_per_day=300000", "run.target=git", "run.seed=7"]).unwrap();
        assert!((profile.model.builds_per_day - 300_000.0).abs() < f64::EPSILON);
        assert_eq!((profile.run.target, profile.run.seed), (Target::Git, 7));
        let why = |values: &[&str]| set(values).unwrap_err().to_string();
        assert!(why(&["model.bilds=3"]).contains("unknown field `bilds`"), "{}", why(&["model.bilds=3"]));
        assert!(why(&["seed=3"]).contains("write SECTION.FIELD=VALUE"));
        assert!(why(&["run.seconds=-3"]).contains("run.seconds = -3"), "{}", why(&["run.seconds=-3"]));
        assert!(why(&["run.target=svn"]).contains("unknown variant `svn`"));
    }
}
