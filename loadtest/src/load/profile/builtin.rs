//! The profiles that the program brings. `lockstep-loadtest profile NAME` prints one, to change it.

/// Each profile: its name, its text, and one line about it.
pub const BUILTIN: &[(&str, &str, &str)] = &[
    ("smoke", include_str!("../profiles/smoke.toml"), "everything once, in less than two minutes"),
    ("100k", include_str!("../profiles/100k.toml"), "the peak hour of 100,000 builds per day, for 10 minutes"),
    (
        "300k",
        include_str!("../profiles/300k.toml"),
        "ten times the peak hour of 300,000 builds per day, for 10 minutes",
    ),
    (
        "burst",
        include_str!("../profiles/burst.toml"),
        "100 times the peak hour of 300,000 builds per day, for 10 seconds",
    ),
    ("storm", include_str!("../profiles/storm.toml"), "30 times the usual load, by agents that never pause"),
    (
        "overload",
        include_str!("../profiles/overload.toml"),
        "the load of the knee, and three times as much for a minute",
    ),
    ("step", include_str!("../profiles/step.toml"), "more and more load, step by step"),
    ("faults", include_str!("../profiles/faults.toml"), "every kind of fault, one after the other, in 4 minutes"),
    ("soak", include_str!("../profiles/soak.toml"), "one hour of the peak hour of 300,000 builds per day"),
    ("day", include_str!("../profiles/day.toml"), "a working day of 100,000 builds in 24 minutes"),
    ("replay", include_str!("../profiles/replay.toml"), "a recorded trace: run replay FILE"),
];

/// The text of a profile.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(own, _, _)| *own == name).map(|(_, text, _)| *text)
}
