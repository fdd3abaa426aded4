//! The writer: what is there, what a run will do, and its life from prepare to commit.

use std::collections::BTreeSet;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use weir_core::{
    Check, Committed, ConnectorContext, ErrorKind, Evolve, Fault, Faults, Hold, Leases, PublishTogether, Receipt,
    Recorded, Result, ResultExt, TargetColumn, TargetName, TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan,
    WriteRequest, Writer,
};
use weir_mysql::{Options, QUOTING, Session, Setup, Tls, check_constraints, connect_first, written};
use weir_sql::commits::TABLE;
use weir_sql::config::DuplicateKeys;
use weir_sql::{Seen, TableName, resolve_target_columns};

use crate::config::MySqlWriterConfig;
use crate::keys;
use crate::known::Known;
use crate::plan::{Facts, database_creation, plan};
use crate::rights::no_transactions;
use crate::state::State;
use crate::ties::Own;
use crate::transaction::Staged;
use crate::{commit, known, ledger, task};

/// Writes one table.
pub struct MySqlWriter {
    pub(crate) config: MySqlWriterConfig,
    /// The table as the job names it.
    pub(crate) table: TableName,
    pub(crate) options: Vec<Options>,
    setup: Setup,
    pub(crate) context: ConnectorContext,
    /// What `target` has just seen, for `plan`.
    pub(crate) seen: Seen<Known>,
}

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
        let table = TableName::parse(&destination.table, QUOTING).unwrap_or_else(|error| {
            faults.0.push(Fault { pointer: "/table".into(), message: error.message().into() });
            TableName::bare("")
        });
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
        let seen = Seen::new(&context.shared, known::place("targets", &config, &options), table.clone());
        Ok(Self { config, table, options, setup, context: context.clone(), seen })
    }

    pub(crate) async fn connect(&self) -> Result<Session> {
        connect_first(&self.options, &self.setup, &self.context).await
    }

    /// Whether the table's database is made when it is missing; Weir's own tables lie in it then too.
    pub(crate) fn creates_database(&self) -> bool {
        self.config.common.create_schema == Some(true) && self.config.common.ledger.schema.is_none()
    }

    /// `near`: whether a table that is not there may be a typing error.
    async fn facts(&self, session: &mut Session, near: bool) -> Result<Facts> {
        let known = match self.seen.take() {
            Some(known) => known,
            None => self.ask(session).await?,
        };
        let Known { server, name, table, keys, collations, rights, create_database } = known;
        let mut nearest = None;
        if table.is_none() && near {
            let names: Vec<String> = session
                .rows(&format!(
                    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
                     AND TABLE_NAME NOT LIKE 'weir\\_%'",
                    weir_mysql::escape(name.schema.as_deref().unwrap_or_default())
                ))
                .await?;
            nearest = weir_core::config::nearest(&name.name, names.iter().map(String::as_str)).map(str::to_owned);
        }
        let mut own = Own { keys: keys::on_itself(&name, keys, &server), triggers: false };
        if !own.keys.is_empty() {
            own.triggers = has_triggers(session, &name).await?;
        }
        // A staging table that is made like the target has them from there.
        let upserts = self.config.common.mode() == WriteMode::Upsert;
        let mut checks = match &table {
            Some(table) if upserts && table.checked && rights.reads(&name) => {
                check_constraints(session, &name).await.context("table", &name)?
            }
            _ => Vec::new(),
        };
        // A trigger may put a value right before the target looks at it.
        if !checks.is_empty() && has_triggers(session, &name).await? {
            checks.clear();
        }
        Ok(Facts {
            checks,
            create_database,
            rights,
            own,
            name,
            table,
            server,
            collations,
            nearest,
            form: self.context.form,
            url_warnings: self.options.iter().flat_map(|o| o.warnings.iter().cloned()).collect::<BTreeSet<_>>(),
        })
    }

    /// Makes `weir_commits` if it is not there; a run looks once for all its tables.
    async fn make_record(&self, session: &mut Session, state: &State) -> Result<()> {
        let Some(commits) = &state.commits else { return Ok(()) };
        let place = self.options.first().map(Options::place).unwrap_or_default();
        let name = format!("mysql record {place} {}", commits.table);
        let made = self.context.shared.find_or_leave(&name, OnceCell::<()>::new);
        made.get_or_try_init(|| ledger::create(session, commits)).await.map(drop)
    }
}

/// Lets a session rest whose work has succeeded, and in which nothing but our own statements was run; else closes it.
async fn ended<T>(session: Session, done: &Result<T>, own: bool) {
    if done.is_ok() && own { session.rest().await } else { session.close().await }
}

async fn has_triggers(session: &mut Session, table: &TableName) -> Result<bool> {
    let sql = format!(
        "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA = {} AND EVENT_OBJECT_TABLE = {}",
        weir_mysql::escape(table.schema.as_deref().unwrap_or_default()),
        weir_mysql::escape(&table.name)
    );
    let found: Vec<String> = session.rows(&sql).await?;
    Ok(found.first().is_some_and(|number| number != "0"))
}

#[async_trait]
impl Writer for MySqlWriter {
    async fn target(&self) -> Result<TargetSchema> {
        let known = match self.take_left() {
            Some(known) => known,
            None => {
                let mut session = self.connect().await?;
                let known = self.ask(&mut session).await?;
                session.rest().await;
                known
            }
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
        // A whole-database job means to create its tables.
        let near = request.described.is_none() || !self.config.common.creates(self.context.form);
        let facts = self.facts(&mut session, near).await?;
        session.rest().await;
        let name = facts.name.to_string();
        plan(&self.config, request, facts).context("table", name)
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let state = State::of(plan)?;
        self.seen.forget();
        let mut session = self.connect().await?;
        for options in &self.options {
            written::note(&self.context.shared, options, state.table.quoted(QUOTING));
        }
        let done = async {
            if let Some(database) = &state.create_database {
                session.run(&database_creation(database)).await.context("statement", "CREATE DATABASE")?;
            }
            self.make_record(&mut session, &state).await?;
            let mut records = ledger::read_of(&mut session, &state).await?;
            if records.recorded.published {
                return Ok(());
            }
            // Splits have been finished in it.
            if records.recorded.receipts.is_empty() {
                self.make_table(&mut session, plan, &state, &mut records).await?;
            }
            commit::prepare(&mut session, &self.config.common, &state, records).await
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
        let session = self.connect().await.context("table", &plan.table)?;
        Ok(Box::new(task::MySqlTask::new(session, &self.config.common, plan, state, task)))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let state = State::of(plan)?;
        let mut session = self.connect().await?;
        let revocable = self.context.shared.revocable();
        let done =
            commit::commit(&mut session, &self.config.common, &Staged { plan, state: &state, receipts }, revocable)
                .await;
        ended(session, &done, self.config.common.post_sql.is_empty()).await;
        done.context("table", &plan.table)
    }

    async fn abort(&self, plan: &WritePlan, _receipts: &[Receipt]) -> Result<()> {
        let state = State::of(plan)?;
        self.seen.forget();
        let mut session = self.connect().await?;
        let done = self.take_back(&mut session, plan, &state).await;
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
impl PublishTogether for MySqlWriter {
    async fn publish_together(&self, tables: &[(&WritePlan, &[Receipt])]) -> Result<Vec<Committed>> {
        let states: Vec<State> = tables.iter().map(|(plan, _)| State::of(plan)).collect::<Result<_>>()?;
        let tables = tables.iter().zip(&states).map(|((plan, receipts), state)| Staged { plan, state, receipts });
        let tables: Vec<Staged<'_>> = tables.collect();
        let mut session = self.connect().await?;
        let done = commit::publish_together(&mut session, &tables, self.context.shared.revocable()).await;
        ended(session, &done, true).await;
        done
    }
}

impl MySqlWriter {
    async fn privileges(&self, session: &mut Session, place: &str) -> Result<Vec<Check>> {
        let facts = self.facts(session, false).await?;
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
            checks.push(match no_transactions(table, (mode, false), self.config.common.exactly_once) {
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
