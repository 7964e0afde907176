//! One JSON line per figure: the value, the machine, the number of samples, and the command that measures it again.

use serde_json::{Value, json};

use crate::host::Host;

/// The goal of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// This value, to within the rounding of floating point.
    Is(f64),
    /// At most this value.
    AtMost(f64),
    /// At least this value.
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

/// A measured value, as one line of output shows it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The letter and the name, such as `b.commit_p50`.
    pub name: &'static str,
    /// The value, not rounded yet.
    pub value: f64,
    /// The unit of the value.
    pub unit: &'static str,
    /// The goal, if the figure has one.
    pub goal: Option<Goal>,
    /// The number of measurements behind the value.
    pub samples: u64,
    /// Observations that explain the value, as a JSON object.
    pub detail: Value,
}

/// Prints figures to standard output, with the machine and the command.
pub struct Report {
    target: &'static str,
    host: Host,
}

impl Report {
    /// Reads the machine's properties once. `target` is the target of the Makefile that measures.
    #[must_use]
    pub fn new(target: &'static str) -> Self {
        Self { target, host: Host::look() }
    }

    /// Prints a figure as one line of JSON.
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

    /// Prints that a figure could not be measured, and why.
    pub fn failed(&self, letter: char, why: &str) {
        println!("{}", json!({"figure": letter, "failed": why, "host": self.host.json()}));
    }
}

/// Rounds to three decimal places, which is more than the precision of any of these values.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
