//! Windows along a change column.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use weir_core::incremental::clock_moments;
use weir_core::{Error, Incremental, Result, ResultExt, Split, SplitRequest, Window, WindowRequest};
use weir_postgresql::catalog::{Table, TableColumn};
use weir_postgresql::{PgType, Session, Wire, literal};
use weir_sql::incremental::{Asked, Present, Scale, change_column, condition, known, narrowed_size, of_table, unfit};
use weir_sql::{IncrementalConfig, Quoting, statements};

use crate::PostgresqlReader;
use crate::source::Described;

#[async_trait]
impl Incremental for PostgresqlReader {
    fn places(&self) -> Vec<String> {
        self.sources.iter().map(|located| self.endpoints[located.endpoint].place()).collect()
    }

    async fn windows(&self, request: &WindowRequest) -> Result<Vec<Window>> {
        let config = self.incremental_config()?;
        let described = self.describe().await?;
        let mut windows = Vec::with_capacity(described.len());
        let mut session: Option<(usize, Session)> = None;
        for (located, described) in self.sources.iter().zip(described.iter()) {
            let open = self.hold(&mut session, located.endpoint).await?;
            let place = self.endpoints[located.endpoint].place();
            windows.push(window(open, described, &place, config, request).await.context("table", &described.name)?);
        }
        if let Some((_, session)) = session {
            session.rest().await;
        }
        Ok(windows)
    }

    async fn splits_within(&self, request: &SplitRequest, windows: &[Window]) -> Result<Vec<Split>> {
        self.cut(request, Some(windows)).await
    }
}

impl PostgresqlReader {
    pub(crate) fn incremental_config(&self) -> Result<&IncrementalConfig> {
        self.config.common.incremental.as_ref().ok_or_else(|| Error::internal("the job asks for no window"))
    }
}

fn column_of<'a>(described: &'a Described, config: &IncrementalConfig) -> Result<(&'a Table, &'a TableColumn)> {
    let table = described.table.as_ref().ok_or_else(|| Error::internal("a statement has no window"))?;
    Ok((table, &table.columns[change_column(config, &table.names(), Quoting::DOUBLE)?]))
}

fn scale_of(column: &TableColumn) -> Result<Scale> {
    scale(&column.pg).ok_or_else(|| unfit(&column.name, &column.pg.text))
}

fn scale(pg: &PgType) -> Option<Scale> {
    Some(match pg.wire() {
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid => Scale::Number(0),
        Wire::Numeric(Some((precision, scale))) if precision <= 38 && scale >= 0 => Scale::Number(scale as u32),
        Wire::Date => Scale::Date,
        Wire::Timestamp(decimals) => Scale::Local(decimals as u32),
        Wire::TimestampTz(decimals) => Scale::Instant(decimals as u32),
        _ => return None,
    })
}

/// Whether windows may go by a type; what is none of PostgreSQL's own may be a domain.
pub(crate) fn has_order(native_type: &str) -> bool {
    PgType::parse(native_type).is_none_or(|pg| scale(&pg).is_some())
}

async fn window(
    session: &mut Session,
    described: &Described,
    place: &str,
    config: &IncrementalConfig,
    request: &WindowRequest,
) -> Result<Window> {
    let (table, column) = column_of(described, config)?;
    let indexed = indexed(session, table, column).await?;
    let asked = Asked {
        table: &described.name,
        place,
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
async fn indexed(session: &mut Session, table: &Table, column: &TableColumn) -> Result<bool> {
    if !matches!(table.kind, 'r' | 'p' | 'm') {
        return Ok(true);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
           JOIN pg_catalog.pg_am m ON m.oid = c.relam \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
           WHERE i.indrelid = {} AND i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'brin') \
             AND a.attname = {})",
        table.oid,
        literal(&column.name)
    );
    known(session.value(&sql).await, true)
}

/// The server, asked about one column.
struct Server<'a> {
    session: &'a mut Session,
    column: &'a str,
    from: &'a str,
}

impl Present for Server<'_> {
    async fn greatest(&mut self) -> Result<Option<String>> {
        let name = Quoting::DOUBLE.quote(self.column);
        self.session.value(&format!("SELECT max({name})::text FROM {}", self.from)).await
    }

    async fn endless(&mut self) -> Result<bool> {
        let name = Quoting::DOUBLE.quote(self.column);
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {name} = 'infinity')", self.from);
        self.session.value(&sql).await
    }

    async fn now(&mut self) -> Result<DateTime<Utc>> {
        let sql = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let text: String = self.session.value(sql).await?;
        text.parse().map_err(|error| Error::internal("the server's clock cannot be read").because(error))
    }

    /// By the clocks of the zone of the server's log, which is that of its sessions where nobody chose another, and of the
    /// zones that the database and its users were given; a relative may have no such settings.
    async fn local(&mut self, now: DateTime<Utc>) -> Result<Option<NaiveDateTime>> {
        let moments: Vec<_> = clock_moments(now)
            .iter()
            .map(|moment| format!("(timestamptz {})", literal(&moment.to_rfc3339())))
            .collect();
        let sql = format!(
            "SELECT to_char(min(m.t AT TIME ZONE z.name), 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM (VALUES {}) m(t), ( \
               SELECT current_setting('log_timezone') UNION \
               SELECT substr(c, 10) FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c \
               WHERE c ILIKE 'timezone=%' AND s.setdatabase IN \
                 (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) \
             ) z(name)",
            moments.join(", ")
        );
        let text: Option<String> = self.session.value(&sql).await?;
        Ok(text.and_then(|text| text.parse().ok()))
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
    let window = of_table(windows, &described.name)?;
    let scale = scale_of(column)?;
    let value = |text: &str| {
        Ok(match scale {
            Scale::Number(_) => text.to_owned(),
            Scale::Date => format!("date {}", literal(text)),
            Scale::Local(_) => format!("timestamp {}", literal(text)),
            Scale::Instant(_) => format!("timestamptz {}", literal(&format!("{text}+00"))),
        })
    };
    let condition = condition(window, scale, &Quoting::DOUBLE.quote(&column.name), value)?;
    let mut described = described.clone();
    if window.low.is_none() && window.high.is_some() {
        return Ok((condition, described));
    }
    // An index may lead to the window's rows: ranges of pages would read the whole table instead.
    let conditions: Vec<&str> = std::iter::once(condition.as_str()).chain(filter).collect();
    let explain = format!("EXPLAIN {}", statements::select(&["1"], &described.from, &conditions));
    let top: String = session.value(&explain).await?;
    let rows: Option<u64> = top.split_once("rows=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let mut narrow = table.clone();
    narrow.heap = false;
    (narrow.rows, narrow.bytes) = narrowed_size(rows, table.rows, table.bytes);
    described.table = Some(narrow);
    Ok((condition, described))
}
