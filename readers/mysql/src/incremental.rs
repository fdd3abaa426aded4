//! Windows along a change column.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;
use weir_core::incremental::clock_moments;
use weir_core::{Error, Incremental, Result, ResultExt, Split, SplitRequest, Window, WindowRequest};
use weir_mysql::{Column, Kind, QUOTING, Session, Table, escape};
use weir_sql::IncrementalConfig;
use weir_sql::incremental::{Asked, Present, Scale, change_column, condition, known, narrowed_size, of_table, unfit};
use weir_sql::statements::select;

use crate::reader::MySqlReader;
use crate::source::{Described, Location};

#[async_trait]
impl Incremental for MySqlReader {
    fn places(&self) -> Vec<String> {
        self.locations.iter().map(Location::place).collect()
    }

    async fn windows(&self, request: &WindowRequest) -> Result<Vec<Window>> {
        let config = self.incremental_config()?;
        let all = self.described().await?;
        let mut held = None;
        let mut windows = Vec::with_capacity(all.len());
        for (location, described) in self.locations.iter().zip(all.iter()) {
            let session = self.hold(&mut held, location).await?;
            let found = window(session, location, described, config, request).await;
            windows.push(found.context("table", &described.label)?);
        }
        if let Some(held) = held {
            held.session.rest().await;
        }
        Ok(windows)
    }

    async fn splits_within(&self, request: &SplitRequest, windows: &[Window]) -> Result<Vec<Split>> {
        self.cut(request, Some(windows)).await
    }
}

fn column_of<'a>(described: &'a Described, config: &IncrementalConfig) -> Result<(&'a Table, &'a Column)> {
    let table = described.table.as_ref().ok_or_else(|| Error::internal("a statement has no window"))?;
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    Ok((table, &table.columns[change_column(config, &names, QUOTING)?]))
}

fn scale_of(column: &Column) -> Result<Scale> {
    scale(&column.kind).ok_or_else(|| unfit(&column.name, &column.type_text))
}

fn scale(kind: &Kind) -> Option<Scale> {
    Some(match *kind {
        Kind::Int { .. } => Scale::Number(0),
        Kind::Decimal { precision, scale } if precision <= 38 && scale >= 0 => Scale::Number(scale as u32),
        Kind::Date => Scale::Date,
        Kind::DateTime(decimals) => Scale::Local(u32::from(decimals)),
        Kind::Timestamp(decimals) => Scale::Instant(u32::from(decimals)),
        _ => return None,
    })
}

/// Whether windows may go by a type.
pub(crate) fn has_order(native_type: &str) -> bool {
    scale(&Kind::parse(native_type)).is_some()
}

async fn window(
    session: &mut Session,
    location: &Location,
    described: &Described,
    config: &IncrementalConfig,
    request: &WindowRequest,
) -> Result<Window> {
    let (table, column) = column_of(described, config)?;
    let indexed = indexed(session, table, column).await?;
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
    asked.window_of(&mut Server { session, column: &column.name, from: &described.from }).await
}

/// Whether an index leads to the column's values in their order, in a table that can have one.
async fn indexed(session: &mut Session, table: &Table, column: &Column) -> Result<bool> {
    let Some(schema) = table.name.schema.as_ref().filter(|_| !table.view) else { return Ok(true) };
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} \
         AND COLUMN_NAME = {} AND SEQ_IN_INDEX = 1 AND INDEX_TYPE NOT IN ('HASH', 'FULLTEXT', 'SPATIAL')",
        escape(schema),
        escape(&table.name.name),
        escape(&column.name)
    );
    let found: Option<u64> = known(session.row(&sql).await, None)?;
    Ok(found.is_none_or(|found| found > 0))
}

/// The server, asked about one column.
struct Server<'a> {
    session: &'a mut Session,
    column: &'a str,
    from: &'a str,
}

impl Present for Server<'_> {
    async fn greatest(&mut self) -> Result<Option<String>> {
        let sql = format!("SELECT CAST(MAX({}) AS CHAR) FROM {}", QUOTING.quote(self.column), self.from);
        Ok(self.session.row::<Option<String>>(&sql).await?.flatten())
    }

    async fn now(&mut self) -> Result<DateTime<Utc>> {
        let text: Option<String> =
            self.session.row("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')").await?;
        let text = text.ok_or_else(|| Error::internal("the server's clock cannot be read"))?;
        text.parse().map_err(|error| Error::internal("the server's clock cannot be read").because(error))
    }

    /// By the clocks of the server's own zone, which is that of sessions where nobody chose another; a relative may not
    /// know it.
    async fn local(&mut self, now: DateTime<Utc>) -> Result<Option<NaiveDateTime>> {
        let local = |moment: &DateTime<Utc>| {
            let moment = escape(&moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string());
            format!("CONVERT_TZ(CAST({moment} AS DATETIME(6)), '+00:00', @@GLOBAL.time_zone)")
        };
        let moments: Vec<_> = clock_moments(now).iter().map(local).collect();
        let sql = format!("SELECT DATE_FORMAT(LEAST({}), '%Y-%m-%dT%H:%i:%s.%f')", moments.join(", "));
        let text = self.session.row::<Option<String>>(&sql).await?;
        Ok(text.flatten().and_then(|text| text.parse().ok()))
    }
}

/// What cutting a table needs of its window: the condition, and the table as if it held the window's rows alone.
pub(crate) async fn narrowed(
    session: &mut Session,
    described: &Described,
    windows: &[Window],
    config: &IncrementalConfig,
    filter: Option<&str>,
) -> Result<(String, Described)> {
    let (table, column) = column_of(described, config)?;
    let window = of_table(windows, &described.label)?;
    let scale = scale_of(column)?;
    let value = |text: &str| {
        Ok(match scale {
            Scale::Number(_) => text.to_owned(),
            Scale::Date => format!("DATE {}", escape(text)),
            // The session's zone is UTC.
            Scale::Local(_) | Scale::Instant(_) => format!("TIMESTAMP {}", escape(text)),
        })
    };
    let condition = condition(window, scale, &QUOTING.quote(&column.name), value)?;
    let mut described = described.clone();
    if window.low.is_none() && window.high.is_some() {
        return Ok((condition, described));
    }
    let conditions: Vec<&str> = std::iter::once(condition.as_str()).chain(filter).collect();
    let explain = format!("EXPLAIN FORMAT=JSON {}", select(&["1"], &described.from, &conditions));
    let text = known(session.row::<String>(&explain).await, None)?;
    let rows = text.and_then(|text| serde_json::from_str(&text).ok()).and_then(|plan| rows_of(&plan));
    let mut narrow = table.clone();
    (narrow.rows, narrow.bytes) = narrowed_size(rows, table.rows, table.bytes);
    described.table = Some(narrow);
    Ok((condition, described))
}

/// How many rows a plan looks at: by MySQL's older words, its newer ones, and MariaDB's.
fn rows_of(plan: &Value) -> Option<u64> {
    let keys = ["rows_examined_per_scan", "estimated_rows", "rows"];
    match plan {
        Value::Object(map) => {
            let here = keys.iter().find_map(|key| map.get(*key)?.as_f64());
            here.map(|rows| rows.max(0.0) as u64).or_else(|| map.values().find_map(rows_of))
        }
        Value::Array(list) => list.iter().find_map(rows_of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plans_of_all_servers_tell_their_rows() {
        let mariadb = json!({"query_block": {"nested_loop": [{"table": {"access_type": "range", "rows": 12}}]}});
        let mysql = json!({"query_block": {"select_id": 1, "table": {"rows_examined_per_scan": 13}}});
        let newer = json!({"query": "select", "query_plan": {"inputs": [], "estimated_rows": 14.0}});
        assert_eq!([mariadb, mysql, newer].map(|plan| rows_of(&plan)), [Some(12), Some(13), Some(14)]);
        assert_eq!(rows_of(&json!({"query_block": {"message": "Impossible WHERE"}})), None);
    }
}
