//! The reader.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::OnceCell;
use weir_core::{
    BatchSender, Check, ConnectorContext, Error, ErrorKind, Faults, Incremental, ReadRequest, Reader, Result,
    ResultExt, Snapshot, SourceColumn, SourceSchema, SourceTable, Split, SplitRequest, Window,
};
use weir_postgresql::catalog::looked_ahead;
use weir_postgresql::copy::Decoder;
use weir_postgresql::error::is_state;
use weir_postgresql::snapshot::Locked;
use weir_postgresql::{Endpoint, LOCK_TIMEOUT, Next, RowSession, Session};
use weir_sql::{Object, Quoting, Source, Sources, TableName, columns::is_all, labels, statements};

use crate::config::PostgresqlReaderConfig;
use crate::incremental::narrowed;
use crate::shards::unify;
use crate::source::{Described, describe, plain, select_entry};
use crate::split::{Part, cuts, splits};

/// How long a split waits for a lock on a table, unless the job's session says otherwise.
const LOCK_WAIT: &str = "5s";

/// The server would compile the select list of a large table into machine code, once a split; of a list that only names
/// columns nothing is to be gained, and of one of 500 columns it took longer than the rows. Servers before version 11 have
/// no such setting.
const NO_COMPILER: &str =
    "SELECT set_config(name, 'off', true) FROM pg_catalog.pg_settings WHERE name = 'jit' AND setting = 'on'";

/// Reads the tables or queries of a job.
pub struct PostgresqlReader {
    pub(crate) config: PostgresqlReaderConfig,
    pub(crate) sources: Vec<Located>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// What was ignored.
    warnings: Vec<String>,
    pub(crate) context: ConnectorContext,
    described: OnceCell<Arc<Vec<Described>>>,
}

/// A table or query, and the database it is in.
pub(crate) struct Located {
    pub(crate) source: Source,
    pub(crate) endpoint: usize,
}

impl PostgresqlReader {
    /// Checks the parameters; connects to nothing.
    ///
    /// # Errors
    /// All faults of the parameters.
    pub fn new(mut config: PostgresqlReaderConfig, context: ConnectorContext) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut endpoints = Vec::new();
        let mut places: Vec<(Vec<String>, Option<String>)> = Vec::new();
        let mut sources = Vec::new();
        let Sources { list, warnings } = config.common.sources(context.form)?;
        for source in list {
            // Several tables of one database share its snapshot.
            let place = (source.urls.clone(), source.username.clone());
            let endpoint = match places.iter().position(|p| *p == place) {
                Some(index) => index,
                None => {
                    let session = config.common.session.as_slice();
                    let login = source.username.as_deref();
                    match Endpoint::new(&source.urls, login, source.password.as_ref(), &config.tls, session) {
                        Ok(endpoint) => {
                            places.push(place);
                            endpoints.push(endpoint);
                            endpoints.len() - 1
                        }
                        Err(more) => {
                            faults.0.extend(more.0);
                            continue;
                        }
                    }
                }
            };
            sources.push(Located { source, endpoint });
        }
        faults.or(Self { config, sources, warnings, endpoints, context, described: OnceCell::new() })
    }

    /// Every table and query, described once in the life of this reader.
    pub(crate) async fn describe(&self) -> Result<Arc<Vec<Described>>> {
        let described = self.described.get_or_try_init(|| async {
            let mut sessions: Vec<Option<Session>> = self.endpoints.iter().map(|_| None).collect();
            let mut all: Vec<Described> = Vec::with_capacity(self.sources.len());
            for (index, located) in self.sources.iter().enumerate() {
                let (endpoint, shared) = (&self.endpoints[located.endpoint], &self.context.shared);
                let mut known = None;
                if let Object::Table(name) = &located.source.object
                    && let Ok(name) = TableName::parse(name, Quoting::DOUBLE)
                {
                    if let Some(error) = Locked::refusal(shared, endpoint, &name) {
                        return Err(error);
                    }
                    known = Locked::table(shared, endpoint, &name).or_else(|| looked_ahead(shared, endpoint, &name));
                }
                let entries = (self.config.common.column.as_slice(), self.config.only.unwrap_or_default());
                if let Some(described) = known.as_ref().map(|table| plain(table, entries)).transpose()?.flatten() {
                    all.push(described);
                    continue;
                }
                let slot = &mut sessions[located.endpoint];
                let session = match slot {
                    Some(session) => session,
                    None => slot.insert(endpoint.connect(&self.context).await?),
                };
                all.push(describe(session, &located.source, index, entries, known).await?);
            }
            unify(&mut all)?;
            for session in sessions.into_iter().flatten() {
                session.rest().await;
            }
            // Shards may have their tables' names in common.
            let places: Vec<String> = self.sources.iter().map(|s| self.endpoints[s.endpoint].place()).collect();
            let labels = labels::distinct(all.iter().map(|d| d.name.as_str()).zip(places.iter().map(String::as_str)));
            for (described, label) in all.iter_mut().zip(labels) {
                described.name = label;
            }
            Ok::<_, Error>(Arc::new(all))
        });
        described.await.cloned()
    }

    /// A session with a database; the one in hand, where that is of the same.
    pub(crate) async fn hold<'a>(
        &self,
        held: &'a mut Option<(usize, Session)>,
        endpoint: usize,
    ) -> Result<&'a mut Session> {
        let session = match held.take() {
            Some((of, session)) if of == endpoint => session,
            other => {
                if let Some((_, session)) = other {
                    session.rest().await;
                }
                self.endpoints[endpoint].connect(&self.context).await?
            }
        };
        Ok(&mut held.insert((endpoint, session)).1)
    }

    /// Cuts every table and query, or what of it lies in the windows.
    pub(crate) async fn cut(&self, request: &SplitRequest, windows: Option<&[Window]>) -> Result<Vec<Split>> {
        let described = self.describe().await?;
        let mut all = Vec::new();
        let mut session: Option<(usize, Session)> = None;
        // DataX shares the channels among the tables.
        let channels = request.channels.max(1).div_ceil(described.len().max(1));
        let request = SplitRequest { channels, ..request.clone() };
        for (located, described) in self.sources.iter().zip(described.iter()) {
            let common = &self.config.common;
            let key = common.split_pk.as_deref();
            let mut filters: Vec<String> = common.filter().map(str::to_owned).into_iter().collect();
            let narrow = match windows {
                None => None,
                Some(windows) => {
                    let config = self.incremental_config()?;
                    let open = self.hold(&mut session, located.endpoint).await?;
                    let narrowed = narrowed(open, described, windows, config, common.filter()).await;
                    let (condition, narrow) = narrowed.context("table", &described.name)?;
                    filters.push(condition);
                    Some(narrow)
                }
            };
            let described = narrow.as_ref().unwrap_or(described);
            let cut = cuts(described, key, &request).context("table", &described.name)?;
            // Who reads a table in one piece need not ask about it.
            let cut = match cut {
                Some(cut) => Some((self.hold(&mut session, located.endpoint).await?, cut)),
                None => None,
            };
            let found = splits(cut, located.endpoint, described, &filters, &request).await;
            let locked = described.table.as_ref().is_some_and(|table| matches!(table.kind, 'r' | 'p'));
            let found = found.map_err(|error| behind(error, locked && request.snapshot.is_some()));
            all.extend(found.context("table", &described.name)?);
        }
        if let Some((_, session)) = session {
            session.rest().await;
        }
        Ok(all)
    }
}

#[async_trait]
impl Reader for PostgresqlReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let described = self.describe().await?;
        let first = described.first().ok_or_else(|| Error::config("no `table`: name a table, or give a `querySql`"))?;
        let columns = first.columns.iter().enumerate().map(|(i, c)| SourceColumn {
            name: c.name.clone(),
            native_type: c.pg.text.clone(),
            // A shard that takes NULL is enough.
            nullable: described.iter().any(|d| d.columns.get(i).is_none_or(|c| c.nullable)),
            key: c.key,
            representations: c.representations(),
            comment: c.comment.clone(),
        });
        let tables = described.iter().map(|d| SourceTable {
            name: d.name.clone(),
            rows: d.table.as_ref().and_then(|t| t.rows),
            bytes: d.table.as_ref().and_then(|t| t.bytes),
        });
        let mut warnings: Vec<String> = self.endpoints.iter().flat_map(Endpoint::warnings).collect();
        warnings.dedup();
        warnings.extend(self.warnings.iter().cloned());
        Ok(SourceSchema {
            columns: columns.collect(),
            tables: tables.collect(),
            listed: !is_all(self.config.common.column.as_slice()),
            warnings,
        })
    }

    async fn splits(&self, request: &SplitRequest) -> Result<Vec<Split>> {
        self.cut(request, None).await
    }

    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let part = Part::deserialize(&split.part).map_err(|e| Error::internal("a split cannot be read").because(e))?;
        let Some(endpoint) = self.endpoints.get(part.endpoint) else {
            return Err(Error::internal("a split belongs to none of the job's databases"));
        };
        let mut types = Vec::with_capacity(request.columns.len());
        let mut list = Vec::with_capacity(request.columns.len());
        for wanted in &request.columns {
            let column = part.column(wanted.index, wanted.field.name()).ok_or_else(|| {
                Error::new(ErrorKind::Schema, "the source had fewer columns when its splits were planned")
            })?;
            let pg = column.pg();
            list.push(select_entry(&column.sql(), &pg, &wanted.field));
            types.push(pg);
        }
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let conditions: Vec<&str> = part.conditions.iter().map(String::as_str).collect();
        let mut select = statements::select(&list, &part.from, &conditions);
        if let Some(limit) = request.limit {
            select.push_str(&format!("\nLIMIT {limit}"));
        }
        let mut decoder = Decoder::new(request.arrow_schema(), &types)?;
        let mut session = endpoint.connect_rows(&self.context).await?;
        begin(&mut session, request, part.endpoint).await?;
        if !part.is_query() {
            session.execute(NO_COMPILER).await?;
        }
        let copy = format!("COPY ({select}\n) TO STDOUT (FORMAT binary)");
        let locked = request.snapshot.is_some() && !part.is_query();
        let copying = session.copy(&copy).await.map_err(|error| behind(error, locked));
        copying.context("table", &split.table)?;
        let mut pieces = Vec::new();
        loop {
            let next = session.pieces(&mut pieces).context("table", &split.table)?;
            decoder.push_all(session.bytes(), &pieces)?;
            deliver(&mut decoder, output).await?;
            match next {
                Next::More => {}
                Next::Wait => session.fill().await.context("table", &split.table)?,
                Next::End => break,
            }
        }
        decoder.finish()?;
        deliver(&mut decoder, output).await?;
        // All rows are here: whatever becomes of the session now is no fault of the split.
        if session.execute("COMMIT").await.is_ok() {
            session.rest().await;
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Check> {
        crate::check::check(self).await
    }

    fn snapshot(&self) -> Option<&dyn Snapshot> {
        Some(self)
    }

    fn homes(&self) -> Vec<String> {
        self.sources.iter().map(|located| self.endpoints[located.endpoint].home()).collect()
    }

    fn incremental(&self) -> Option<&dyn Incremental> {
        self.config.common.incremental.as_ref().map(|_| self as &dyn Incremental)
    }
}

async fn begin(session: &mut RowSession, request: &ReadRequest, endpoint: usize) -> Result<()> {
    let Some(tokens) = &request.snapshot else {
        session.execute("BEGIN READ ONLY").await?;
        return Ok(());
    };
    let token = tokens.get(endpoint).and_then(|t| t.as_str());
    let token = token.ok_or_else(|| Error::internal("the snapshot is none of this database"))?;
    // Our snapshot's own session locks the tables. Whoever wants to alter one waits for that, and we would wait for
    // them in turn, for ever: the server sees no deadlock, for we wait for ourselves outside of it.
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
         SELECT set_config('lock_timeout', CASE WHEN setting = '0' OR (setting || unit)::interval = '{LOCK_TIMEOUT}' \
         THEN '{LOCK_WAIT}' ELSE setting || unit END, true) \
         FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'",
        weir_postgresql::literal(token)
    );
    session.execute(&begin).await.map_err(|error| match error.kind() {
        ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout => error,
        _ => Error::new(
            ErrorKind::SnapshotLost,
            "the source's snapshot is gone (its connection broke, or the server was restarted): run the job again",
        )
        .because(error),
    })
}

/// Of a table that the run's own session has locked for its snapshot: whoever does not get a lock then as a rule stands behind
/// somebody who waits for the run's end.
fn behind(error: Error, locked: bool) -> Error {
    if !locked || !is_state(&error, &["55P03"]) {
        return error;
    }
    let text = "another session holds a lock on it or waits for one (ALTER, DROP, TRUNCATE, LOCK …); one that waits may do so \
                until this run ends, whose snapshot keeps it from that, and the run waits behind it in turn: let it finish \
                and run the job again, or repeat its statement after the run";
    Error::new(ErrorKind::Conflict, text).with("sqlstate", "55P03").retryable(true)
}

async fn deliver(decoder: &mut Decoder, output: &mut dyn BatchSender) -> Result<()> {
    if !decoder.is_ready() {
        return Ok(());
    }
    let ready: Vec<_> = decoder.take_ready().collect();
    for decoded in ready {
        if decoded.batch.num_rows() > 0 {
            output.send(decoded.batch).await?;
        }
        for row in decoded.dirty {
            output.reject(row).await?;
        }
    }
    Ok(())
}
