//! The writer.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, OnceCell};
use weir_core::lease::run_of;
use weir_core::{
    Check, Committed, ConnectorContext, Error, ErrorKind, Evolve, Faults, Hold, Leases, Parameters, PublishTogether,
    Receipt, Recorded, Result, ResultExt, TargetColumn, TargetName, TargetSchema, TaskId, TaskWriter, WritePlan,
    WriteRequest, Writer,
};
use weir_postgresql::find::Wanted;
use weir_postgresql::{Endpoint, Session, written};
use weir_sql::columns::{is_all, resolve_target_columns};
use weir_sql::commits::{MAKING, PREPARED, Records};
use weir_sql::statements::{plain_create, with_table};
use weir_sql::{Ceilings, Commits, Seen};

use crate::config::PostgresqlWriterConfig;
use crate::known::Known;
use crate::plan::{Q, State, plan};
use crate::stage::Layout;
use crate::task::Task;
use crate::transaction::{self, Staged};
use crate::{record, stage};

/// What publishing a table locks: it and its staging table with their indexes and TOAST tables, and the run's own lock.
const LOCKS_A_TABLE: usize = 10;

/// Writes one table.
pub struct PostgresqlWriter {
    pub(crate) config: PostgresqlWriterConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) table: Wanted,
    pub(crate) context: ConnectorContext,
    /// What `target` has just seen, for `plan`.
    pub(crate) seen: Seen<Known>,
}

impl PostgresqlWriter {
    /// Checks the parameters; connects to nothing.
    ///
    /// # Errors
    /// All faults of the parameters.
    pub fn new(config: PostgresqlWriterConfig, context: ConnectorContext) -> Result<Self, Faults> {
        let to = config.common.destination()?;
        let session = config.common.session.as_slice();
        let endpoint = Endpoint::new(&to.urls, to.username.as_deref(), to.password.as_ref(), &config.tls, session)?;
        let table = Wanted::parse(&to.table).map_err(|e| Faults::one("/table", e.message()))?;
        let seen = Self::seen_of(&config, &endpoint, &table.name, &context.shared);
        Ok(Self { config, endpoint, table, context, seen })
    }

    pub(crate) async fn connect(&self) -> Result<Session> {
        self.endpoint.connect(&self.context).await
    }

    /// A session that waits for nobody long. Cleaning up is part of stopping a run, for which the runtime gives it a token of
    /// its own: that one ends it, statement and all.
    pub(crate) async fn connect_to_clean(&self) -> Result<Session> {
        let mut session = self.connect().await?;
        session.spoil();
        session.execute("SET lock_timeout = '5s'").await?;
        Ok(session)
    }
}

impl PostgresqlWriter {
    /// Whether a target that the run creates is made in one transaction with the record of it.
    fn makes_all_at_once(&self, state: &State) -> bool {
        let pre_sql = self.config.common.pre_sql.as_slice();
        state.records.is_some() && state.new_types.is_empty() && pre_sql.iter().all(|sql| sql.trim().is_empty())
    }

    /// Whether the table has been made in this process, which is all that is known where the job does without records. Held
    /// while it is made: entries of one run may make the same table.
    fn made(&self, plan: &WritePlan, state: &State) -> Arc<Mutex<bool>> {
        let run = run_of(&plan.run_id);
        let name = format!("postgresql made {} {} {run}", self.endpoint.identity(), state.table);
        self.context.shared.find_or_leave(&name, Mutex::default)
    }

    /// Makes the target by itself, if the plan creates it.
    async fn make_table(&self, session: &mut Session, plan: &WritePlan, state: &State, making: bool) -> Result<()> {
        let Some(create) = state.create.as_ref().filter(|_| !making) else { return Ok(()) };
        let made = self.made(plan, state);
        let mut made = made.lock().await;
        if let Some(commits) = &state.records {
            let before = creation(state, commits, &plan.table, create);
            return write_made(session, plan, commits, MAKING, &before).await.context("table", &state.table);
        }
        if !*made {
            let created = session.execute(&plain_create(create)).await;
            created.map_err(record::made_by_others).context("table", &state.table)?;
            *made = true;
        }
        for comment in &state.comments {
            session.execute(comment).await.context("statement", comment)?;
        }
        Ok(())
    }

    /// Makes `weir_commits` if it is not there; a run looks once for all its tables.
    async fn make_record(&self, session: &mut Session, commits: &Commits) -> Result<()> {
        let name = format!("postgresql record {} {}", self.endpoint.identity(), commits.table);
        let made = self.context.shared.find_or_leave(&name, OnceCell::<()>::new);
        made.get_or_try_init(|| record::create(session, commits)).await.map(drop)
    }
}

/// The statements that make the target, where nobody else has.
fn creation(state: &State, commits: &Commits, target: &str, create: &str) -> String {
    let unmade = record::unmade(commits, &state.table, target);
    let all: Vec<&str> = std::iter::once(create).chain(state.comments.iter().map(String::as_str)).collect();
    format!("BEGIN; SET LOCAL synchronous_commit = off; {unmade}; {}; ", all.join("; "))
}

/// Creates target, staging and the record of both, in one transaction and one exchange of messages. Nobody waits for the
/// disk: what follows it does, and a crash before that leaves nothing of all this.
async fn create_all(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    commits: &Commits,
    create: &str,
) -> Result<()> {
    let stage = state.stage.as_ref().map(|stage| stage::creation(plan, state, stage, &state.created_key));
    let before = format!("{}{}; ", creation(state, commits, &plan.table, create), stage.unwrap_or_default());
    write_made(session, plan, commits, PREPARED, &before).await
}

async fn write_made(
    session: &mut Session,
    plan: &WritePlan,
    commits: &Commits,
    split: i64,
    before: &str,
) -> Result<()> {
    let made = record::write(session, commits, split, &plan.table, None, (before, true)).await;
    if !made.map_err(record::made_by_others)? {
        // The same run has been prepared from elsewhere meanwhile.
        session.execute("ROLLBACK").await?;
    }
    Ok(())
}

#[async_trait]
impl Writer for PostgresqlWriter {
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
        let entries = self.config.common.column.as_slice();
        let Some(table) = known.table() else {
            let mut place = self.table.name.clone();
            place.schema = place.schema.or(known.schema);
            let listed = (!is_all(entries)).then(|| entries.iter().map(|e| Q.unquote(e)).collect());
            return Ok(TargetSchema { table: place.to_string(), exists: false, columns: Vec::new(), listed });
        };
        let listed = resolve_target_columns(entries, &table.names(), Q).context("table", &table.name)?;
        let columns = table.columns.iter().map(|c| TargetColumn {
            name: c.name.clone(),
            native_type: c.pg.text.clone(),
            nullable: c.nullable,
            has_default: c.has_default || c.generated,
            generated: c.generated,
            key: c.key,
        });
        Ok(TargetSchema { table: table.name.to_string(), exists: true, columns: columns.collect(), listed })
    }

    async fn look_ahead(&self, tables: &[TargetName]) -> Result<Option<Hold>> {
        self.leave_known(tables).await.map(Some)
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        let mut session = self.connect().await?;
        let plan = plan(self, &mut session, request).await?;
        session.rest().await;
        Ok(plan)
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let state = State::of(plan)?;
        self.seen.forget();
        written::note(&self.context.shared, &self.endpoint, &state.table);
        let mut session = self.connect().await?;
        if let Some(schema) = &state.create_schema {
            stage::create_schema(&mut session, schema).await?;
        }
        let mut making = false;
        if let Some(commits) = &state.records {
            self.make_record(&mut session, commits).await?;
            let records = record::read_there(&mut session, commits).await?;
            if records.prepared || records.recorded.published {
                if let (Some(stage), false) = (&state.stage, records.recorded.published)
                    && !record::exists(&mut session, stage).await?
                {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        "the staging table of the unfinished run is gone: somebody dropped it; start a fresh run",
                    )
                    .with("table", stage));
                }
                session.rest().await;
                return Ok(());
            }
            making = records.making;
        }
        let pre_sql = with_table(self.config.common.pre_sql.as_slice(), &state.table, Q);
        if let (Some(commits), Some(create)) = (&state.records, &state.create)
            && self.makes_all_at_once(&state)
        {
            let made = self.made(plan, &state);
            let made = made.lock().await;
            create_all(&mut session, plan, &state, commits, create).await?;
            drop(made);
            session.rest().await;
            return Ok(());
        }
        for new in &state.new_types {
            new.create(&mut session).await?;
        }
        self.make_table(&mut session, plan, &state, making).await?;
        for statement in pre_sql {
            session.spoil();
            session.execute(&statement).await.context("preSql", &statement)?;
        }
        session.execute("BEGIN").await?;
        if let Some(into) = &state.stage {
            stage::create(&mut session, plan, &state, into).await?;
        } else if state.layout.is_some() {
            let sql = Layout::as_planned(&state.table, plan, &state);
            session.execute(&sql).await.map_err(|error| stage::changed(error).with("table", &state.table))?;
        }
        let done = match &state.records {
            Some(commits) => record::write(&mut session, commits, PREPARED, &plan.table, None, ("", true)).await?,
            None => session.execute("COMMIT").await.map(|_| true)?,
        };
        if !done {
            // The same run has been prepared from elsewhere meanwhile.
            session.execute("ROLLBACK").await?;
        }
        session.rest().await;
        Ok(())
    }

    async fn recorded(&self, plan: &WritePlan) -> Result<Recorded> {
        let Some(commits) = State::of(plan)?.records else { return Ok(Recorded::default()) };
        let mut session = self.connect().await?;
        let records = record::read(&mut session, &commits).await?;
        session.rest().await;
        Ok(records.recorded)
    }

    async fn settle(&self, plan: &WritePlan) -> Result<()> {
        let Some(commits) = State::of(plan)?.records else { return Ok(()) };
        let mut session = self.connect().await?;
        record::settle(&mut session, &commits, &plan.table).await?;
        session.rest().await;
        Ok(())
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        let state = State::of(plan)?;
        let session = self.connect().await?;
        let ceilings = Ceilings::of(&self.config.common);
        Ok(Box::new(Task::open(session, plan, &state, task, ceilings).await.context("table", &plan.table)?))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let state = State::of(plan)?;
        let staged = Staged { plan, state, receipts };
        let mut session = self.connect().await?;
        let mut committed = transaction::publish(&mut session, &staged, self.context.shared.revocable()).await?;
        for statement in with_table(self.config.common.post_sql.as_slice(), &staged.state.table, Q) {
            session.spoil();
            if let Err(error) = session.execute(&statement).await {
                if error.kind() == ErrorKind::Cancelled {
                    return Err(error);
                }
                committed.failures.push(format!("postSql failed, the rows are published: {}", error.full()));
                break;
            }
        }
        session.rest().await;
        Ok(committed)
    }

    async fn abort(&self, plan: &WritePlan, _: &[Receipt]) -> Result<()> {
        let state = State::of(plan)?;
        if state.stage.is_none() && state.create.is_none() && state.records.is_none() {
            return Ok(());
        }
        self.seen.forget();
        let mut session = self.connect_to_clean().await?;
        let (mut published, mut made) = (false, state.create.is_some());
        let made_here = self.made(plan, &state);
        let mut made_here = made_here.lock().await;
        if let (None, true) = (&state.records, made) {
            made = *made_here;
            // What is staged is so after the making.
            if let (Some(stage), false) = (&state.stage, made) {
                made = record::exists(&mut session, stage).await?;
            }
        }
        if let Some(commits) = &state.records {
            let Records { mut prepared, mut making, recorded: before } = record::read(&mut session, commits).await?;
            published = before.published;
            if !published {
                record::settle(&mut session, commits, &plan.table).await?;
                let settled;
                Records { prepared, making, recorded: settled } = record::read(&mut session, commits).await?;
                published = settled.published;
                if plan.commits_per_split && settled.receipts.len() > before.receipts.len() {
                    let message = "rows of a former attempt landed while the run was taken back: run the job again";
                    return Err(Error::new(ErrorKind::Conflict, message).with("table", &plan.table));
                }
            }
            // Else somebody else has made it.
            made &= prepared || making;
        }
        session.execute("BEGIN").await?;
        if let Some(stage) = &state.stage
            && record::exists(&mut session, stage).await?
        {
            session.execute(&format!("DROP TABLE {}", stage.quoted(Q))).await?;
        }
        if let (Some(commits), true) = (&state.records, made) {
            made = !record::is_shared(&mut session, commits, &state.table, &plan.table).await?;
        }
        // A table that this run made, and that nobody has put rows into, goes with it.
        if !published && made && record::exists(&mut session, &state.table).await? {
            let table = state.table.quoted(Q);
            // Nobody is to put any into it from here on.
            session.execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await?;
            if !session.value::<bool>(&format!("SELECT EXISTS (SELECT FROM {table})")).await? {
                session.execute(&format!("DROP TABLE {table}")).await?;
                *made_here = false;
            }
        }
        if let Some(commits) = &state.records {
            record::delete(&mut session, commits).await?;
        }
        session.execute("COMMIT").await?;
        session.rest().await;
        Ok(())
    }

    async fn forget(&self, plan: &WritePlan) -> Result<()> {
        let Some(commits) = State::of(plan)?.records else { return Ok(()) };
        // The run may have been stopped.
        let context = ConnectorContext { cancel: Default::default(), ..self.context.clone() };
        let mut session = self.endpoint.connect(&context).await?;
        record::forget(&mut session, &commits).await?;
        session.rest().await;
        Ok(())
    }

    fn evolve(&self) -> Option<&dyn Evolve> {
        Some(self)
    }

    async fn check(&self) -> Vec<Check> {
        crate::check::check(self).await
    }

    fn read_back(&self, _: &WritePlan, mut parameters: Parameters) -> Result<Parameters> {
        // The rows of tables that inherit from the target are not what was written.
        if let Some(parameters) = parameters.as_object_mut() {
            parameters.insert("only".into(), true.into());
        }
        Ok(parameters)
    }

    fn home(&self) -> Option<String> {
        Some(self.endpoint.home())
    }

    fn publishes_together(&self) -> Option<&dyn PublishTogether> {
        Some(self)
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }
}

#[async_trait]
impl PublishTogether for PostgresqlWriter {
    async fn check_together(&self, tables: usize) -> Result<()> {
        const SETTINGS: &str = "SELECT current_setting('max_locks_per_transaction')::int8 * \
                                (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)";
        let mut session = self.connect().await?;
        let locks: i64 = session.value(SETTINGS).await?;
        session.rest().await;
        if usize::try_from(locks).is_ok_and(|locks| locks >= tables * LOCKS_A_TABLE) {
            return Ok(());
        }
        let message = format!(
            "to publish {tables} tables in one transaction takes about {} locks, and the server has {locks}: raise its \
             max_locks_per_transaction, or leave out `publish`",
            tables * LOCKS_A_TABLE
        );
        Err(Error::new(ErrorKind::Conflict, message))
    }

    async fn publish_together(&self, tables: &[(&WritePlan, &[Receipt])]) -> Result<Vec<Committed>> {
        let tables = tables.iter().map(|(plan, receipts)| Ok(Staged { plan, state: State::of(plan)?, receipts }));
        let tables: Vec<_> = tables.collect::<Result<_>>()?;
        let mut session = self.connect().await?;
        let published = transaction::publish_together(&mut session, &tables, self.context.shared.revocable()).await?;
        session.rest().await;
        Ok(published)
    }
}
