//! What was measured: as JSON for scripts, as a table for people.

use std::{
    borrow::Cow,
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

/// One figure: the median of the rounds and what they lay between.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// Its name, of which scripts may be sure.
    pub name: String,
    /// The median.
    pub value: f64,
    /// Of what.
    pub unit: Cow<'static, str>,
    /// The smallest of the rounds.
    pub min: f64,
    /// The largest of the rounds.
    pub max: f64,
    /// How many rounds.
    pub n: usize,
}

/// All figures, in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Results(Vec<Figure>);

impl Results {
    /// Adds a figure from its rounds.
    ///
    /// # Panics
    /// Where there were none.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, rounds: &[f64]) {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { return };
        let middle = sorted.len() / 2;
        let value = match (sorted.len() % 2, sorted.get(middle.wrapping_sub(1)), sorted.get(middle))
        {
            (0, Some(low), Some(high)) => f64::midpoint(*low, *high),
            (_, _, Some(middle)) => *middle,
            _ => return,
        };
        let figure = Figure {
            name: name.into(),
            value,
            unit: unit.into(),
            min: *min,
            max: *max,
            n: sorted.len(),
        };
        self.0.push(figure);
    }

    /// Adds what another run has measured.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// A figure by its name.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.name == name)
    }

    /// The figures of an earlier run.
    ///
    /// # Errors
    /// Where the file has none.
    pub fn read(file: &Path) -> Result<Self> {
        let json = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        Ok(Self(serde_json::from_slice(&json)?))
    }

    /// Writes the figures as a JSON array.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(&self.0)?;
        fs::write(file, json + "\n").with_context(|| format!("write {}", file.display()))
    }

    /// Writes the figures to stdout as a table.
    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["NAME", "MEDIAN", "MIN", "MAX", "N", "UNIT"]);
        for figure in &self.0 {
            let number = |value: f64| match value.abs() >= 100.0 {
                true => format!("{value:.0}"),
                false => format!("{value:.2}"),
            };
            table.add_row([
                figure.name.clone(),
                number(figure.value),
                number(figure.min),
                number(figure.max),
                figure.n.to_string(),
                figure.unit.to_string(),
            ]);
        }
        for column in 1..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        // A reader that has gone is no reason to fail.
        let _ = writeln!(io::stdout(), "{}", table.trim_fmt());
    }
}
