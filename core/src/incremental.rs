//! Reading only what changed since an earlier run.

use async_trait::async_trait;
use chrono::{DateTime, Duration, DurationRound, NaiveDateTime, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::OneOrMany;
use crate::{Result, Split, SplitRequest};

/// The ability to read a table window by window, along a column that says when a row changed or that grows with each row.
///
/// Windows are left-inclusive and right-exclusive, `[low, high)`, and each begins where the one before ended: together
/// they hold every row once, as far as no row appears below the high end of a window after that was read. What appears
/// so late is met by an overlap, which reads the last stretch again.
#[async_trait]
pub trait Incremental: Send + Sync {
    /// Where its tables are, as [`Window::place`]. Connects to nothing.
    fn places(&self) -> Vec<String>;

    /// The window of each table that a run which begins now reads. Called on the control runtime, before
    /// [`Snapshot::begin`](crate::Snapshot::begin): what is later than the high end may be in the snapshot, what is
    /// earlier must be.
    ///
    /// # Errors
    /// A column that is not there or has no order that can be told exactly; a watermark of another place or column.
    async fn windows(&self, request: &WindowRequest) -> Result<Vec<Window>>;

    /// As [`Reader::splits`](crate::Reader::splits), of the rows that lie in the windows, one for each table. Everything
    /// that a window means is in the splits.
    async fn splits_within(&self, request: &SplitRequest, windows: &[Window]) -> Result<Vec<Split>>;
}

/// How a reader reads only what is new since the job's last run that succeeded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct IncrementalConfig {
    /// The column that says when a row was last changed, or a number that grows with each row or change; of several the
    /// first that the table has.
    pub column: OneOrMany<String>,
    /// Where the first run begins (a time, a date, a number); by default it reads everything.
    pub from: Option<String>,
    /// Where the run ends at the latest: rows from here on are left for later runs.
    pub to: Option<String>,
    /// How far each window reaches back behind the end of the one before, for rows that appear late: seconds of times,
    /// units of numbers. They are read again, so the writer must update by a key.
    pub overlap: Option<u64>,
    /// How far each window stays behind the present, so that rows have the time to appear: seconds of times, units of
    /// numbers.
    pub delay: Option<u64>,
}

/// What windows are asked for with.
#[derive(Debug, Clone)]
pub struct WindowRequest {
    /// Where earlier runs ended. Of tables that are not in here nothing was read yet.
    pub watermarks: Vec<Watermark>,
    /// Where the job's tables are, as [`Window::place`], those that other readers read among them: a watermark of such a
    /// place is of a table there, and says nothing of its namesakes.
    pub places: Vec<String>,
    /// Whose clocks zone-less times of the source show.
    pub clocks: Tz,
    /// Whether the job says so for this source; else the source may know better.
    pub clocks_said: bool,
}

/// How far a table was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The table, as [`Window::table`] without its place.
    pub table: String,
    /// Where it was, as [`Window::place`].
    pub place: String,
    /// The column.
    pub column: String,
    /// All rows below this were read, in the form of [`Window::high`].
    pub value: String,
}

impl Watermark {
    /// Whether it is of a table of this name, wherever that is. Ledgers of before may have the place in the name.
    pub fn is_called(&self, table: &str, place: &str) -> bool {
        without_place(&self.table, &self.place) == without_place(table, place)
    }
}

/// What a table is called where none of another place is called the same: such ones have `@` and their place besides.
pub fn without_place(table: &str, place: &str) -> String {
    if place.is_empty() { table.to_owned() } else { table.replacen(&format!("@{place}"), "", 1) }
}

/// What a run reads of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The table, one of [`SourceTable::name`](crate::SourceTable::name).
    pub table: String,
    /// Where it is, without secrets: `host:5432/shop`.
    pub place: String,
    /// The column that says what is new.
    pub column: String,
    /// The first value that is read; `None` from the beginning. Numbers in plain digits, dates `2025-11-01`, zone-less
    /// times `2025-11-01T00:00:00.000000`, instants `2025-11-01T00:00:00.000000Z`.
    pub low: Option<String>,
    /// The first value that is not read, and the watermark once the run has succeeded. `None` where there is nothing to
    /// go by: then nothing is read, and the watermark stays.
    pub high: Option<String>,
    /// Where the run before ended, if there was one.
    pub watermark: Option<String>,
    /// Whether rows without a value are read too: by a first run that reads everything.
    pub nulls: bool,
    /// Whether each window begins before the end of the one before, so that rows come twice.
    pub overlaps: bool,
    /// What a user should know.
    pub warnings: Vec<String>,
}

impl Window {
    /// The window in words: `updated_at from 2025-11-01T00:00:00.000000Z to before 2025-11-02T00:00:00.000000Z`.
    pub fn describe(&self) -> String {
        let Some(high) = &self.high else {
            return format!("nothing: {} has no value yet", self.column);
        };
        let low = self.low.as_ref().map_or_else(|| "from the beginning".into(), |low| format!("from {low}"));
        let mut text = format!("{} {low} to before {high}", self.column);
        if self.nulls {
            text.push_str(", and NULL");
        }
        match (&self.watermark, &self.low) {
            (Some(watermark), Some(low)) if watermark != low => {
                text.push_str(&format!(" (the last run ended at {watermark})"));
            }
            (None, _) => text.push_str(" (the first run)"),
            _ => {}
        }
        text
    }

    /// The watermark that the window leaves, if it leaves one.
    pub fn leaves(&self) -> Option<Watermark> {
        let value = self.high.clone()?;
        // The same when another place comes to have a table of this name, or has it no more.
        let table = without_place(&self.table, &self.place);
        Some(Watermark { table, place: self.place.clone(), column: self.column.clone(), value })
    }
}

/// The moments to ask a clock for, whose earliest reading no later moment undercuts: `now`, and the quarters of an hour
/// after it, for wherever clocks are set back they are set back by no more than three hours, on a quarter.
pub fn clock_moments(now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let quarter = Duration::minutes(15);
    let last = now.duration_trunc(quarter).unwrap_or(now);
    std::iter::once(now).chain((1..=12).map(|n| last + quarter * n)).collect()
}

/// The earliest time that a zone's clocks will show from `now` on.
pub fn earliest_local(now: DateTime<Utc>, zone: Tz) -> NaiveDateTime {
    let local = |moment: DateTime<Utc>| moment.with_timezone(&zone).naive_local();
    clock_moments(now).into_iter().map(local).min().unwrap_or_else(|| local(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_set_back_do_not_hide_what_comes_then() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let local = |text: &str| earliest_local(at(text), Tz::Europe__Berlin).to_string();
        // At 01:00 UTC on 26 October 2025 it is 03:00 there, and then 02:00 again.
        assert_eq!(local("2025-10-25T23:59:30Z"), "2025-10-26 01:59:30");
        assert_eq!(local("2025-10-26T00:30:00.000001Z"), "2025-10-26 02:00:00");
        assert_eq!(local("2025-10-26T01:30:00.000001Z"), "2025-10-26 02:30:00.000001");
        assert_eq!(local("2025-03-30T00:59:59Z"), "2025-03-30 01:59:59");
        assert_eq!(earliest_local(at("2025-10-26T00:30:00Z"), Tz::UTC).to_string(), "2025-10-26 00:30:00");
    }

    #[test]
    fn a_window_says_what_it_is() {
        let window = Window {
            table: "t".into(),
            place: "h/d".into(),
            column: "id".into(),
            low: Some("5".into()),
            high: Some("9".into()),
            watermark: Some("7".into()),
            nulls: false,
            overlaps: true,
            warnings: Vec::new(),
        };
        assert_eq!(window.describe(), "id from 5 to before 9 (the last run ended at 7)");
        let first = Window { low: None, watermark: None, nulls: true, ..window.clone() };
        assert_eq!(first.describe(), "id from the beginning to before 9, and NULL (the first run)");
        assert_eq!(Window { high: None, ..window.clone() }.describe(), "nothing: id has no value yet");
        assert_eq!(window.leaves().unwrap().value, "9");
        let shard = Window { table: "t@h/d (2)".into(), ..window.clone() };
        assert_eq!(shard.leaves().unwrap().table, "t (2)");
        assert!(
            shard.leaves().unwrap().is_called("t@h/e (2)", "h/e") && !shard.leaves().unwrap().is_called("t", "h/d")
        );
    }
}
