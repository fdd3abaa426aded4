//! Reading: schema, splits, rows.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::{OnceCell, OwnedMutexGuard};
use weir_core::{
    BatchSender, Check, ConnectorContext, Error, ErrorKind, Faults, Incremental, ReadRequest, Reader, Result,
    ResultExt, Snapshot, SourceSchema, SourceTable, Split, SplitRequest, Window,
};
use weir_mysql::wire::{Next, Wire};
use weir_mysql::{Options, QUOTING, RowSession, Session, Setup, Shape, Watch, ZeroDate, connect_first, connect_rows};
use weir_sql::{IncrementalConfig, Object, Sources, TableName, columns::is_all, labels, statements::select};

use crate::batch::Building;
use crate::config::{Consistency, MySqlReaderConfig};
use crate::decode::Decoder;
use crate::incremental::narrowed;
use crate::pool;
use crate::snapshot;
use crate::source::{Described, Location, check_equal, look, plain};
use crate::split::{Asked, Part, cuts, plan};

/// Reads one logical table: a table, several shards, or statements.
pub struct MySqlReader {
    config: MySqlReaderConfig,
    pub(crate) locations: Vec<Location>,
    /// What was ignored.
    warnings: Vec<String>,
    pub(crate) setup: Setup,
    shape: Shape,
    zero_date: ZeroDate,
    pub(crate) context: ConnectorContext,
    described: OnceCell<Arc<Vec<Described>>>,
}

impl MySqlReader {
    /// A reader of what `config` names; connects to nothing.
    ///
    /// # Errors
    /// Every rule across parameters that is broken.
    pub fn new(mut config: MySqlReaderConfig, context: &ConnectorContext) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut locations = Vec::new();
        let Sources { list, warnings } = config.common.sources(context.form)?;
        for source in list {
            match config.options(&source.urls, source.username.as_deref(), source.password.as_ref(), "/url") {
                Ok(options) => locations.push(Location { options, object: source.object }),
                Err(more) => faults.0.extend(more.0),
            }
        }
        faults.0.dedup();
        faults.or(())?;
        let of_url = |get: &dyn Fn(&Options) -> bool| locations.iter().flat_map(|l| &l.options).any(get);
        let shape = Shape { tiny_is_bool: of_url(&|o| o.tiny_is_bool), year_is_date: of_url(&|o| o.year_is_date) };
        let url = locations.iter().flat_map(|l| &l.options).find_map(|o| o.zero_date);
        Ok(Self {
            setup: config.setup(),
            zero_date: config.zero_date(url, context.form),
            context: context.clone(),
            described: OnceCell::new(),
            config,
            locations,
            warnings,
            shape,
        })
    }

    pub(crate) fn consistency(&self) -> Consistency {
        self.config.consistency
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
            let described = match known.as_ref().map(|table| plain(table, columns, filter)).transpose()?.flatten() {
                Some(described) => described,
                None => {
                    let session = self.hold(&mut held, location).await?;
                    look(session, &location.object, number, columns, filter, known).await?
                }
            };
            if let Some(first) = all.first() {
                check_equal(first, &described)?;
            }
            all.push(described);
        }
        if let Some(held) = held {
            held.session.rest().await;
        }
        // Shards may have their tables' names in common.
        let places: Vec<String> = self.locations.iter().map(Location::place).collect();
        let labels = labels::distinct(all.iter().map(|d| d.label.as_str()).zip(places.iter().map(String::as_str)));
        for (described, label) in all.iter_mut().zip(labels) {
            described.label = label;
        }
        Ok(Arc::new(all))
    }

    /// A session with the location's server; the one of the location before, where that is the same.
    pub(crate) async fn hold<'a>(&self, held: &'a mut Option<Held>, location: &Location) -> Result<&'a mut Session> {
        let place =
            location.options.first().map(|o| (o.place(), o.user.clone(), o.database.clone())).unwrap_or_default();
        if held.as_ref().is_none_or(|h| h.place != place) {
            if let Some(old) = held.take() {
                old.session.rest().await;
            }
            let _turn = pool::turn(&self.context).await;
            let session = connect_first(&location.options, &self.setup, &self.context).await?;
            *held = Some(Held { place, session, _turn });
        }
        held.as_mut().map(|h| &mut h.session).ok_or_else(|| Error::internal("no session is held"))
    }

    /// Cuts every table and statement, or what of it lies in the windows.
    pub(crate) async fn cut(&self, request: &SplitRequest, windows: Option<&[Window]>) -> Result<Vec<Split>> {
        let all = self.described().await?;
        let mut held = None;
        let mut splits = Vec::new();
        let common = &self.config.common;
        let key = common.split_pk.as_deref();
        for (source, (location, described)) in self.locations.iter().zip(all.iter()).enumerate() {
            let narrow = match windows {
                None => None,
                Some(windows) => {
                    let config = self.incremental_config()?;
                    let session = self.hold(&mut held, location).await?;
                    let narrowed = narrowed(session, described, windows, config, common.filter()).await;
                    Some(narrowed.context("table", &described.label)?)
                }
            };
            let (window, described) = match &narrow {
                Some((window, narrow)) => (Some(window.as_str()), narrow),
                None => (None, described),
            };
            let cut = cuts(described, all.len(), key, request).context("table", &described.label)?;
            // Who reads a table in one piece need not ask about it. Where connections are counted, one of those that hold
            // the snapshot is at hand: no more than that work at once.
            let snapshot = request.snapshot.as_ref().filter(|_| self.context.shared.room().is_some());
            let planned = match (cut, snapshot) {
                (None, _) => plan(None, source, described, window).await,
                (Some(cut), None) => {
                    let session = self.hold(&mut held, location).await?;
                    plan(Some((Asked::Session(session), cut)), source, described, window).await
                }
                (Some(cut), Some(token)) => {
                    // Others may have to ask meanwhile.
                    if let Some(held) = held.take() {
                        held.session.rest().await;
                    }
                    let mut loan = pool::borrow(&self.context, token, source).await?;
                    let planned = plan(Some((Asked::Rows(loan.session()?), cut)), source, described, window).await;
                    match planned {
                        Err(error) if error.kind() == ErrorKind::Unreachable => Err(loan.broke(error)),
                        // The server has not answered; asked again, it would cost the other tables one connection more.
                        Err(error) if error.kind() == ErrorKind::Timeout && !is_answer(&error) => {
                            Err(loan.broke(error).retryable(false))
                        }
                        // What goes on at the server nobody knows.
                        Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
                        planned => {
                            loan.give_back();
                            planned
                        }
                    }
                }
            };
            splits.extend(planned.context("table", &described.label)?);
        }
        if let Some(held) = held {
            held.session.rest().await;
        }
        Ok(splits)
    }

    pub(crate) fn incremental_config(&self) -> Result<&IncrementalConfig> {
        self.config.common.incremental.as_ref().ok_or_else(|| Error::internal("the job asks for no window"))
    }
}

/// Whether it is the server that says so.
fn is_answer(error: &Error) -> bool {
    error.context().iter().any(|(key, _)| *key == "code")
}

/// An open session.
pub(crate) struct Held {
    place: (String, String, Option<String>),
    pub(crate) session: Session,
    _turn: Option<OwnedMutexGuard<()>>,
}

#[async_trait]
impl Reader for MySqlReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let all = self.described().await?;
        let mut schema = SourceSchema { listed: !is_all(self.config.common.column.as_slice()), ..Default::default() };
        for described in all.iter() {
            let (rows, bytes) = described.table.as_ref().map_or((None, None), |t| (t.rows, t.bytes));
            schema.tables.push(SourceTable { name: described.label.clone(), rows, bytes });
        }
        if let Some(first) = all.first() {
            for (i, offered) in first.columns.iter().enumerate() {
                let mut column = offered.source_column(self.shape).context("table", &first.label)?;
                // A NULL may come from any shard, and zero dates may become one.
                column.nullable =
                    all.iter().any(|d| d.columns[i].nullable) || self.may_be_zero(&offered.cell.type_text);
                // The native form is one type: where shards differ in length, it goes.
                if all.iter().any(|d| d.columns[i].cell.type_text != offered.cell.type_text) {
                    column.representations.retain(|f| weir_core::field::extension(f) != Some(weir_core::field::NATIVE));
                }
                // Where zero dates become NULL, no form may carry them past.
                if self.may_be_zero(&offered.cell.type_text) {
                    use weir_core::field::{NATIVE, TEXT, extension};
                    column.representations.retain(|f| !matches!(extension(f), Some(NATIVE | TEXT)));
                }
                schema.columns.push(column);
            }
        }
        let warnings = self.locations.iter().flat_map(|l| &l.options).flat_map(|o| o.warnings.iter().cloned());
        schema.warnings.extend(warnings);
        schema.warnings.extend(self.warnings.iter().cloned());
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
        (self.config.consistency != Consistency::None).then_some(self)
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
            let session = match self.hold(&mut held, location).await {
                Ok(session) => session,
                Err(error) => {
                    let what = if error.kind() == ErrorKind::Unreachable { "connect" } else { "login" };
                    checks.push(Check::fault(format!("{what} {place}"), error.full()));
                    continue;
                }
            };
            if !checks.iter().any(|c: &Check| c.what == format!("login {place}")) {
                let version = weir_mysql::server(session).await.map(|s| s.version).unwrap_or_default();
                checks.push(Check::ok(format!("login {place}"), format!("server {version}")));
                let database = match &location.object {
                    Object::Table(name) => TableName::parse(name, QUOTING).ok().and_then(|name| name.schema),
                    Object::Query(_) => None,
                };
                checks.push(snapshot::check(session, self.config.consistency, database).await);
            }
            let columns = self.config.common.column.as_slice();
            let what = match &location.object {
                Object::Table(name) => format!("SELECT on {name}"),
                Object::Query(_) => format!("query {}", number + 1),
            };
            match look(session, &location.object, number, columns, self.config.common.filter(), None).await {
                Ok(described) => {
                    let columns: Result<Vec<_>> =
                        described.columns.iter().map(|c| c.source_column(self.shape)).collect();
                    let found = match described.query {
                        true => Ok(()),
                        // Columns show to anybody with any privilege on the table; only a SELECT proves SELECT.
                        false => session.run(&format!("SELECT 1 FROM {} LIMIT 1", described.from)).await,
                    };
                    checks.push(match columns.and_then(|c| found.map(|()| c.len())) {
                        Ok(n) => Check::ok(what, format!("{n} columns")),
                        Err(error) => Check::fault(what, error.full()),
                    });
                }
                Err(error) => checks.push(Check::fault(what, error.full())),
            }
        }
        if let Some(held) = held {
            held.session.close().await;
        }
        checks
    }
}

impl MySqlReader {
    fn may_be_zero(&self, type_text: &str) -> bool {
        use weir_mysql::Kind;
        self.zero_date == ZeroDate::Null
            && matches!(Kind::parse(type_text), Kind::Date | Kind::DateTime(_) | Kind::Timestamp(_))
    }

    async fn read_part(
        &self,
        part: &Part,
        location: &Location,
        request: &ReadRequest,
        output: &mut dyn BatchSender,
    ) -> Result<()> {
        let schema = request.arrow_schema();
        let mut decoders = Vec::with_capacity(request.columns.len());
        for column in &request.columns {
            let cell = part.columns.get(column.index).ok_or_else(|| Error::internal("no such column in the split"))?;
            decoders.push(Decoder::new(&cell.kind(), &column.field, self.zero_date)?);
        }
        let (sql, places) = self.statement(part, request);
        let limit = request.limit.unwrap_or(u64::MAX);
        let mut wanted = Wanted { sql, batch: Building::new(schema, decoders, places), left: limit };
        let Some(token) = &request.snapshot else {
            let mut session = connect_rows(&location.options, &self.setup, &self.context).await?;
            session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
            let end = self.rows(&mut session, &mut wanted, output, false).await;
            if end.clean && session.run("COMMIT").await.is_ok() {
                session.rest().await;
            }
            return end.result;
        };
        let mut loan = pool::borrow(&self.context, token, part.source).await?;
        let end = self.rows(loan.session()?, &mut wanted, output, true).await;
        if end.result.is_ok() && end.clean && !part.query {
            match loan.check_same(&part.from, wanted.left == limit).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    loan.give_back();
                    return Err(error);
                }
                Err(error) => return Err(loan.broke(error)),
                Ok(()) => {}
            }
        }
        match end.result {
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) && !end.clean => {
                Err(loan.broke(error))
            }
            result => {
                if end.clean {
                    loan.give_back();
                }
                result
            }
        }
    }

    /// Runs the statement and sends its rows. `keep`: the connection will be used again.
    async fn rows(
        &self,
        session: &mut RowSession,
        wanted: &mut Wanted,
        output: &mut dyn BatchSender,
        keep: bool,
    ) -> End {
        let (watch, timeout) = (session.watch(), session.socket_timeout());
        let ended = self.pump(session, &watch, timeout, wanted, output).await;
        if let Ok(true) = ended {
            return End { result: Ok(()), clean: true };
        }
        if !keep {
            // Rows that nobody wants any more may still be on their way; hanging up is the quickest end.
            watch.kill_later();
            return End { result: ended.map(drop), clean: false };
        }
        // Of another one the server has said its last word; a broken connection has none.
        let broken = matches!(&ended, Err(e) if matches!(e.kind(), ErrorKind::Unreachable | ErrorKind::Timeout));
        if broken {
            return End { result: ended.map(drop), clean: false };
        }
        let drained = async { tokio::join!(watch.kill(), session.wire.drain()) };
        let drained = tokio::time::timeout(DRAIN, drained).await;
        let mut clean = match drained {
            Ok((Ok(()), Ok(()))) => true,
            Ok((Ok(()), Err(error))) => is_answer(&error),
            _ => false,
        };
        if clean {
            // A kill that came after the end may meet the next statement instead: let it be this one.
            let absorbed = tokio::time::timeout(DRAIN, session.wire.run("DO 0")).await;
            clean = match absorbed {
                Ok(Ok(())) => true,
                Ok(Err(error)) => is_answer(&error),
                Err(_) => false,
            };
        }
        End { result: ended.map(drop), clean }
    }

    /// `true`: the server has sent everything.
    async fn pump(
        &self,
        session: &mut RowSession,
        watch: &Watch,
        timeout: Option<std::time::Duration>,
        wanted: &mut Wanted,
        output: &mut dyn BatchSender,
    ) -> Result<bool> {
        let mut stopped = std::pin::pin!(self.context.cancel.cancelled());
        let mut silence = std::pin::pin!(watch.silence());
        /// Waits for the server's next word.
        macro_rules! heard {
            ($work:expr) => {{
                let heard = tokio::select! {
                    biased;
                    heard = within(timeout, $work) => heard.inspect_err(|e| {
                        if e.kind() == ErrorKind::Timeout { watch.kill_later() }
                    })?,
                    () = &mut stopped => return Err(Error::cancelled()),
                    error = &mut silence => return Err(error),
                };
                watch.heard();
                heard
            }};
        }
        let Wanted { batch, sql, left } = wanted;
        let has_rows = heard!(session.begin(sql));
        let wire = &mut session.wire;
        if !has_rows || !batch.columns(wire.columns()) {
            let message = "the statement gives other columns than when it was described: run the job again";
            return Err(Error::new(ErrorKind::Schema, message));
        }
        let mut whole = false;
        while *left > 0 {
            match wire.next_row(&mut batch.cells)? {
                Next::Row => {
                    *left -= 1;
                    let bytes = batch.bytes_of_last();
                    if batch.is_full(bytes) {
                        flush(batch, wire, output).await?;
                    }
                    if batch.take_last(bytes) {
                        decode(batch, wire, output).await?;
                    }
                }
                Next::Wait => {
                    decode(batch, wire, output).await?;
                    heard!(wire.fill());
                }
                Next::End => {
                    whole = true;
                    break;
                }
            }
        }
        flush(batch, wire, output).await?;
        if whole {
            heard!(wire.drain());
        }
        Ok(whole)
    }

    /// The statement, and where each wanted column stands in its rows.
    fn statement(&self, part: &Part, request: &ReadRequest) -> (String, Vec<usize>) {
        let wanted: Vec<_> = request.columns.iter().filter_map(|c| part.columns.get(c.index)).collect();
        let limit = request.limit.map(|n| format!(" LIMIT {n}")).unwrap_or_default();
        // The driver takes a row whose first cell has 16 MiB or more for the end of the result: never let such a
        // column stand first.
        let pad = wanted.first().is_none_or(|c| c.kind().is_huge());
        let mut list: Vec<String> = Vec::with_capacity(wanted.len() + 1);
        list.extend(pad.then(|| "1".to_owned()));
        list.extend(wanted.iter().map(|c| c.kind().select(&c.sql)));
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let places = (0..wanted.len()).map(|i| i + usize::from(pad)).collect();
        if !part.query {
            let conditions: Vec<&str> = part
                .condition
                .iter()
                .chain(&part.window)
                .map(String::as_str)
                .chain(self.config.common.filter())
                .collect();
            return (select(&list, &part.from, &conditions) + &limit, places);
        }
        let mut names: Vec<String> = part.columns.iter().map(|c| c.name.to_lowercase()).collect();
        names.sort_unstable();
        let unique = names.windows(2).all(|pair| pair[0] != pair[1]) && names.iter().all(|n| !n.is_empty());
        let odd = part.columns.iter().any(|c| c.kind().needs_expression())
            || part.columns.first().is_some_and(|c| c.kind().is_huge());
        if unique && odd {
            // A comment at the end of the statement must not swallow the parenthesis.
            (format!("SELECT {} FROM ({}\n) AS weir_query{limit}", list.join(", "), part.from), places)
        } else {
            (part.from.clone(), request.columns.iter().map(|c| c.index).collect())
        }
    }
}

/// How long the rest of a statement is waited for that was stopped, so that its connection can be used again.
const DRAIN: std::time::Duration = std::time::Duration::from_millis(600);

/// What is to be read.
struct Wanted {
    sql: String,
    batch: Building,
    left: u64,
}

/// How the rows of a statement ended.
struct End {
    result: Result<()>,
    /// Whether nothing is left on the connection.
    clean: bool,
}

/// Decodes the rows that are gathered, before what they lie in moves.
async fn decode(batch: &mut Building, wire: &Wire, output: &mut dyn BatchSender) -> Result<()> {
    for dirty in batch.decode(wire.bytes()) {
        output.reject(dirty).await?;
    }
    Ok(())
}

/// Sends what is decoded or gathered.
async fn flush(batch: &mut Building, wire: &Wire, output: &mut dyn BatchSender) -> Result<()> {
    decode(batch, wire, output).await?;
    match batch.finish()? {
        Some(full) => output.send(full).await,
        None => Ok(()),
    }
}

async fn within<T>(timeout: Option<std::time::Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the server did not answer within socketTimeout"))),
    }
}
