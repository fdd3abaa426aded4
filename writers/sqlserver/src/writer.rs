//! The writer: what is there, what a run will do, and its life from prepare to commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::OnceCell;
use weir_core::{
    Check, Committed, ConnectorContext, ErrorKind, Evolve, Fault, Faults, Hold, Leases, MappedColumn, PublishTogether,
    Receipt, Recorded, Result, ResultExt, TargetColumn, TargetName, TargetSchema, TaskId, TaskWriter, WriteMode,
    WritePlan, WriteRequest, Writer,
};
use weir_sql::commits::TABLE;
use weir_sql::config::DuplicateKeys;
use weir_sql::{Seen, TableName, resolve_target_columns};
use weir_sqlserver::{
    COLLATION, Options, QUOTING, Rights, Session, Setup, cell_number, cell_text, connect_first, literal,
};

use crate::config::SqlServerWriterConfig;
use crate::known::Known;
use crate::plan::{Facts, plan};
use crate::state::State;
use crate::transaction::Staged;
use crate::{commit, known, ledger, task};

/// Writes one table.
pub struct SqlServerWriter {
    pub(crate) config: SqlServerWriterConfig,
    /// The table as the job names it.
    pub(crate) table: TableName,
    pub(crate) options: Vec<Options>,
    setup: Setup,
    pub(crate) context: ConnectorContext,
    /// What `target` has just seen, for `plan`.
    pub(crate) seen: Seen<Known>,
}

impl SqlServerWriter {
    /// A writer of what `config` names; connects to nothing.
    ///
    /// # Errors
    /// Every rule across parameters that is broken.
    pub fn new(config: SqlServerWriterConfig, context: &ConnectorContext) -> Result<Self, Faults> {
        let destination = config.common.destination()?;
        let mut faults = Faults::default();
        let login = (destination.username.as_deref(), destination.password.as_ref());
        let options = config.tls.options(&destination.urls, login.0, login.1, "/url").unwrap_or_else(|more| {
            faults.0.extend(more.0);
            Vec::new()
        });
        let table = TableName::parse(&destination.table, QUOTING).unwrap_or_else(|error| {
            faults.0.push(Fault { pointer: "/table".into(), message: error.message().into() });
            TableName::bare("")
        });
        let mode = config.common.mode();
        let compares = mode == WriteMode::Upsert || config.common.duplicate_keys == DuplicateKeys::Error;
        if !config.common.key.is_empty() && !compares {
            let message =
                format!("`key` belongs to upsert and to `duplicateKeys` error, and the mode is {}", mode.name());
            faults.add("/key", message);
        }
        faults.or(())?;
        let setup = Setup { session: config.common.session.as_slice().to_vec() };
        let seen = Seen::new(&context.shared, known::place("targets", &config, &options), table.clone());
        Ok(Self { config, table, options, setup, context: context.clone(), seen })
    }

    pub(crate) async fn connect(&self) -> Result<Session> {
        connect_first(&self.options, &self.setup, &self.context).await
    }

    /// Whether the table's schema is made when it is missing; Weir's own tables lie in it then too.
    pub(crate) fn creates_schema(&self) -> bool {
        self.config.common.create_schema == Some(true) && self.config.common.ledger.schema.is_none()
    }

    async fn facts(&self, session: &mut Session, request: Option<&WriteRequest>) -> Result<Facts> {
        let known = match self.seen.take() {
            Some(known) => known,
            None => self.ask(session).await?,
        };
        let Known { server, name, table, own, create_schema, create_missing, .. } = known;
        let (mut collations, mut nearest) = (Vec::new(), None);
        if table.is_none() {
            collations = self.collations(session, request.into_iter().flat_map(|r| &r.columns)).await?;
            // A whole-database job means to create its tables.
            let meant = request.is_some_and(|request| request.described.is_some());
            if !meant || !self.config.common.creates(self.context.form) {
                nearest = self.nearest(session, &name).await?;
            }
        }
        Ok(Facts {
            own,
            create_schema,
            name,
            table,
            server,
            collations,
            nearest,
            form: self.context.form,
            url_warnings: self.options.iter().flat_map(|o| o.warnings.iter().cloned()).collect::<BTreeSet<_>>(),
            create_missing,
        })
    }

    /// The table of the schema that a name may be a typing error for.
    async fn nearest(&self, session: &mut Session, name: &TableName) -> Result<Option<String>> {
        let sql = format!(
            "SELECT CAST(o.name AS nvarchar(128)) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
             WHERE o.type = 'U' AND s.name = {} AND o.name NOT LIKE 'weir[_]%'",
            literal(name.schema.as_deref().unwrap_or_default())
        );
        let names: Vec<String> = session.rows(&sql).await?.iter().filter_map(|row| cell_text(row, 0)).collect();
        Ok(weir_core::config::nearest(&name.name, names.iter().map(String::as_str)).map(str::to_owned))
    }

    /// Makes `weir_commits` if it is not there; a run looks once for all its tables.
    async fn make_record(&self, session: &mut Session, state: &State) -> Result<()> {
        let Some(commits) = &state.commits else { return Ok(()) };
        let name = known::place(&format!("record {}", commits.table), &self.config, &self.options);
        let made = self.context.shared.find_or_leave(&name, OnceCell::<()>::new);
        made.get_or_try_init(|| ledger::create(session, commits)).await.map(drop)
    }

    /// Those of the source's collations that this server has too.
    pub(crate) async fn collations<'a>(
        &self,
        session: &mut Session,
        columns: impl IntoIterator<Item = &'a MappedColumn>,
    ) -> Result<Vec<String>> {
        let offers = columns.into_iter().flat_map(|c| &c.offers);
        let wanted: BTreeSet<&String> = offers.filter_map(|f| f.metadata().get(COLLATION)).collect();
        // The server's stay as they are while a run asks for its tables.
        let known: Arc<Mutex<HashMap<String, bool>>> =
            self.context.shared.find_or_leave(&known::place("collations", &self.config, &self.options), Mutex::default);
        let known = || known.lock().unwrap_or_else(PoisonError::into_inner);
        // A name that is no plain word is nobody's collation.
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let mut found = Vec::new();
        for collation in wanted.into_iter().filter(|name| plain(name)) {
            let there = known().get(collation).copied();
            let there = match there {
                Some(there) => there,
                None => {
                    let sql = format!("SELECT CAST(COLLATIONPROPERTY({}, 'CodePage') AS bigint)", literal(collation));
                    session.row(&sql).await?.as_ref().and_then(|row| cell_number(row, 0)).is_some()
                }
            };
            known().insert(collation.clone(), there);
            found.extend(there.then(|| collation.clone()));
        }
        Ok(found)
    }
}

/// Lets a session rest whose work has succeeded, and in which nothing but our own statements was run; else closes it.
pub(crate) async fn ended<T>(session: Session, done: &Result<T>, own: bool) {
    if done.is_ok() && own { session.rest().await } else { session.close().await }
}

#[async_trait]
impl Writer for SqlServerWriter {
    async fn target(&self) -> Result<TargetSchema> {
        let known = match self.take_left() {
            Some(known) => known,
            None => self.ask_now().await?,
        };
        self.seen.note(known.clone());
        let Known { name, table, .. } = known;
        let entries = self.config.common.column.as_slice();
        let Some(table) = table else {
            let listed =
                (!weir_sql::columns::is_all(entries)).then(|| entries.iter().map(|e| QUOTING.unquote(e)).collect());
            return Ok(TargetSchema { table: name.to_string(), exists: false, columns: Vec::new(), listed });
        };
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        let listed = resolve_target_columns(entries, &names, QUOTING).context("table", &name)?;
        let columns = table
            .columns
            .iter()
            .map(|c| TargetColumn {
                name: c.name.clone(),
                native_type: c.type_text.clone(),
                nullable: c.nullable,
                has_default: c.has_default,
                generated: c.generated,
                key: c.key,
            })
            .collect();
        Ok(TargetSchema { table: name.to_string(), exists: true, columns, listed })
    }

    async fn look_ahead(&self, tables: &[TargetName]) -> Result<Option<Hold>> {
        self.leave_known(tables).await.map(Some)
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        let mut session = self.connect().await?;
        let facts = self.facts(&mut session, Some(request)).await?;
        session.rest().await;
        let name = facts.name.to_string();
        plan(&self.config.common, request, facts).context("table", name)
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let state = State::of(plan)?;
        self.seen.forget();
        let mut session = self.connect().await?;
        let done = async {
            commit::create_table(&mut session, plan, &state).await?;
            self.make_record(&mut session, &state).await?;
            commit::prepare(&mut session, &self.config.common, &state).await
        };
        let done = done.await;
        ended(session, &done, self.config.common.pre_sql.is_empty()).await;
        done.context("table", &plan.table)
    }

    async fn recorded(&self, plan: &WritePlan) -> Result<Recorded> {
        let state = State::of(plan)?;
        let mut session = self.connect().await?;
        let recorded = commit::recorded(&mut session, &state).await;
        ended(session, &recorded, true).await;
        recorded.context("table", &plan.table)
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        let state = State::of(plan)?;
        let options: Vec<Options> = self.options.iter().map(|o| o.for_attempt(task.attempt)).collect();
        let session = connect_first(&options, &self.setup, &self.context).await.context("table", &plan.table)?;
        Ok(Box::new(task::SqlServerTask::new(session, &self.context, &self.config.common, plan, state, task)?))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let state = State::of(plan)?;
        let mut session = self.connect().await?;
        let done = commit::commit(&mut session, &self.config.common, plan, &state, receipts).await;
        ended(session, &done, self.config.common.post_sql.is_empty()).await;
        done.context("table", &plan.table)
    }

    async fn abort(&self, plan: &WritePlan, _receipts: &[Receipt]) -> Result<()> {
        let state = State::of(plan)?;
        self.seen.forget();
        let mut session = self.connect().await?;
        let done = commit::abort(&mut session, plan, &state).await;
        ended(session, &done, true).await;
        done.context("table", &plan.table)
    }

    async fn forget(&self, plan: &WritePlan) -> Result<()> {
        let state = State::of(plan)?;
        let mut session = self.connect().await?;
        let done = commit::forget(&mut session, &state).await;
        ended(session, &done, true).await;
        done.context("table", &plan.table)
    }

    fn home(&self) -> Option<String> {
        self.options.first().map(Options::home)
    }

    fn publishes_together(&self) -> Option<&dyn PublishTogether> {
        Some(self)
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn evolve(&self) -> Option<&dyn Evolve> {
        Some(self)
    }

    async fn check(&self) -> Vec<Check> {
        let place = self.options.first().map(Options::place).unwrap_or_default();
        let mut session = match self.connect().await {
            Ok(session) => session,
            Err(error) => {
                let what = if error.kind() == ErrorKind::Unreachable { "connect" } else { "login" };
                return vec![Check::fault(format!("{what} {place}"), error.full())];
            }
        };
        let mut checks = Vec::new();
        match self.privileges(&mut session, &place).await {
            Ok(more) => checks.extend(more),
            Err(error) => checks.push(Check::fault(format!("table {}", self.table), error.full())),
        }
        session.close().await;
        checks
    }
}

#[async_trait]
impl PublishTogether for SqlServerWriter {
    async fn publish_together(&self, tables: &[(&WritePlan, &[Receipt])]) -> Result<Vec<Committed>> {
        let states: Vec<State> = tables.iter().map(|(plan, _)| State::of(plan)).collect::<Result<_>>()?;
        let tables = tables.iter().zip(&states).map(|((plan, receipts), state)| Staged { plan, state, receipts });
        let tables: Vec<Staged<'_>> = tables.collect();
        let mut session = self.connect().await?;
        let done = commit::publish_together(&mut session, &tables).await;
        ended(session, &done, true).await;
        done
    }
}

impl SqlServerWriter {
    async fn privileges(&self, session: &mut Session, place: &str) -> Result<Vec<Check>> {
        let facts = self.facts(session, None).await?;
        let mut checks = vec![Check::ok(format!("login {place}"), format!("server {}", facts.server.version))];
        let mode = self.config.common.mode();
        checks.extend(self.own_tables(&facts, mode));
        let Some(table) = &facts.table else {
            let what = format!("CREATE {}", facts.name);
            if !self.config.common.creates(self.context.form) {
                checks.push(Check::fault(what, "the table does not exist, and `createTable` is off"));
                return Ok(checks);
            }
            checks.push(match facts.create_missing.as_slice() {
                [] => Check::ok(what, "the table does not exist and will be created"),
                missing => Check::fault(what, format!("grant {}", missing.join(", "))),
            });
            return Ok(checks);
        };
        let writable: Vec<&str> = table.columns.iter().filter(|c| !c.generated).map(|c| c.name.as_str()).collect();
        resolve_target_columns(self.config.common.column.as_slice(), &writable, QUOTING)?;
        let needed: &[&str] = match mode {
            WriteMode::Overwrite => &["SELECT", "INSERT", "UPDATE", "DELETE"],
            WriteMode::Upsert => &["SELECT", "INSERT", "UPDATE"],
            _ => &["SELECT", "INSERT"],
        };
        for permission in needed {
            let rights = Rights::on_table(session, &facts.name, &[permission]).await?;
            let what = format!("{permission} on {}", facts.name);
            checks.push(match rights.complete() {
                true => Check::ok(what, "granted"),
                false => Check::fault(what, "grant the permission to the user"),
            });
        }
        Ok(checks)
    }

    /// Whether the user may make what Weir keeps at the target.
    fn own_tables(&self, facts: &Facts, mode: WriteMode) -> Vec<Check> {
        let (own, mut checks) = (&facts.own, Vec::new());
        let what = format!("records in {}.{TABLE}", own.schema);
        let recorded = own.record();
        checks.push(match (&recorded, self.config.common.exactly_once) {
            (_, Some(false)) => Check::ok(what, "not wanted: `exactlyOnce` is false"),
            (Ok(()), _) => Check::ok(what, if own.has_commits { "granted" } else { "granted; the table is created" }),
            (Err(error), _) => Check::fault(what, error.full()),
        });
        if matches!(mode, WriteMode::Overwrite | WriteMode::Upsert) {
            let what = format!("staging tables in {}", own.schema);
            checks.push(match own.stage(mode) {
                Ok(()) => Check::ok(what, "granted"),
                Err(error) => Check::fault(what, error.full()),
            });
        }
        checks
    }
}
