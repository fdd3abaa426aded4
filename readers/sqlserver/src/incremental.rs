//! Windows along a change column: a time, a number, or the server's own count of changes in a `rowversion`.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use weir_core::incremental::clock_moments;
use weir_core::{Error, Incremental, Result, ResultExt, Split, SplitRequest, Window, WindowRequest};
use weir_sql::IncrementalConfig;
use weir_sql::incremental::{Asked, Present, Scale, change_column, condition, narrowed_size, of_table, unfit};
use weir_sql::statements::select;
use weir_sqlserver::{Column, Kind, QUOTING, Session, Table, cell_number, cell_text, leads_index, literal};

use crate::reader::SqlServerReader;
use crate::source::{Described, Location};
use crate::tracking::{self, Changes};

#[async_trait]
impl Incremental for SqlServerReader {
    fn places(&self) -> Vec<String> {
        self.locations.iter().map(Location::place).collect()
    }

    async fn windows(&self, request: &WindowRequest) -> Result<Vec<Window>> {
        let config = self.incremental_config()?;
        let all = self.described().await?;
        let mut held = None;
        let mut windows = Vec::with_capacity(all.len());
        for (location, described) in self.locations.iter().zip(all.iter()) {
            let session = self.hold(&mut held, location, None).await?;
            let found = window(session, location, described, config, request).await;
            windows.push(found.context("table", &described.label)?);
        }
        if let Some(held) = held {
            held.work.end().await;
        }
        Ok(windows)
    }

    async fn splits_within(&self, request: &SplitRequest, windows: &[Window]) -> Result<Vec<Split>> {
        self.cut(request, Some(windows)).await
    }
}

/// What of a table lies in its window.
#[derive(Debug, Clone)]
pub(crate) struct Narrowed {
    /// The condition.
    pub(crate) condition: String,
    /// The changes that it is known by, where they are not in a column.
    pub(crate) changes: Option<Changes>,
    /// The table as if it held the window's rows alone.
    pub(crate) described: Described,
}

fn column_of<'a>(table: &'a Table, config: &IncrementalConfig) -> Result<&'a Column> {
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    Ok(&table.columns[change_column(config, &names, QUOTING)?])
}

fn table_of(described: &Described) -> Result<&Table> {
    described.table.as_ref().ok_or_else(|| Error::internal("a statement has no window"))
}

fn scale_of(column: &Column) -> Result<Scale> {
    scale(&column.kind).ok_or_else(|| unfit(&column.name, &column.type_text))
}

/// Whether windows may go by a type.
pub(crate) fn has_order(native_type: &str) -> bool {
    scale(&Kind::parse(native_type)).is_some()
}

fn scale(kind: &Kind) -> Option<Scale> {
    Some(match *kind {
        Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt | Kind::RowVersion => Scale::Number(0),
        Kind::Decimal { scale, .. } if scale >= 0 => Scale::Number(scale as u32),
        Kind::Money | Kind::SmallMoney => Scale::Number(4),
        Kind::Date => Scale::Date,
        // The server rounds to these types alike what is stored and what a window ends at, so rows and ends keep their order.
        Kind::DateTime => Scale::Local(3),
        Kind::SmallDateTime => Scale::Local(0),
        Kind::DateTime2(decimals) => Scale::Local(u32::from(decimals)),
        Kind::DateTimeOffset(decimals) => Scale::Instant(u32::from(decimals)),
        _ => return None,
    })
}

async fn window(
    session: &mut Session,
    location: &Location,
    described: &Described,
    config: &IncrementalConfig,
    request: &WindowRequest,
) -> Result<Window> {
    let table = table_of(described)?;
    if let Some(known) = tracking::meant(session, table, config).await? {
        return tracking::window(known, (&described.label, &location.place()), config, request);
    }
    let column = column_of(table, config)?;
    let indexed = table.view || leads_index(session, &table.name, &column.name).await?;
    let asked = Asked {
        table: &described.label,
        place: &location.place(),
        column: &column.name,
        scale: scale_of(column)?,
        nullable: column.nullable,
        indexed,
        config,
        request,
    };
    asked.window_of(&mut Server { session, column, from: &described.from }).await
}

/// The server, asked about one column.
struct Server<'a> {
    session: &'a mut Session,
    column: &'a Column,
    from: &'a str,
}

impl Server<'_> {
    async fn text(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.session.row(sql).await?.as_ref().and_then(|row| cell_text(row, 0)))
    }
}

impl Present for Server<'_> {
    async fn greatest(&mut self) -> Result<Option<String>> {
        self.text(&greatest(self.column, self.from)).await
    }

    async fn now(&mut self) -> Result<DateTime<Utc>> {
        // The functions that fill columns read two clocks, of which the coarser one may be behind.
        let row = self.session.row(&format!("SELECT {}, {}", shown("SYSUTCDATETIME()"), shown("GETUTCDATE()"))).await?;
        let clock = |at| row.as_ref().and_then(|row| cell_text(row, at)).and_then(|text| read(&text));
        match (clock(0), clock(1)) {
            (Some(fine), Some(coarse)) => Ok(fine.min(coarse).and_utc()),
            _ => Err(Error::internal("the server's clock cannot be read")),
        }
    }

    /// Servers from 2022 on know their zone; of others only what their clocks show now.
    async fn local(&mut self, now: DateTime<Utc>) -> Result<Option<NaiveDateTime>> {
        let local = |moment: &DateTime<Utc>| {
            let moment = literal(&moment.format("%Y-%m-%dT%H:%M:%S%.6f").to_string());
            format!("(CAST({moment} AS datetime2(6)) AT TIME ZONE 'UTC' AT TIME ZONE CURRENT_TIMEZONE_ID())")
        };
        let moments: Vec<_> = clock_moments(now).iter().map(local).collect();
        let earliest = "CAST(MIN(CAST(m.t AS datetime2(6))) AS datetime2(6))";
        let sql = format!("SELECT {} FROM (VALUES {}) AS m(t)", shown(earliest), moments.join(", "));
        let known = self.session.raw_rows(&sql).await?.ok();
        if let Some(text) = known.as_ref().and_then(|rows| rows.first()).and_then(|row| cell_text(row, 0)) {
            return Ok(read(&text));
        }
        Ok(self.text(&format!("SELECT {}", shown("SYSDATETIME()"))).await?.as_deref().and_then(read))
    }
}

/// A time as a text that [`read`] reads, whatever language the session speaks.
fn shown(time: &str) -> String {
    format!("CAST(CONVERT(varchar(40), {time}, 126) AS nvarchar(40))")
}

/// Relatives write a blank where the server writes `T`.
fn read(text: &str) -> Option<NaiveDateTime> {
    text.replacen(' ', "T", 1).parse().ok()
}

/// The statement for the greatest number of a column. Of versions it is the last one below all that transactions under way
/// have taken: what they write appears later, and is above.
fn greatest(column: &Column, from: &str) -> String {
    let name = QUOTING.quote(&column.name);
    let digits = |number: &str| format!("CAST({number} AS nvarchar(60))");
    match column.kind {
        Kind::RowVersion => format!("SELECT {}", digits("CAST(MIN_ACTIVE_ROWVERSION() AS bigint) - 1")),
        // As a text of its own money has two digits after the point.
        Kind::Money | Kind::SmallMoney => {
            format!("SELECT {} FROM {from}", digits(&format!("CAST(MAX({name}) AS decimal(19,4))")))
        }
        _ => format!("SELECT {} FROM {from}", digits(&format!("MAX({name})"))),
    }
}

/// A bound as a value of the column's own type, so that the server compares it as the column's values, by an index too.
fn bound(column: &Column, text: &str) -> Result<String> {
    let of_type = |text: &str| format!("CAST({} AS {})", literal(text), column.type_text);
    Ok(match column.kind {
        Kind::RowVersion => {
            let number: u64 = text.parse().map_err(|_| {
                Error::config(format!("{text} is no row version: they are whole numbers from 0"))
                    .with("column", &column.name)
            })?;
            format!("0x{number:016X}")
        }
        Kind::Date => of_type(text),
        Kind::DateTimeOffset(_) => of_type(&format!("{text} +00:00")),
        // Texts with so many digits are none of these types', and are rounded on their way.
        Kind::DateTime | Kind::SmallDateTime | Kind::DateTime2(_) => {
            let exact = format!("CAST({} AS datetime2(6))", literal(&text.replacen(' ', "T", 1)));
            format!("CAST({exact} AS {})", column.type_text)
        }
        _ => text.to_owned(),
    })
}

/// What cutting a table needs of its window.
pub(crate) async fn narrowed(
    session: &mut Session,
    described: &Described,
    windows: &[Window],
    config: &IncrementalConfig,
    filter: Option<&str>,
) -> Result<Narrowed> {
    let table = table_of(described)?;
    let window = of_table(windows, &described.label)?;
    if window.column == tracking::COLUMN && table.column(&window.column).is_none() {
        let (condition, changes, count) = tracking::narrowed(described, table, window)?;
        let mut described = described.clone();
        if let Some(sql) = count {
            described.table = Some(of_size(table, self::count(session, &sql).await?));
        }
        return Ok(Narrowed { condition, changes: Some(changes), described });
    }
    let column = column_of(table, config)?;
    let condition = condition(window, scale_of(column)?, &QUOTING.quote(&column.name), |text| bound(column, text))?;
    let mut described = described.clone();
    if window.low.is_none() && window.high.is_some() {
        return Ok(Narrowed { condition, changes: None, described });
    }
    // Without an index, counting would cost what reading does: then the table is cut as a whole, and each split looks
    // through its own part of it.
    if window.high.is_none() || leads_index(session, &table.name, &column.name).await? {
        let conditions: Vec<&str> = std::iter::once(condition.as_str()).chain(filter).collect();
        let rows = match window.high {
            Some(_) => count(session, &select(&["COUNT_BIG(*)"], &described.from, &conditions)).await?,
            None => Some(0),
        };
        described.table = Some(of_size(table, rows));
    }
    Ok(Narrowed { condition, changes: None, described })
}

async fn count(session: &mut Session, sql: &str) -> Result<Option<u64>> {
    let row = session.row(sql).await?;
    Ok(row.as_ref().and_then(|row| cell_number(row, 0)).and_then(|n| u64::try_from(n).ok()))
}

fn of_size(table: &Table, rows: Option<u64>) -> Table {
    let (rows, bytes) = narrowed_size(rows, table.rows, table.bytes);
    Table { rows, bytes, ..table.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(type_text: &str) -> Column {
        Column {
            name: "c]".into(),
            type_text: type_text.into(),
            kind: Kind::parse(type_text),
            nullable: false,
            has_default: false,
            identity: false,
            generated: false,
            key: None,
            collation: None,
            comment: None,
        }
    }

    #[test]
    fn ends_are_of_the_columns_own_type() {
        let of = |type_text: &str, text: &str| bound(&column(type_text), text).unwrap();
        assert_eq!(of("bigint", "-5"), "-5");
        assert_eq!(of("money", "1.0500"), "1.0500");
        assert_eq!(of("date", "2025-11-01"), "CAST(N'2025-11-01' AS date)");
        assert_eq!(
            of("datetime", "2025-11-01 06:00:00.123000"),
            "CAST(CAST(N'2025-11-01T06:00:00.123000' AS datetime2(6)) AS datetime)"
        );
        assert_eq!(
            of("datetimeoffset(7)", "2025-11-01 06:00:00.123456"),
            "CAST(N'2025-11-01 06:00:00.123456 +00:00' AS datetimeoffset(7))"
        );
        assert_eq!(of("rowversion", "2001"), "0x00000000000007D1");
        assert!(bound(&column("rowversion"), "-1").unwrap_err().message().contains("no row version"));
    }

    #[test]
    fn the_greatest_number_has_all_its_digits() {
        let of = |type_text: &str| greatest(&column(type_text), "[dbo].[t]");
        assert_eq!(of("int"), "SELECT CAST(MAX([c]]]) AS nvarchar(60)) FROM [dbo].[t]");
        assert!(of("smallmoney").contains("CAST(MAX([c]]]) AS decimal(19,4))"));
        assert!(of("rowversion").contains("MIN_ACTIVE_ROWVERSION()"));
    }

    #[test]
    fn what_has_no_exact_order_is_refused() {
        assert_eq!(scale_of(&column("decimal(38,2)")).unwrap(), Scale::Number(2));
        assert_eq!(scale_of(&column("datetime2(7)")).unwrap(), Scale::Local(7));
        for kind in ["float", "nvarchar(20)", "uniqueidentifier", "time(3)", "binary(8)"] {
            assert!(scale_of(&column(kind)).unwrap_err().message().contains(kind), "{kind}");
        }
    }
}
