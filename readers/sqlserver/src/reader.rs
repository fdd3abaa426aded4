//! Reading: schema, splits, rows.

use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use serde::Deserialize;
use tiberius::QueryItem;
use tokio::sync::OnceCell;
use weir_core::{
    BatchSender, Check, ConnectorContext, Error, ErrorKind, Faults, Incremental, ReadRequest, Reader, Result,
    ResultExt, Snapshot, SourceSchema, SourceTable, Split, SplitRequest, Window,
};
use weir_sql::{IncrementalConfig, Object, Sources, columns::is_all, labels, statements::select};
use weir_sqlserver::{Options, Server, Session, Setup, Table, from_driver};

use crate::batch::Building;
use crate::config::{Consistency, SqlServerReaderConfig};
use crate::decode::Decoder;
use crate::holder::{Holders, Key, Work, key};
use crate::incremental::narrowed;
use crate::source::{Described, Isolation, Location, check_equal, look, plain};
use crate::split::{Part, cuts, plan};

/// Reads one logical table: a table, several shards, or statements.
pub struct SqlServerReader {
    config: SqlServerReaderConfig,
    pub(crate) locations: Vec<Location>,
    /// What was ignored.
    warnings: Vec<String>,
    pub(crate) setup: Setup,
    pub(crate) context: ConnectorContext,
    described: OnceCell<Arc<Vec<Described>>>,
}

impl SqlServerReader {
    /// A reader of what `config` names; connects to nothing.
    ///
    /// # Errors
    /// Every rule across parameters that is broken.
    pub fn new(mut config: SqlServerReaderConfig, context: &ConnectorContext) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut locations = Vec::new();
        let Sources { list, warnings } = config.common.sources(context.form)?;
        for source in list {
            match config.options(&source.urls, source.username.as_deref(), source.password.as_ref(), "/url") {
                Ok(options) => locations.push(Location::new(options, source.object, locations.len())),
                Err(more) => faults.0.extend(more.0),
            }
        }
        faults.0.dedup();
        let setup = config.setup();
        faults.or(Self { config, locations, warnings, setup, context: context.clone(), described: OnceCell::new() })
    }

    pub(crate) async fn described(&self) -> Result<Arc<Vec<Described>>> {
        self.described.get_or_try_init(|| self.look_at_all()).await.cloned()
    }

    async fn look_at_all(&self) -> Result<Arc<Vec<Described>>> {
        let mut all: Vec<Described> = Vec::with_capacity(self.locations.len());
        let mut held: Option<Held> = None;
        for (number, location) in self.locations.iter().enumerate() {
            let (columns, filter) = (self.config.common.column.as_slice(), self.config.common.filter());
            let known = location.known(&self.context.shared);
            let described = match known.as_ref().map(|known| plain(known, columns, filter)).transpose()?.flatten() {
                Some(described) => described,
                None => {
                    let session = self.hold(&mut held, location, None).await?;
                    self.look(session, location, number, known).await?
                }
            };
            if let Some(first) = all.first() {
                check_equal(first, &described)?;
            }
            all.push(described);
        }
        if let Some(held) = held {
            held.work.end().await;
        }
        // Shards may have their tables' names in common.
        let places: Vec<String> = self.locations.iter().map(Location::place).collect();
        let labels = labels::distinct(all.iter().map(|d| d.label.as_str()).zip(places.iter().map(String::as_str)));
        for (described, label) in all.iter_mut().zip(labels) {
            described.label = label;
        }
        Ok(Arc::new(all))
    }

    async fn look(
        &self,
        session: &mut Session,
        location: &Location,
        number: usize,
        known: Option<(Server, Table)>,
    ) -> Result<Described> {
        let common = &self.config.common;
        let columns = common.column.as_slice();
        look(session, &location.object, number, columns, common.filter(), self.config.fractions, known).await
    }

    /// A session with the location's server; the one of the location before, where that is the same.
    pub(crate) async fn hold<'a>(
        &self,
        held: &'a mut Option<Held>,
        location: &Location,
        holders: Option<&Arc<Holders>>,
    ) -> Result<&'a mut Session> {
        let key = key(location);
        if held.as_ref().is_none_or(|h| h.key != key) {
            if let Some(old) = held.take() {
                old.work.end().await;
            }
            let work = Work::begin(holders, location, &self.setup, &self.context).await?;
            *held = Some(Held { key, work });
        }
        held.as_mut().ok_or_else(|| Error::internal("no session is held"))?.work.session()
    }

    /// Cuts every table and statement, or what of it lies in the windows.
    pub(crate) async fn cut(&self, request: &SplitRequest, windows: Option<&[Window]>) -> Result<Vec<Split>> {
        let all = self.described().await?;
        let mut held = None;
        let mut splits = Vec::new();
        let common = &self.config.common;
        let key = common.split_pk.as_deref();
        let holders = Holders::find(&self.context, request.snapshot.as_ref());
        for (source, (location, described)) in self.locations.iter().zip(all.iter()).enumerate() {
            let narrow = match windows {
                None => None,
                Some(windows) => {
                    let config = self.incremental_config()?;
                    let session = self.hold(&mut held, location, holders.as_ref()).await?;
                    let narrowed = narrowed(session, described, windows, config, common.filter()).await;
                    Some(narrowed.context("table", &described.label)?)
                }
            };
            let described = narrow.as_ref().map_or(described, |narrow| &narrow.described);
            let cut = cuts(described, all.len(), key, request).context("table", &described.label)?;
            // Who reads a table in one piece need not ask about it.
            let planned = match cut {
                Some(cut) => {
                    let session = self.hold(&mut held, location, holders.as_ref()).await?;
                    plan(Some((session, cut)), source, described, narrow.as_ref()).await
                }
                None => plan(None, source, described, narrow.as_ref()).await,
            };
            splits.extend(planned.context("table", &described.label)?);
        }
        if let Some(held) = held {
            held.work.end().await;
        }
        Ok(splits)
    }

    pub(crate) fn incremental_config(&self) -> Result<&IncrementalConfig> {
        self.config.common.incremental.as_ref().ok_or_else(|| Error::internal("the job asks for no window"))
    }

    /// What the plan says of the moment that rows show.
    fn isolation_warning(&self, all: &[Described]) -> Option<String> {
        if self.config.consistency != Consistency::Auto {
            return None;
        }
        let worst = all.iter().map(|d| d.isolation).max_by_key(|i| match i {
            Isolation::Snapshot => 0,
            Isolation::Versioned => 1,
            Isolation::Locking => 2,
        })?;
        Some(match worst {
            Isolation::Snapshot => "read under SNAPSHOT isolation: each split shows the moment at which its own read \
                                    begins; `consistency: lock` makes it one moment for all"
                .into(),
            Isolation::Versioned => {
                "the database allows no SNAPSHOT isolation; its READ COMMITTED reads versions: each \
                                     split shows the moment at which its own read begins"
                    .into()
            }
            Isolation::Locking => {
                "the database allows no SNAPSHOT isolation, so rows that move while they are read may be \
                                   met twice or not at all: ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON, or use \
                                   `consistency: lock`"
                    .into()
            }
        })
    }
}

/// An open session.
pub(crate) struct Held {
    key: Key,
    pub(crate) work: Work,
}

#[async_trait]
impl Reader for SqlServerReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let all = self.described().await?;
        let mut schema = SourceSchema { listed: !is_all(self.config.common.column.as_slice()), ..Default::default() };
        for described in all.iter() {
            let (rows, bytes) = described.table.as_ref().map_or((None, None), |t| (t.rows, t.bytes));
            schema.tables.push(SourceTable { name: described.label.clone(), rows, bytes });
        }
        if let Some(first) = all.first() {
            for (i, offered) in first.columns.iter().enumerate() {
                let mut column = offered.source_column(self.config.fractions).context("table", &first.label)?;
                // A NULL may come from any shard.
                column.nullable = all.iter().any(|d| d.columns[i].nullable);
                schema.columns.push(column);
            }
        }
        let warnings = self.locations.iter().flat_map(|l| &l.options).flat_map(|o| o.warnings.iter().cloned());
        schema.warnings.extend(warnings);
        schema.warnings.extend(self.warnings.iter().cloned());
        schema.warnings.extend(self.isolation_warning(&all));
        schema.warnings.dedup();
        Ok(schema)
    }

    async fn splits(&self, request: &SplitRequest) -> Result<Vec<Split>> {
        self.cut(request, None).await
    }

    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let part = Part::deserialize(&split.part)
            .map_err(|e| Error::internal("the split is none of this reader's").because(e))?;
        let location =
            self.locations.get(part.source).ok_or_else(|| Error::internal("the split's source is not in the job"))?;
        self.read_part(&part, location, request, output).await.context("table", &split.table)
    }

    fn snapshot(&self) -> Option<&dyn Snapshot> {
        (self.config.consistency == Consistency::Lock).then_some(self)
    }

    fn homes(&self) -> Vec<String> {
        let first = |location: &Location| location.options.first().map(Options::home).unwrap_or_default();
        self.locations.iter().map(first).collect()
    }

    fn incremental(&self) -> Option<&dyn Incremental> {
        self.config.common.incremental.as_ref().map(|_| self as &dyn Incremental)
    }

    async fn check(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut held = None;
        for (number, location) in self.locations.iter().enumerate() {
            let place = location.options.first().map(Options::place).unwrap_or_default();
            let session = match self.hold(&mut held, location, None).await {
                Ok(session) => session,
                Err(error) => {
                    let what = if error.kind() == ErrorKind::Unreachable { "connect" } else { "login" };
                    checks.push(Check::fault(format!("{what} {place}"), error.full()));
                    continue;
                }
            };
            if !checks.iter().any(|c: &Check| c.what == format!("login {place}")) {
                let version = weir_sqlserver::server(session).await.map(|s| s.version).unwrap_or_default();
                checks.push(Check::ok(format!("login {place}"), format!("server {version}")));
            }
            let what = match &location.object {
                Object::Table(_) => format!("SELECT on {}", location.shown),
                Object::Query(_) => location.shown.clone(),
            };
            checks.push(Check::of(what, self.columns(session, location, number).await));
        }
        if let Some(held) = held {
            held.work.end().await;
        }
        checks
    }
}

impl SqlServerReader {
    async fn columns(&self, session: &mut Session, location: &Location, number: usize) -> Result<String> {
        let described = self.look(session, location, number, None).await?;
        let columns: Vec<_> =
            described.columns.iter().map(|c| c.source_column(self.config.fractions)).collect::<Result<_>>()?;
        if described.table.is_some() {
            // Columns show to anybody with any permission on the table; only a SELECT proves SELECT.
            session.run(&format!("SELECT TOP 1 1 AS weir_check FROM {}", described.from)).await?;
        }
        Ok(format!("{} columns", columns.len()))
    }

    async fn read_part(
        &self,
        part: &Part,
        location: &Location,
        request: &ReadRequest,
        output: &mut dyn BatchSender,
    ) -> Result<()> {
        let decoders = request.columns.iter().map(|c| Decoder::new(&c.field)).collect::<Result<Vec<_>>>()?;
        let (sql, places) = self.statement(part, request)?;
        let mut batch = Building::new(request.arrow_schema(), decoders);
        let holders = Holders::find(&self.context, request.snapshot.as_ref());
        let mut work = Work::begin(holders.as_ref(), location, &self.setup, &self.context).await?;
        let holds = work.holds();
        let session = work.session()?;
        if !holds {
            let isolation = match self.config.consistency {
                Consistency::Auto if part.isolation == Isolation::Snapshot => "SNAPSHOT",
                _ => "READ COMMITTED",
            };
            session.run(&format!("SET TRANSACTION ISOLATION LEVEL {isolation}")).await?;
            session.run("BEGIN TRANSACTION").await?;
        }
        // Any other statement has the limit in it.
        let limit = request.limit.filter(|_| part.bare).unwrap_or(u64::MAX);
        let mut ended = rows(session, &sql, &places, &mut batch, limit, output).await;
        if let (Ok(true), Some(changes)) = (&ended, &part.changes) {
            ended = changes.still_kept(session).await.map(|()| true);
        }
        match ended {
            Ok(true) => {
                // All rows are here, whatever becomes of the session; a statement of the job's may have done anything to it.
                if part.bare || (!holds && session.run("COMMIT TRANSACTION").await.is_err()) {
                    session.spoil();
                }
                work.end().await;
            }
            // Rows that nobody wants any more may still be on their way.
            Ok(false) => work.stop().await,
            Err(error) => {
                work.stop().await;
                return Err(error);
            }
        }
        if let Some(rest) = batch.finish()? {
            output.send(rest).await?;
        }
        match holders.filter(|_| !holds) {
            Some(holders) => holders.check(location, &self.context).await,
            None => Ok(()),
        }
    }

    /// The statement, and where each wanted column stands in its rows.
    fn statement(&self, part: &Part, request: &ReadRequest) -> Result<(String, Vec<usize>)> {
        let gone = || Error::internal("no such column in the split");
        let wanted = request.columns.iter().map(|c| part.columns.get(c.index).ok_or_else(gone));
        let wanted = wanted.collect::<Result<Vec<_>>>()?;
        if part.bare {
            return Ok((part.from.clone(), request.columns.iter().map(|c| c.index).collect()));
        }
        // A job of constants asks for no column, but for as many rows. Each column has a name, for the server's sake.
        let named =
            |(i, cell): (usize, &&crate::source::Cell)| format!("{} AS w{i}", cell.selected(self.config.fractions));
        let mut list: Vec<String> = wanted.iter().enumerate().map(named).collect();
        if list.is_empty() {
            list.push("1 AS w0".into());
        }
        if let (Some(limit), Some(first)) = (request.limit, list.first_mut()) {
            *first = format!("TOP ({limit}) {first}");
        }
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let filter = self.config.common.filter().filter(|_| part.table);
        let conditions: Vec<&str> =
            part.condition.as_deref().into_iter().chain(part.window.as_deref()).chain(filter).collect();
        Ok((select(&list, &part.from, &conditions), (0..wanted.len()).collect()))
    }
}

/// Runs the statement and sends its rows. `true`: the server has sent everything.
async fn rows(
    session: &mut Session,
    sql: &str,
    places: &[usize],
    batch: &mut Building,
    limit: u64,
    output: &mut dyn BatchSender,
) -> Result<bool> {
    let (client, watch) = session.parts();
    let mut stream = watch.until(Box::pin(client.simple_query(sql))).await?.map_err(from_driver)?;
    let mut left = limit;
    while left > 0 {
        let item = watch.until(stream.try_next()).await?.map_err(from_driver)?;
        let row = match item {
            Some(QueryItem::Row(row)) if row.result_index() == 0 => row,
            // A statement may say more than its first result; the rest is read and dropped.
            Some(_) => continue,
            None => return Ok(true),
        };
        left -= 1;
        let bytes = batch.bytes_of(&row);
        if batch.is_full(bytes)
            && let Some(full) = batch.finish()?
        {
            output.send(full).await?;
        }
        if let Some(dirty) = batch.append(&row, places, bytes)? {
            output.reject(dirty).await?;
        }
    }
    Ok(false)
}
