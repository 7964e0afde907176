//! One JSON line a figure: what was measured, on what, how often, and how to measure it again.

use serde_json::{Value, json};

use crate::host::Host;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Exactly this.
    Is(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::Is(goal) => (value - goal).abs() < f64::EPSILON,
            Self::AtMost(goal) => value <= goal,
            Self::AtLeast(goal) => value >= goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Is(goal) => format!("= {goal}"),
            Self::AtMost(goal) => format!("<= {goal}"),
            Self::AtLeast(goal) => format!(">= {goal}"),
        }
    }
}

/// One measured number.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Letter and name: `b.commit_p50`.
    pub name: &'static str,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be.
    pub goal: Option<Goal>,
    /// How many measurements are behind it.
    pub samples: u64,
    /// What else was seen.
    pub detail: Value,
}

/// Prints figures.
pub struct Report {
    target: &'static str,
    host: Host,
}

impl Report {
    /// Looks at the machine once. `target` is the one of the Makefile that measures.
    #[must_use]
    pub fn new(target: &'static str) -> Self {
        Self { target, host: Host::look() }
    }

    /// Prints a figure.
    pub fn figure(&self, figure: &Figure) {
        let letter = figure.name.chars().next().unwrap_or('?');
        let line = json!({
            "figure": figure.name,
            "value": round(figure.value),
            "unit": figure.unit,
            "goal": figure.goal.map(Goal::text),
            "met": figure.goal.map(|goal| goal.is_met(figure.value)),
            "samples": figure.samples,
            "detail": figure.detail,
            "command": format!("make {} ONLY={letter}", self.target),
            "host": self.host.json(),
        });
        println!("{line}");
    }

    /// Prints that a figure could not be measured.
    pub fn failed(&self, letter: char, why: &str) {
        println!("{}", json!({"figure": letter, "failed": why, "host": self.host.json()}));
    }
}

/// Three digits behind the point are more than any of these numbers is worth.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
