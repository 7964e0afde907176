//! One plot over the time of the run, in SVG. All plots have the same time axis, so that they can be read one below the
//! other. Lines differ by colour and by dashes, for print and for people who do not see the colours.

use std::fmt::Write;

/// The size of a plot in units of the SVG, and the room for labels.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// The dashes of the lines, in turn.
const DASHES: [&str; 4] = ["", "7 3", "2 3", "9 3 2 3"];
/// The points of one line at most. More of them are not visible; the highest of each group is drawn.
const POINTS: usize = 480;

/// One line of a plot.
pub(super) struct Line {
    pub name: String,
    /// One value per second. None leaves a gap.
    pub values: Vec<Option<f64>>,
}

/// A span of time that is shaded, with its label.
pub(super) struct Span {
    pub name: String,
    pub label: String,
    pub from: f64,
    pub to: f64,
    pub class: &'static str,
}

/// A plot.
pub(super) struct Plot {
    pub id: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub lines: Vec<Line>,
}

impl Plot {
    /// The highest value.
    fn most(&self) -> f64 {
        self.lines.iter().flat_map(|line| line.values.iter().flatten()).copied().fold(0.0, f64::max)
    }

    /// The plot of a run of this many seconds.
    pub(super) fn svg(&self, seconds: f64, spans: &[Span]) -> String {
        let step = nice(self.most().max(1e-9) / 4.0);
        let top = (self.most() / step).ceil().max(1.0) * step;
        let x = |second: f64| LEFT + second / seconds.max(1.0) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-t\">\n<title id=\"{id}-t\">{}, \
             {}: the highest value is {}</title>\n",
            self.title,
            self.unit,
            label(self.most()),
            id = self.id
        );
        for span in spans {
            let (from, to) = (x(span.from.max(0.0)), x(span.to.min(seconds)));
            let width = (to - from).max(1.5);
            let _ = writeln!(
                out,
                "<rect class=\"{}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{}</title>\
                 </rect><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                span.class,
                HEIGHT - TOP - BOTTOM,
                span.label,
                from + 3.0,
                TOP + 11.0,
                span.name
            );
        }
        let mut value = 0.0;
        while value <= top + step / 2.0 {
            let at = y(value);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick\" \
                 x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                label(value)
            );
            value += step;
        }
        let pace = nice(seconds / 8.0).max(1.0);
        let mut second = 0.0;
        while second <= seconds {
            let (at, low) = (x(second), HEIGHT - BOTTOM);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{low}\" y2=\"{:.1}\"/><text class=\"tick\" \
                 x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
                low + 4.0,
                low + 18.0,
                label(second)
            );
            second += pace;
        }
        for (number, line) in self.lines.iter().enumerate() {
            let dashes = DASHES[number / 2 % DASHES.len()];
            let _ = writeln!(
                out,
                "<path class=\"c{}\" stroke-dasharray=\"{dashes}\" d=\"{}\"/>",
                number % 6,
                path(&line.values, &x, &y)
            );
        }
        out.push_str("</svg>\n");
        out
    }

    /// The legend, as a list.
    pub(super) fn legend(&self) -> String {
        let entry = |(number, line): (usize, &Line)| {
            format!(
                "<li><svg viewBox=\"0 0 30 8\" width=\"30\" height=\"8\" aria-hidden=\"true\"><path class=\"c{}\" \
                 stroke-dasharray=\"{}\" d=\"M0 4H30\"/></svg> {}</li>",
                number % 6,
                DASHES[number / 2 % DASHES.len()],
                super::markup::escape(&line.name)
            )
        };
        self.lines.iter().enumerate().map(entry).collect()
    }
}

/// The path of a line. A gap in the values is a gap in the line; a single value is a short dash.
#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
fn path(values: &[Option<f64>], x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let group = values.len().div_ceil(POINTS).max(1);
    let mut out = String::new();
    let mut is_open = false;
    for (number, group_values) in values.chunks(group).enumerate() {
        let highest = group_values
            .iter()
            .flatten()
            .copied()
            .fold(None, |most: Option<f64>, value| Some(most.map_or(value, |most| most.max(value))));
        let Some(value) = highest else {
            is_open = false;
            continue;
        };
        let at = (number * group) as f64 + group as f64 / 2.0;
        if is_open {
            let _ = write!(out, "L{:.1} {:.1}", x(at), y(value));
        } else {
            let _ = write!(out, "M{:.1} {:.1}h1", x(at), y(value));
        }
        is_open = true;
    }
    out
}

/// The next step of 1, 2 or 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999).unwrap_or(10.0);
    factor * power
}

fn label(value: f64) -> String {
    if value >= 10.0 || value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_numbers() {
        assert!(
            [(0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (23.0, 50.0), (110.0, 200.0)].iter().all(|(step, wanted)| (nice(
                *step
            )
                - wanted)
                .abs()
                < 1e-9)
        );
        assert_eq!([label(0.0), label(2.5), label(0.25), label(1_200.0)], ["0", "2.5", "0.25", "1200"]);
    }

    #[test]
    fn a_gap_in_the_values_is_a_gap_in_the_line() {
        let line = path(&[Some(1.0), Some(2.0), None, Some(3.0)], &|x| x, &|y| y);
        assert_eq!(line, "M0.5 1.0h1L1.5 2.0M3.5 3.0h1");
        let many = vec![Some(1.0); 5_000];
        assert!(path(&many, &|x| x, &|y| y).matches('L').count() < POINTS);
    }

    #[test]
    fn an_empty_plot_is_a_plot() {
        let plot = Plot { id: "x", title: "Load", unit: "per second", lines: Vec::new() };
        let span = Span { name: "kill".to_owned(), label: "kill of a".to_owned(), from: 1.0, to: 1.0, class: "fault" };
        assert!(plot.svg(0.0, &[span]).contains("</svg>"));
    }
}
