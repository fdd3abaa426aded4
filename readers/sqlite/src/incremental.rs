//! Windows along a change column.
//!
//! SQLite has no times of its own, so a window is told in the words of the column's own values, and these must be of one
//! form, or no order of theirs is that of time: all of them are looked at.

use arrow::datatypes::{DataType, TimeUnit};
use async_trait::async_trait;
use chrono::Utc;
use weir_core::incremental::earliest_local;
use weir_core::{Error, ErrorKind, Incremental, Result, ResultExt, Split, SplitRequest, Window, WindowRequest};
use weir_sql::IncrementalConfig;
use weir_sql::incremental::{Asked, Point, Scale, change_column, condition, of_table, unfit};
use weir_sqlite::catalog::{Column, schema_of};
use weir_sqlite::{Access, Database, QUOTING, Value};

use crate::config::IntegerTimes;
use crate::reader::SqliteReader;
use crate::source::{self, Described};

/// A date, and a date with a time of day, a space between them or a `T`.
const DATE: &str = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]";
const CLOCK: &str = "[0-9][0-9]:[0-9][0-9]:[0-9][0-9]";

#[async_trait]
impl Incremental for SqliteReader {
    fn places(&self) -> Vec<String> {
        (0..self.source_count()).map(|index| self.source(index).file.identity()).collect()
    }

    async fn windows(&self, request: &WindowRequest) -> Result<Vec<Window>> {
        let config = self.incremental_config()?.clone();
        let mut windows = Vec::new();
        for index in 0..self.source_count() {
            let (source, request, config) = (self.source(index), request.clone(), config.clone());
            let (common, times) = (self.config().common.clone(), self.config().integer_times);
            let file = source.file.clone();
            let place = file.identity();
            let found = file.with(Access::Read, self.context(), move |database| {
                let bytes = source.file.bytes();
                let described = source::describe(database, &source.name, &source.object, &common, bytes)?;
                let change = Change::find(database, &described, &config, times)?;
                change.window(database, &described, &place, &config, &request).context("table", &described.name)
            });
            windows.push(found.await?);
        }
        Ok(windows)
    }

    async fn splits_within(&self, request: &SplitRequest, windows: &[Window]) -> Result<Vec<Split>> {
        self.cut(request, Some(windows)).await
    }
}

/// The form in which a change column's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    /// Numbers that are meant as numbers, and `YYYY-MM-DD`.
    Plain,
    /// `YYYY-MM-DD HH:MM:SS[.f]`, with this between date and time.
    Text(char),
    /// So many a second since 1970.
    Epoch(i64),
}

/// Whether windows may go by a type. Of `NUMERIC`, and of no type at all, the values tell.
pub(crate) fn has_order(declared: &str) -> bool {
    let form = weir_sqlite::types::form_of(declared).map(|(data_type, _)| data_type);
    form.is_none_or(|form| {
        form.is_integer() || matches!(form, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _))
    })
}

/// A table's change column.
struct Change<'a> {
    column: &'a Column,
    /// What follows FROM.
    from: String,
    /// The column, quoted, with the table's name before it.
    sql: String,
    scale: Scale,
    stored: Stored,
}

impl<'a> Change<'a> {
    fn find(
        database: &Database<'_>,
        described: &'a Described,
        config: &IncrementalConfig,
        times: IntegerTimes,
    ) -> Result<Self> {
        let table = described.table.as_ref().ok_or_else(|| Error::internal("a statement has no window"))?;
        let column = &table.columns[change_column(config, &table.column_names(), QUOTING)?];
        let sql = format!("{}.{}", QUOTING.quote(&table.name.name), QUOTING.quote(&column.name));
        let from = table.name.quoted(QUOTING);
        let mut change = Self { column, from, sql, scale: Scale::Number(0), stored: Stored::Plain };
        let form = weir_sqlite::types::form_of(&column.declared).map(|(data_type, _)| data_type);
        let (scale, stored) = match form {
            Some(DataType::Date32) => (Scale::Date, Stored::Plain),
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
                let scale = if zone.is_some() { Scale::Instant(6) } else { Scale::Local(6) };
                (scale, change.stored(database, times)?)
            }
            Some(data_type) if data_type.is_integer() => (Scale::Number(0), Stored::Plain),
            // NUMERIC and no type at all: the values tell, and are looked at below.
            None => (Scale::Number(0), Stored::Plain),
            Some(_) => return Err(unfit(&column.name, &column.declared)),
        };
        (change.scale, change.stored) = (scale, stored);
        if let (Scale::Local(_), Stored::Epoch(_)) = (scale, stored) {
            change.scale = Scale::Instant(6);
        }
        change.alike(database)?;
        Ok(change)
    }

    /// How the greatest value is stored, which the others then have to be too.
    fn stored(&self, database: &Database<'_>, times: IntegerTimes) -> Result<Stored> {
        let mut stored = Stored::Text(' ');
        let sql = format!("SELECT max({}) FROM {}", self.sql, self.from);
        database.query(&sql, &[], |row| {
            stored = match (row.value(0), times) {
                (Value::Integer(_), IntegerTimes::Seconds) => Stored::Epoch(1),
                (Value::Integer(_), IntegerTimes::Milliseconds) => Stored::Epoch(1000),
                (Value::Text(text), _) if text.get(10) == Some(&b'T') => Stored::Text('T'),
                _ => Stored::Text(' '),
            }
        })?;
        Ok(stored)
    }

    /// Refuses values of another form.
    fn alike(&self, database: &Database<'_>) -> Result<()> {
        let Self { sql, from, .. } = self;
        let text = |pattern: &str| format!("typeof({sql}) = 'text' AND {sql} GLOB '{pattern}'");
        let (fits, right) = match (self.scale, self.stored) {
            (Scale::Date, _) => (text(DATE), "`YYYY-MM-DD`".to_owned()),
            (_, Stored::Text(between)) => {
                let whole = format!("{DATE}{between}{CLOCK}");
                let fraction =
                    format!("{} AND substr({sql}, 20) NOT GLOB '.*[^0-9]*'", text(&format!("{whole}.[0-9]*")));
                (
                    format!("({}) OR ({fraction})", text(&whole)),
                    format!("`YYYY-MM-DD{between}HH:MM:SS`, without a zone"),
                )
            }
            _ => (format!("typeof({sql}) = 'integer'"), "a whole number".to_owned()),
        };
        let mut other = None;
        let others = format!("SELECT {sql} FROM {from} WHERE {sql} IS NOT NULL AND NOT ({fits}) LIMIT 1");
        database.query(&others, &[], |row| other = Some(crate::decode::shown(row.value(0))))?;
        match other {
            None => Ok(()),
            Some(value) => {
                let column = &self.column.name;
                let text = format!(
                    "`incremental` cannot go by column `{column}`: its values must be of one form, and `{value}` is not {right}"
                );
                Err(Error::new(ErrorKind::Unsupported, text).with("parameter", "incremental.column"))
            }
        }
    }

    fn window(
        &self,
        database: &Database<'_>,
        described: &Described,
        place: &str,
        config: &IncrementalConfig,
        request: &WindowRequest,
    ) -> Result<Window> {
        // SQLite's own clock shows UTC, and is ours.
        let clocks = |zone| earliest_local(Utc::now(), zone);
        let local = clocks(request.clocks);
        let local = if request.clocks_said { local } else { local.min(clocks(chrono_tz::Tz::UTC)) };
        let now = match self.scale {
            Scale::Number(_) => {
                let greatest = database.integer(&format!("SELECT max({}) FROM {}", self.sql, self.from), &[])?;
                greatest.map(|greatest| Point::Number(i128::from(greatest)))
            }
            Scale::Date => Some(Point::Date(local.date())),
            // Values may have no fraction: what is written within this second is not below it.
            Scale::Local(_) => Some(Scale::Local(0).floor(Point::Local(local))),
            Scale::Instant(_) => Some(Scale::Instant(0).floor(Point::Instant(Utc::now()))),
        };
        let asked = Asked {
            table: &described.name,
            place,
            column: &self.column.name,
            scale: self.scale,
            nullable: self.column.nullable,
            indexed: indexed(database, described, self.column)?,
            config,
            request,
        };
        asked.window(now)
    }

    fn literal(&self, text: &str) -> Result<String> {
        Ok(match (self.scale, self.stored) {
            (Scale::Number(_), _) => text.to_owned(),
            (_, Stored::Epoch(per_second)) => {
                let moment = weir_sqlite::times::Moment::parse(text.as_bytes());
                // A bound between two units lies before the later one: so both sides of it see the same rows.
                let units = moment.map(|m| {
                    let nanos = i128::from(m.days) * 86_400_000_000_000 + i128::from(m.nanos);
                    -(-nanos).div_euclid(i128::from(1_000_000_000 / per_second))
                });
                units.ok_or_else(|| Error::internal("a bound is no time"))?.to_string()
            }
            (_, Stored::Text(between)) => {
                // As short as it can be: a text sorts before all that are longer and begin with it.
                let short = text.trim_end_matches('0').trim_end_matches('.');
                let whole = if text.contains('.') { short } else { text };
                format!("'{}'", whole.replacen(' ', &between.to_string(), 1))
            }
            (_, Stored::Plain) => format!("'{text}'"),
        })
    }
}

/// Whether an index leads to the column's values in their order, in a table that can have one.
fn indexed(database: &Database<'_>, described: &Described, column: &Column) -> Result<bool> {
    let Some(table) = described.table.as_ref().filter(|table| table.kind == "table") else { return Ok(true) };
    // Rows lie in the order of a whole number that is their key.
    if column.declared.eq_ignore_ascii_case("INTEGER") && table.key() == [column.name.clone()] {
        return Ok(true);
    }
    let sql = "SELECT count(*) FROM pragma_index_list(?1, ?2) l JOIN pragma_index_info(l.name, ?2) i \
               WHERE l.partial = 0 AND i.seqno = 0 AND i.name = ?3";
    let schema = schema_of(&table.name);
    let values = [table.name.name.as_str(), schema, column.name.as_str()].map(|text| Value::Text(text.as_bytes()));
    Ok(database.integer(sql, &values)? != Some(0))
}

/// The source as if it held the window's rows alone, with the window among its conditions.
pub(crate) fn narrowed(
    database: &Database<'_>,
    described: &Described,
    windows: &[Window],
    config: &IncrementalConfig,
    times: IntegerTimes,
) -> Result<Described> {
    let window = of_table(windows, &described.name)?;
    let change = Change::find(database, described, config, times)?;
    let condition = condition(window, change.scale, &change.sql, |text| change.literal(text))?;
    let mut narrow = described.clone();
    if let Some(select) = &mut narrow.select {
        select.conditions.push(condition);
        if window.low.is_some() {
            let conditions: Vec<&str> = select.conditions.iter().map(String::as_str).collect();
            let count = weir_sql::statements::select(&["count(*)"], &select.from, &conditions);
            let rows = database.integer(&count, &[])?.map_or(0, |n| u64::try_from(n).unwrap_or(0));
            narrow.bytes = described.bytes.map(|bytes| bytes / described.rows.unwrap_or(1).max(1) * rows);
            narrow.rows = Some(rows);
        }
    }
    Ok(narrow)
}
