//! Plain text tables. Each column is as wide as its widest cell.

use std::fmt::Display;

/// A table: the header, then the rows.
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        Self(vec![header.iter().map(|cell| (*cell).to_owned()).collect()])
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    /// The table as text, with every line indented by two spaces. The text is empty if the table has no rows.
    pub(super) fn render(&self) -> String {
        if self.0.len() == 1 {
            return String::new();
        }
        let widths: Vec<usize> = (0..self.0[0].len())
            .map(|column| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        self.0.iter().map(line).collect()
    }
}

/// A title, then lines that are indented. Empty if there are no lines.
pub(super) fn titled(title: &str, lines: impl IntoIterator<Item: Display>) -> String {
    let lines: String = lines.into_iter().map(|line| format!("  {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("{title}\n{lines}") }
}
