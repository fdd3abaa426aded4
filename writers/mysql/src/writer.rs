//! The writer: what is there, what a run will do, and its life from prepare to commit.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use weir_core::{
    Check, Committed, ConnectorContext, ErrorKind, Evolve, Fault, Faults, Leases, PublishTogether, Receipt, Recorded,
    Result, ResultExt, TargetColumn, TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan, WriteRequest, Writer,
};
use weir_mysql::{
    Options, QUOTING, Server, Session, Setup, Table, Tls, connect_first, describe, find_database, find_table, grants,
    server, written,
};
use weir_sql::commits::TABLE;
use weir_sql::config::Destination;
use weir_sql::config::DuplicateKeys;
use weir_sql::{TableName, resolve_target_columns};

use crate::config::MySqlWriterConfig;
use crate::plan::{Facts, plan};
use crate::rights::{Rights, no_transactions};
use crate::state::State;
use crate::transaction::Staged;
use crate::{commit, ledger, task};

/// Writes one table.
pub struct MySqlWriter {
    pub(crate) config: MySqlWriterConfig,
    destination: Destination,
    pub(crate) options: Vec<Options>,
    setup: Setup,
    context: ConnectorContext,
    /// What `target` has just seen, for `plan`.
    seen: Mutex<Option<(Seen, Instant)>>,
}

/// A server, the target's full name, and the table if it exists.
type Seen = (Server, TableName, Option<Table>);

/// How long what was seen holds.
const SEEN: Duration = Duration::from_secs(1);

impl MySqlWriter {
    /// A writer of what `config` names; connects to nothing.
    ///
    /// # Errors
    /// Every rule across parameters that is broken.
    pub fn new(config: MySqlWriterConfig, context: &ConnectorContext) -> Result<Self, Faults> {
        let destination = config.common.destination()?;
        let mut faults = Faults::default();
        let mut options = Vec::new();
        for url in &destination.urls {
            match Options::parse(url, destination.username.as_deref(), destination.password.as_ref(), "/url") {
                Ok(more) => options.extend(more),
                Err(more) => faults.0.extend(more.0),
            }
        }
        if let Err(error) = TableName::parse(&destination.table, QUOTING) {
            faults.0.push(Fault { pointer: "/table".into(), message: error.message().into() });
        }
        let tls = config.ssl_mode.as_deref().map(Tls::parse);
        if tls == Some(None) {
            faults.add("/sslMode", "none of disabled, preferred, required, verify-ca and verify-identity");
        }
        for options in &mut options {
            if let Some(Some(tls)) = tls {
                options.tls = tls;
            }
            if config.ssl_ca.is_some() {
                options.ca.clone_from(&config.ssl_ca);
            }
        }
        let mode = config.common.mode();
        let compares = mode == WriteMode::Upsert || config.common.duplicate_keys == DuplicateKeys::Error;
        if !config.common.key.is_empty() && !compares {
            let message =
                format!("`key` belongs to upsert and to `duplicateKeys` error, and the mode is {}", mode.name());
            faults.add("/key", message);
        }
        faults.or(())?;
        let setup = Setup { session: config.common.session.as_slice().to_vec() };
        Ok(Self { config, destination, options, setup, context: context.clone(), seen: Mutex::default() })
    }

    pub(crate) async fn connect(&self) -> Result<Session> {
        connect_first(&self.options, &self.setup, &self.context).await
    }

    /// Whether the table's database is made when it is missing; Weir's own tables lie in it then too.
    fn creates_database(&self) -> bool {
        self.config.common.create_schema == Some(true) && self.config.common.ledger.schema.is_none()
    }

    /// The target's full name, and the table if it exists.
    pub(crate) async fn find(&self, session: &mut Session, server: &Server) -> Result<(TableName, Option<Table>)> {
        let wanted = TableName::parse(&self.destination.table, QUOTING)?;
        match find_table(session, &wanted, server).await {
            Ok(found) => {
                let table = describe(session, &found).await?;
                return Ok((found, Some(table)));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let database = match (find_database(session, &wanted, server).await, &wanted.schema) {
            (Err(error), Some(schema)) if error.kind() == ErrorKind::NotFound && self.creates_database() => {
                schema.clone()
            }
            (found, _) => found?,
        };
        Ok((TableName { schema: Some(database), name: wanted.name }, None))
    }

    async fn facts(&self, session: &mut Session) -> Result<Facts> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (server, name, table) = match seen.filter(|(_, when)| when.elapsed() < SEEN) {
            Some((seen, _)) => seen,
            None => {
                let server = server(session).await?;
                let (name, table) = self.find(session, &server).await?;
                (server, name, table)
            }
        };
        let (mut collations, mut nearest) = (Vec::new(), None);
        if table.is_none() {
            collations = session.rows("SELECT COLLATION_NAME FROM information_schema.COLLATIONS").await?;
            let names: Vec<String> = session
                .rows(&format!(
                    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
                     AND TABLE_NAME NOT LIKE 'weir\\_%'",
                    weir_mysql::escape(name.schema.as_deref().unwrap_or_default())
                ))
                .await?;
            nearest = weir_core::config::nearest(&name.name, names.iter().map(String::as_str)).map(str::to_owned);
        }
        let rights = self.rights(session, &name, &server).await?;
        let create_database = match table.is_none() && self.creates_database() {
            true => {
                let wanted = name.schema.as_deref().unwrap_or_default();
                let known = format!(
                    "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
                    weir_mysql::escape(wanted)
                );
                let there = session.row::<i64>(&known).await?.unwrap_or(0) > 0;
                (!there).then(|| wanted.to_owned())
            }
            false => None,
        };
        Ok(Facts {
            create_database,
            rights,
            name,
            table,
            server,
            collations,
            nearest,
            form: self.context.form,
            url_warnings: self.options.iter().flat_map(|o| o.warnings.iter().cloned()).collect::<BTreeSet<_>>(),
        })
    }

    /// What the user may do where Weir keeps its own tables.
    async fn rights(&self, session: &mut Session, target: &TableName, server: &Server) -> Result<Rights> {
        let database = match &self.config.common.ledger.schema {
            Some(schema) => {
                let wanted = TableName { schema: Some(QUOTING.unquote(schema)), name: TABLE.into() };
                find_database(session, &wanted, server).await.context("parameter", "ledger.schema")?
            }
            None => target.schema.clone().unwrap_or_default(),
        };
        let commits = TableName { schema: Some(database.clone()), name: TABLE.into() };
        let has_commits = ledger::exists(session, &commits).await?;
        Ok(Rights { database, has_commits, grants: grants(session).await? })
    }
}

/// Lets a session rest whose work has succeeded, and in which nothing but our own statements was run; else closes it.
async fn ended<T>(session: Session, done: &Result<T>, own: bool) {
    if done.is_ok() && own { session.rest().await } else { session.close().await }
}

#[async_trait]
impl Writer for MySqlWriter {
    async fn target(&self) -> Result<TargetSchema> {
        let mut session = self.connect().await?;
        let server = server(&mut session).await?;
        let (name, table) = self.find(&mut session, &server).await?;
        session.rest().await;
        let seen = (server, name.clone(), table.clone());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((seen, Instant::now()));
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

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        let mut session = self.connect().await?;
        let facts = self.facts(&mut session).await?;
        session.rest().await;
        let name = facts.name.to_string();
        plan(&self.config, request, facts).context("table", name)
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let state = State::of(plan)?;
        let mut session = self.connect().await?;
        for options in &self.options {
            written::note(&self.context.shared, options, state.table.quoted(QUOTING));
        }
        let done = commit::prepare(&mut session, &self.config.common, plan, &state).await;
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
        let session = self.connect().await.context("table", &plan.table)?;
        Ok(Box::new(task::MySqlTask::new(session, &self.config.common, plan, state, task)))
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
            Err(error) => checks.push(Check::fault(format!("table {}", self.destination.table), error.full())),
        }
        session.close().await;
        checks
    }
}

#[async_trait]
impl PublishTogether for MySqlWriter {
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

impl MySqlWriter {
    async fn privileges(&self, session: &mut Session, place: &str) -> Result<Vec<Check>> {
        let facts = self.facts(session).await?;
        let mut checks = vec![Check::ok(format!("login {place}"), format!("server {}", facts.server.version))];
        checks.push(match (self.config.load_data.unwrap_or(true), facts.server.local_infile) {
            (true, false) => Check::warning(
                "LOAD DATA LOCAL",
                "local_infile is off on the server: batches go as INSERTs, which is slower; SET GLOBAL local_infile = ON",
            ),
            (true, true) => Check::ok("LOAD DATA LOCAL", "allowed"),
            (false, _) => Check::ok("LOAD DATA LOCAL", "not wanted: `loadData` is false"),
        });
        let mode = self.config.common.mode();
        checks.extend(self.own_tables(&facts, mode));
        let Some(table) = &facts.table else {
            let what = format!("CREATE {}", facts.name);
            if !self.config.common.creates(self.context.form) {
                checks.push(Check::fault(what, "the table does not exist, and `createTable` is off"));
                return Ok(checks);
            }
            checks.push(match facts.rights.create(&facts.name) {
                Ok(()) => Check::ok(what, "the table does not exist and will be created"),
                Err(error) => Check::fault(what, error.full()),
            });
            return Ok(checks);
        };
        let name = facts.name.quoted(QUOTING);
        let writable: Vec<&str> = table.columns.iter().filter(|c| !c.generated).map(|c| c.name.as_str()).collect();
        let columns = resolve_target_columns(self.config.common.column.as_slice(), &writable, QUOTING)?;
        let columns = columns.unwrap_or_else(|| writable.iter().map(|n| (*n).to_owned()).collect());
        let marks = vec!["?"; columns.len()].join(", ");
        let mut statements =
            vec![("INSERT", format!("INSERT INTO {name} ({}) VALUES ({marks})", QUOTING.quote_all(&columns)))];
        if matches!(mode, WriteMode::Overwrite | WriteMode::Replace) {
            statements.push(("DELETE", format!("DELETE FROM {name} WHERE 1 = 0")));
        }
        if matches!(mode, WriteMode::Upsert | WriteMode::Ignore)
            && let Some(first) = columns.first().map(|c| QUOTING.quote(c))
        {
            statements.push(("UPDATE", format!("UPDATE {name} SET {first} = {first} WHERE 1 = 0")));
        }
        // To prepare a statement takes the same privileges as to run it, and does nothing.
        for (privilege, sql) in statements {
            let what = format!("{privilege} on {}", facts.name);
            checks.push(match session.prepare(&sql).await {
                Ok(_) => Check::ok(what, "granted"),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => Check::fault(what, error.full()),
            });
        }
        if !table.transactional {
            let what = format!("engine {}", table.engine.as_deref().unwrap_or("?"));
            checks.push(match no_transactions(table, mode, self.config.common.exactly_once) {
                Ok(()) => Check::warning(what, "it has no transactions: what a failed split has written stays"),
                Err(error) => Check::fault(what, error.full()),
            });
        }
        Ok(checks)
    }

    /// Whether the user may make what Weir keeps at the target.
    fn own_tables(&self, facts: &Facts, mode: WriteMode) -> Vec<Check> {
        let (rights, mut checks) = (&facts.rights, Vec::new());
        let what = format!("records in {}.{TABLE}", rights.database);
        let recorded = rights.record();
        checks.push(match (&recorded, self.config.common.exactly_once) {
            (_, Some(false)) => Check::ok(what, "not wanted: `exactlyOnce` is false"),
            (Ok(()), _) => {
                Check::ok(what, if rights.has_commits { "granted" } else { "granted; the table is created" })
            }
            (Err(error), _) => Check::fault(what, error.full()),
        });
        if matches!(mode, WriteMode::Overwrite | WriteMode::Upsert) {
            let what = format!("staging tables in {}", rights.database);
            checks.push(match rights.stage(mode) {
                Ok(()) => Check::ok(what, "granted"),
                Err(error) => Check::fault(what, error.full()),
            });
        }
        checks
    }
}
