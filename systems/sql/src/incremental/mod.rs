//! Windows along a change column, decided alike for all relational systems.
//!
//! A system's reader finds the column and its [`Scale`], and says how its server tells the present end of it
//! ([`Present`]); [`Asked::window_of`] makes the window of both, and [`condition`] a condition of the window. Where there
//! is no server to ask, [`Asked::window`] takes the present end itself.

mod point;
mod present;

use weir_core::{Error, ErrorKind, Result, Watermark, Window, WindowRequest};

pub use point::{Point, Scale};
pub use present::{Present, known, narrowed_size};
pub use weir_core::incremental::IncrementalConfig;

use crate::names::{Quoting, find_name};

/// What a system's reader knows of a table's change column.
pub struct Asked<'a> {
    /// The table, as reports name it.
    pub table: &'a str,
    /// Where it is, without secrets.
    pub place: &'a str,
    /// The column's name.
    pub column: &'a str,
    /// What it holds.
    pub scale: Scale,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// Whether an index leads to its values in their order. `true` also where none could be made, and where nobody can tell.
    pub indexed: bool,
    /// The job's wishes.
    pub config: &'a IncrementalConfig,
    /// What the runtime gave.
    pub request: &'a WindowRequest,
}

/// The index of the change column among a table's columns.
///
/// # Errors
/// The table has none of the names.
pub fn change_column(config: &IncrementalConfig, names: &[&str], quoting: Quoting) -> Result<usize> {
    let wanted = config.column.as_slice();
    let mut first = None;
    for name in wanted {
        match find_name("column", &quoting.unquote(name), names.iter().copied()) {
            Ok(index) => return Ok(index),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let error = match (first, wanted.len()) {
        (Some(error), 1) => error,
        (Some(_), _) => {
            Error::new(ErrorKind::NotFound, format!("the table has none of the columns {}", wanted.join(", ")))
        }
        (None, _) => Error::config("`incremental` names no `column`"),
    };
    Err(error.with("parameter", "incremental.column"))
}

/// That a type's values have no order that can be told exactly.
pub fn unfit(column: &str, native_type: &str) -> Error {
    let text = format!(
        "`incremental` cannot go by column `{column}`: {native_type} has no exact order here; use a column of dates, \
         times, whole numbers or decimals of up to 38 digits"
    );
    Error::new(ErrorKind::Unsupported, text).with("parameter", "incremental.column")
}

impl Asked<'_> {
    /// The window of a run that begins now. `now` is the present end: what the clock of the source shows, or the greatest
    /// number; `None` without any.
    ///
    /// # Errors
    /// A watermark of another place, column or type; bounds that are none.
    pub fn window(&self, now: Option<Point>) -> Result<Window> {
        let Self { scale, config, request, .. } = *self;
        let given = |text: &Option<String>, key: &str| {
            let read = |text: &String| {
                let read = scale.read_given(text, request.clocks);
                read.map_err(|fault| Error::config(format!("incremental.{key}: {fault}")).with("table", self.table))
            };
            text.as_ref().map(read).transpose()
        };
        let (from, to) = (given(&config.from, "from")?, given(&config.to, "to")?);
        let watermark = self.watermark()?;
        let begin = watermark.or(from);
        let now = match (now, scale) {
            // The greatest number itself is read too.
            (Some(greatest), Scale::Number(_)) => scale.after(greatest),
            (now, _) => now.map(|now| scale.floor(now)),
        };
        let back = |point: Point, amount: Option<u64>| {
            let too_far =
                || Error::config("`overlap` and `delay` of `incremental` reach back further than can be said");
            match amount {
                Some(amount) => scale.before(point, amount).ok_or_else(too_far),
                None => Ok(point),
            }
        };
        let now = now.map(|now| back(now, config.delay)).transpose()?;
        let end = match (now, to) {
            (Some(now), Some(to)) => Some(now.min(to)),
            (now, _) => now,
        };
        // The watermark never goes back: not with a clock, nor when the last rows were deleted.
        let high = end.max(begin);
        let low = match watermark {
            Some(watermark) => Some(back(watermark, config.overlap)?),
            None => from,
        };
        let nulls = self.nullable && begin.is_none();
        let mut warnings = Vec::new();
        if self.nullable {
            let read = if nulls { "are read by this first run, and by no later one" } else { "are not read" };
            warnings.push(format!("{}: rows whose {} is NULL {read}", self.table, self.column));
        }
        if !self.indexed {
            warnings.push(format!(
                "{}: no index begins with {}, so every run looks at the whole table for the rows of its window: make one",
                self.table, self.column
            ));
        }
        Ok(Window {
            table: self.table.to_owned(),
            place: self.place.to_owned(),
            column: self.column.to_owned(),
            low: low.map(|point| scale.show(&point)),
            high: high.map(|point| scale.show(&point)),
            watermark: watermark.map(|point| scale.show(&point)),
            nulls,
            overlaps: config.overlap.is_some_and(|overlap| overlap > 0),
            warnings,
        })
    }

    /// Where the last run ended; `None` where there was none.
    ///
    /// # Errors
    /// A watermark of another place, column or type.
    pub fn watermark(&self) -> Result<Option<Point>> {
        let marks = || self.request.watermarks.iter().filter(|mark| mark.is_called(self.table, self.place));
        // What is left behind at a place of which the job reads nothing any more may be this table's.
        let astray = |mark: &&Watermark| !self.request.places.contains(&mark.place);
        let Some(mark) = marks().find(|mark| mark.place == self.place).or_else(|| marks().find(astray)) else {
            return Ok(None);
        };
        let other = |what: &str, then: &str, now: &str| {
            let text = format!(
                "the watermark of {} is {what} {then}, and the job reads {now} now: put it back, or read everything once \
                 more with --full",
                self.table
            );
            Err(Error::new(ErrorKind::Conflict, text))
        };
        if mark.place != self.place {
            return other("from", &mark.place, self.place);
        }
        if mark.column != self.column {
            return other("of column", &mark.column, self.column);
        }
        match self.scale.read(&mark.value) {
            Some(point) => Ok(Some(point)),
            None => other("a value of another type:", &mark.value, &format!("column {} of another one", self.column)),
        }
    }
}

/// The SQL condition for the rows of a window; `column` is the quoted name, `literal` makes a value of the column's type
/// out of [`Scale::sql`]'s text.
///
/// # Errors
/// A window that another reader made.
pub fn condition(
    window: &Window,
    scale: Scale,
    column: &str,
    literal: impl Fn(&str) -> Result<String>,
) -> Result<String> {
    let Some(high) = &window.high else { return Ok("1 = 0".into()) };
    let value = |text: &String| {
        let point = scale.read(text).ok_or_else(|| {
            let text = format!("the window's bound {text} is none of column {}: its type has changed", window.column);
            Error::new(ErrorKind::Conflict, text).with("table", &window.table)
        })?;
        literal(&scale.sql(&point))
    };
    let mut condition = format!("{column} < {}", value(high)?);
    if let Some(low) = &window.low {
        condition = format!("{column} >= {} AND {condition}", value(low)?);
    }
    if window.nulls {
        condition = format!("{condition} OR {column} IS NULL");
    }
    Ok(condition)
}

/// The window of a table among those of a run.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal) when there is none.
pub fn of_table<'a>(windows: &'a [Window], table: &str) -> Result<&'a Window> {
    let found = windows.iter().find(|window| window.table == table);
    found.ok_or_else(|| Error::internal("a table of the job has no window").with("table", table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Case {
        config: IncrementalConfig,
        watermarks: Vec<Watermark>,
        scale: Scale,
        nullable: bool,
        indexed: bool,
        now: Option<&'static str>,
    }

    fn case(config: serde_json::Value, watermark: Option<&str>, scale: Scale, now: Option<&'static str>) -> Case {
        let mark =
            |value: &str| Watermark { table: "t".into(), place: "h/d".into(), column: "c".into(), value: value.into() };
        let config = weir_core::config::parse(&config).unwrap();
        Case {
            config,
            watermarks: watermark.into_iter().map(mark).collect(),
            scale,
            nullable: false,
            indexed: true,
            now,
        }
    }

    impl Case {
        fn window(&self) -> Result<Window> {
            let request = WindowRequest {
                watermarks: self.watermarks.clone(),
                places: vec!["h/d".into(), "h/shard".into()],
                clocks: "Europe/Berlin".parse().unwrap(),
                clocks_said: true,
            };
            let asked = Asked {
                table: "t",
                place: "h/d",
                column: "c",
                scale: self.scale,
                nullable: self.nullable,
                indexed: self.indexed,
                config: &self.config,
                request: &request,
            };
            asked.window(self.now.map(|now| self.scale.read(now).unwrap()))
        }

        fn condition(&self) -> String {
            condition(&self.window().unwrap(), self.scale, "c", |text| Ok(format!("'{text}'"))).unwrap()
        }
    }

    const NUMBER: Scale = Scale::Number(0);

    #[test]
    fn windows_touch() {
        let ids = json!({"column": "c"});
        assert_eq!(case(ids.clone(), None, NUMBER, Some("41")).condition(), "c < '42'");
        assert_eq!(case(ids.clone(), Some("42"), NUMBER, Some("99")).condition(), "c >= '42' AND c < '100'");
        let late = json!({"column": "c", "overlap": 10, "delay": 5});
        let window = case(late, Some("42"), NUMBER, Some("99")).window().unwrap();
        assert_eq!((window.low.as_deref(), window.high.as_deref()), (Some("32"), Some("95")));
        assert!(window.overlaps && window.watermark.as_deref() == Some("42"));
        let empty = case(ids, None, NUMBER, None);
        assert_eq!((empty.condition().as_str(), empty.window().unwrap().leaves()), ("1 = 0", None));
    }

    #[test]
    fn the_first_run_begins_where_it_is_told() {
        let from = |text: &str| json!({"column": "c", "from": text});
        let instants = case(from("2025-11-01"), None, Scale::Instant(3), Some("2025-11-02T00:00:00.123999Z"));
        assert_eq!(instants.condition(), "c >= '2025-10-31 23:00:00.000000' AND c < '2025-11-02 00:00:00.123000'");
        let later = case(from("50"), None, NUMBER, Some("9")).window().unwrap();
        assert_eq!(later.high.as_deref(), Some("50"), "what lies before `from` is never read");
        assert!(case(from("noon"), None, NUMBER, None).window().unwrap_err().message().contains("incremental.from"));
    }

    #[test]
    fn the_watermark_never_goes_back() {
        let ids = json!({"column": "c", "to": "10"});
        for now in [Some("7"), Some("99"), None] {
            let window = case(ids.clone(), Some("42"), NUMBER, now).window().unwrap();
            assert_eq!((window.low.as_deref(), window.high.as_deref()), (Some("42"), Some("42")), "{now:?}");
        }
        assert_eq!(case(ids, None, NUMBER, Some("99")).window().unwrap().high.as_deref(), Some("10"));
    }

    #[test]
    fn nulls_come_with_the_first_run_of_everything() {
        let mut first = case(json!({"column": "c"}), None, NUMBER, Some("9"));
        first.nullable = true;
        assert_eq!(first.condition(), "c < '10' OR c IS NULL");
        assert!(first.window().unwrap().warnings[0].contains("this first run"));
        first.config.from = Some("3".into());
        assert!(!first.window().unwrap().nulls);
        assert!(first.window().unwrap().warnings[0].contains("are not read"));
    }

    #[test]
    fn a_column_without_an_index_is_told() {
        let mut bare = case(json!({"column": "c"}), None, NUMBER, Some("9"));
        assert!(bare.window().unwrap().warnings.is_empty());
        bare.indexed = false;
        let warnings = bare.window().unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("no index begins with c"), "{warnings:?}");
    }

    #[test]
    fn a_watermark_of_a_namesake_is_none_of_the_table() {
        let mut shards = case(json!({"column": "c"}), Some("42"), NUMBER, Some("99"));
        shards.watermarks[0].place = "h/shard".into();
        assert_eq!(shards.window().unwrap().watermark, None);
        // As ledgers of before called it beside the other.
        let own = Watermark { table: "t@h/d".into(), place: "h/d".into(), ..shards.watermarks[0].clone() };
        shards.watermarks.push(Watermark { value: "7".into(), ..own });
        assert_eq!(shards.window().unwrap().watermark.as_deref(), Some("7"));
    }

    #[test]
    fn a_watermark_of_something_else_is_refused() {
        let mut other = case(json!({"column": ["x", "C"]}), Some("42"), NUMBER, Some("99"));
        assert_eq!(change_column(&other.config, &["a", "c"], Quoting::DOUBLE).unwrap(), 1);
        assert!(change_column(&other.config, &["a"], Quoting::DOUBLE).unwrap_err().message().contains("x, C"));
        other.watermarks[0].place = "h/e".into();
        let error = other.window().unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.message().contains("--full"), "{error}");
        other.watermarks[0] =
            Watermark { place: "h/d".into(), value: "2025-11-01".into(), ..other.watermarks[0].clone() };
        assert_eq!(other.window().unwrap_err().kind(), ErrorKind::Conflict);
        other.watermarks[0].column = "d".into();
        assert!(other.window().unwrap_err().message().contains("of column d"));
    }
}
