//! Figures and how they are shown.

use std::fmt::Write;
use std::time::Duration;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What the cluster did, with its unit.
    pub measured: String,
    /// What the machine does at best, if there is such a thing.
    pub floor: Option<String>,
    /// The measured over the floor.
    pub ratio: Option<f64>,
    /// What it should be.
    pub target: &'static str,
}

impl Row {
    /// A figure without a floor.
    pub(super) fn plain(what: &str, measured: String, target: &'static str) -> Self {
        Self { what: what.to_owned(), measured, floor: None, ratio: None, target }
    }

    /// Two durations.
    pub(super) fn times(
        what: &str,
        measured: Duration,
        floor: Duration,
        target: &'static str,
    ) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("{:.2} ms", measured.as_secs_f64() * 1e3),
            floor: Some(format!("{:.2} ms", floor.as_secs_f64() * 1e3)),
            ratio: Some(measured.as_secs_f64() / floor.as_secs_f64()),
            target,
        }
    }

    /// Two rates, with their unit.
    pub(super) fn rates(
        what: &str,
        measured: f64,
        floor: f64,
        unit: &str,
        target: &'static str,
    ) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("{measured:.0} {unit}"),
            floor: Some(format!("{floor:.0} {unit}")),
            ratio: Some(measured / floor),
            target,
        }
    }
}

/// The rows as a Markdown table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| figure | measured | floor | ratio | target |\n|---|---|---|---|---|\n");
    for row in rows {
        let floor = row.floor.as_deref().unwrap_or("-");
        let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {floor} | {ratio} | {} |",
            row.what, row.measured, row.target
        );
    }
    text
}

/// Durations in order, asked for by rank.
#[derive(Clone, Debug)]
pub(super) struct Sample(Vec<Duration>);

impl Sample {
    pub(super) fn new(mut durations: Vec<Duration>) -> Self {
        assert!(!durations.is_empty(), "nothing was measured");
        durations.sort_unstable();
        Self(durations)
    }

    /// The nearest-rank percentile.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }
}

/// A count as a number to reckon with; counts here are far below 2^32.
pub(super) fn number(count: impl TryInto<u32>) -> f64 {
    count.try_into().map_or(f64::NAN, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sample = Sample::new((1..=100).rev().map(Duration::from_millis).collect());
        let [half, most, one] = [50, 99, 1].map(|percent| sample.percentile(percent).as_millis());
        assert_eq!((half, most, one), (50, 99, 1));
        assert_eq!(Sample::new(vec![Duration::ZERO]).percentile(99), Duration::ZERO);
    }
}
