//! A small line chart as SVG. Its text says the same, for readers who do not see it.

/// The width and height of the chart, in units of its view box.
const SIZE: (f64, f64) = (240.0, 36.0);
/// The room above and below the line, so that its stroke is not cut.
const MARGIN: f64 = 2.0;

/// A line chart. A gap in the values is a gap in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spark {
    /// The points of each unbroken part, as SVG writes them.
    pub(super) lines: Vec<String>,
    /// The text of the chart.
    pub(super) label: String,
}

/// Draws values from left to right. The top is the highest one, and at least `least`.
pub(super) fn spark(values: &[Option<f64>], least: f64, label: String) -> Spark {
    let top = values.iter().flatten().fold(least, |top, value| top.max(*value));
    let step = SIZE.0 / (values.len().saturating_sub(1).max(1) as f64);
    let point = |(at, value): (usize, f64)| {
        let y = SIZE.1 - MARGIN - (SIZE.1 - 2.0 * MARGIN) * (value / top).clamp(0.0, 1.0);
        format!("{:.1},{y:.1}", step * at as f64)
    };
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    for (at, value) in values.iter().enumerate().map(|(at, value)| (at, *value)).chain([(values.len(), None)]) {
        match value {
            Some(value) => line.push(point((at, value))),
            None => lines.extend(joined(std::mem::take(&mut line))),
        }
    }
    Spark { lines, label }
}

/// The points of one part. A single point is drawn twice, so that its round end shows.
fn joined(points: Vec<String>) -> Option<String> {
    match &points[..] {
        [] => None,
        [one] => Some(format!("{one} {one}")),
        _ => Some(points.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_the_values_is_a_gap_in_the_line() {
        let values = [Some(0.0), Some(2.0), None, Some(1.0), None];
        let chart = spark(&values, 1.0, "lag".to_owned());
        assert_eq!(chart.lines, ["0.0,34.0 60.0,2.0", "180.0,18.0 180.0,18.0"]);
        assert_eq!(spark(&[], 1.0, String::new()).lines, [""; 0]);
        assert_eq!(spark(&[Some(0.5)], 1.0, String::new()).lines, ["0.0,18.0 0.0,18.0"]);
    }
}
