//! The writer: what is there, what a run will do, and its life from prepare to commit.

use std::collections::BTreeSet;

use async_trait::async_trait;
use weir_core::{
    Check, Committed, ConnectorContext, Error, ErrorKind, Fault, Faults, Receipt, Result, ResultExt, TargetColumn,
    TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan, WriteRequest, Writer,
};
use weir_mysql::{
    Options, QUOTING, Server, Session, Setup, Table, Tls, connect_first, describe, find_database, find_table, server,
};
use weir_sql::config::Destination;
use weir_sql::{TableName, resolve_target_columns};

use crate::config::MySqlWriterConfig;
use crate::plan::{Facts, plan};
use crate::state::State;
use crate::{commit, task};

/// Writes one table.
pub struct MySqlWriter {
    pub(crate) config: MySqlWriterConfig,
    destination: Destination,
    options: Vec<Options>,
    setup: Setup,
    context: ConnectorContext,
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
        if !config.common.key.is_empty() && mode != WriteMode::Upsert {
            faults.add("/key", format!("`key` belongs to upsert, and the mode is {}", mode.name()));
        }
        faults.or(())?;
        let setup = Setup { session: config.common.session.as_slice().to_vec() };
        Ok(Self { config, destination, options, setup, context: context.clone() })
    }

    async fn connect(&self) -> Result<Session> {
        connect_first(&self.options, &self.setup, &self.context).await
    }

    /// The target's full name, and the table if it exists.
    async fn find(&self, session: &mut Session, server: &Server) -> Result<(TableName, Option<Table>)> {
        let wanted = TableName::parse(&self.destination.table, QUOTING)?;
        let database = find_database(session, &wanted, server).await?;
        let full = TableName { schema: Some(database), name: wanted.name };
        match find_table(session, &full, server).await {
            Ok(found) => {
                let table = describe(session, &found).await?;
                Ok((found, Some(table)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((full, None)),
            Err(error) => Err(error),
        }
    }

    async fn facts(&self, session: &mut Session) -> Result<Facts> {
        let server = server(session).await?;
        let (name, table) = self.find(session, &server).await?;
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
        Ok(Facts {
            name,
            table,
            server,
            collations,
            nearest,
            form: self.context.form,
            url_warnings: self.options.iter().flat_map(|o| o.warnings.iter().cloned()).collect::<BTreeSet<_>>(),
        })
    }
}

#[async_trait]
impl Writer for MySqlWriter {
    async fn target(&self) -> Result<TargetSchema> {
        let mut session = self.connect().await?;
        let server = server(&mut session).await?;
        let (name, table) = self.find(&mut session, &server).await?;
        session.close().await;
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
        session.close().await;
        let name = facts.name.to_string();
        plan(&self.config, request, facts).context("table", name)
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let state = State::of(plan)?;
        let mut session = self.connect().await?;
        commit::prepare(&mut session, &self.config.common, plan, &state).await.context("table", &plan.table)?;
        session.close().await;
        Ok(())
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
        session.close().await;
        done.context("table", &plan.table)
    }

    async fn abort(&self, plan: &WritePlan, _receipts: &[Receipt]) -> Result<()> {
        let state = State::of(plan)?;
        let mut session = self.connect().await?;
        let done = commit::abort(&mut session, plan, &state).await;
        session.close().await;
        done.context("table", &plan.table)
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

impl MySqlWriter {
    async fn privileges(&self, session: &mut Session, place: &str) -> Result<Vec<Check>> {
        use mysql_async::prelude::Queryable;
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
        let Some(table) = &facts.table else {
            let what = format!("CREATE {}", facts.name);
            if !self.config.common.creates(self.context.form) {
                checks.push(Check::fault(what, "the table does not exist, and `createTable` is off"));
                return Ok(checks);
            }
            let grants: Vec<String> = session.rows("SHOW GRANTS").await.unwrap_or_default();
            let may = grants.iter().any(|g| g.contains("ALL PRIVILEGES") || g.contains("CREATE"));
            checks.push(if may {
                Check::ok(what, "the table does not exist and will be created")
            } else {
                Check::fault(what, "the table does not exist, and no grant lets the user CREATE it")
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
            checks.push(match session.conn.prep(sql).await {
                Ok(statement) => {
                    session.conn.close(statement).await.map_err(weir_mysql::from_async)?;
                    Check::ok(what, "granted")
                }
                Err(error) => Check::fault(what, weir_mysql::from_async(error).full()),
            });
        }
        if !table.transactional {
            let engine = table.engine.as_deref().unwrap_or("?");
            checks.push(Check::fault(format!("engine {engine}"), no_transactions(table).full()));
        }
        Ok(checks)
    }
}

/// Why a table without transactions is refused.
pub(crate) fn no_transactions(table: &Table) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "engine {} has no transactions, so a failed split could not be taken back: ALTER TABLE {} ENGINE=InnoDB",
            table.engine.as_deref().unwrap_or("?"),
            table.name.quoted(QUOTING)
        ),
    )
}
