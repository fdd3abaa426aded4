//! The snapshot that the tables of a run share, and the locks that a whole-database job holds on all of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Mutex;
use weir_core::{ConnectorContext, Error, ErrorKind, ObjectName, Result, ResultExt, Shared, SourceSnapshot};
use weir_sql::{Quoting, TableName};

use crate::catalog::{Table, describe_all, oids};
use crate::connection::{Endpoint, Session};

/// How many tables one statement locks.
const AT_ONCE: usize = 100;

/// How long a lock is waited for: one locked table must not keep all the others waiting for long.
const LOCK_WAIT: &str = "5s";

/// The snapshot that is exported now. Empty until somebody exports one.
#[derive(Default)]
pub struct Exported(pub Mutex<Option<Export>>);

/// An exported snapshot.
pub struct Export {
    /// The session that keeps it.
    pub session: Session,
    /// Its name at the server, which may give the same name again after a restart.
    pub token: String,
    /// What tells it from all others of this process.
    pub moment: String,
}

impl Export {
    /// Exports what the transaction of `session` sees.
    ///
    /// # Errors
    /// The server's.
    pub async fn of(mut session: Session) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let token: String = session.value("SELECT pg_export_snapshot()").await?;
        let moment = format!("{token} {}", COUNT.fetch_add(1, Relaxed));
        Ok(Self { session, token, moment })
    }
}

/// The snapshot that the tables of a run share, in one database.
pub fn exported(shared: &Shared, endpoint: &Endpoint) -> Arc<Exported> {
    shared.find_or_leave(&format!("postgresql snapshot of {}", endpoint.identity()), Default::default)
}

/// Which tables the exporting session has locked.
pub struct Locked {
    /// Those that it was to lock.
    wanted: Vec<TableName>,
    /// Those that it has, as they were then: while they are locked, that does not change.
    held: HashMap<TableName, Table>,
    /// Those that it could not lock in time.
    refused: HashMap<TableName, String>,
}

fn name(endpoint: &Endpoint) -> String {
    format!("postgresql tables locked in {}", endpoint.identity())
}

impl Locked {
    /// What to say of a table that somebody else keeps locked: without this, its reader would wait for that lock too.
    pub fn refusal(shared: &Shared, endpoint: &Endpoint, table: &TableName) -> Option<Error> {
        let locked = shared.find::<Self>(&name(endpoint))?;
        let reason = locked.refused.get(table)?.clone();
        Some(Error::new(ErrorKind::Conflict, reason).with("table", table))
    }

    /// A table of a whole-database job, as it was when it was locked.
    pub fn table(shared: &Shared, endpoint: &Endpoint, table: &TableName) -> Option<Table> {
        shared.find::<Self>(&name(endpoint))?.held.get(table).cloned()
    }

    /// The snapshot of a whole-database job and its moment, where it holds all of these tables; then nobody needs locks of
    /// his own. Where it is lost, another one of all tables takes its place.
    ///
    /// # Errors
    /// One of the tables is locked by somebody else; those of another snapshot.
    pub async fn token(
        context: &ConnectorContext,
        endpoint: &Endpoint,
        tables: &[&TableName],
    ) -> Result<Option<(String, String)>> {
        let (shared, name) = (&context.shared, name(endpoint));
        let exported = exported(shared, endpoint);
        let mut exported = exported.0.lock().await;
        let Some(mut locked) = shared.find::<Self>(&name) else { return Ok(None) };
        let lives = match exported.as_mut() {
            Some(export) => export.session.execute("SELECT 1").await.is_ok(),
            None => false,
        };
        if !lives {
            // The locks are gone with the session.
            *exported = None;
            let (again, export) = hold(endpoint, context, locked.wanted.clone()).await?;
            locked = Arc::new(again);
            shared.leave(name, locked.clone());
            *exported = Some(export);
        }
        if let Some(error) = tables.iter().find_map(|table| Self::refusal(shared, endpoint, table)) {
            return Err(error);
        }
        let all = tables.iter().all(|table| locked.held.contains_key(*table));
        Ok(exported.as_ref().filter(|_| all).map(|export| (export.token.clone(), export.moment.clone())))
    }
}

/// Takes the locks and the snapshot away again.
struct Hold {
    shared: Shared,
    names: [String; 2],
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| self.shared.remove(name));
    }
}

/// Locks the tables against changes of their structure, then takes one snapshot of all of them. A table that cannot be
/// locked is left to its reader, which says why.
pub async fn of_database(
    endpoint: &Endpoint,
    context: &ConnectorContext,
    tables: &[ObjectName],
) -> Result<Option<SourceSnapshot>> {
    let wanted = tables.iter().map(|table| TableName { schema: table.schema.clone(), name: table.table.clone() });
    let (locked, export) = hold(endpoint, context, wanted.collect()).await?;
    let description = format!("exported snapshot {} of {} locked tables", export.token, locked.held.len());
    *exported(&context.shared, endpoint).0.lock().await = Some(export);
    let names = [name(endpoint), format!("postgresql snapshot of {}", endpoint.identity())];
    context.shared.leave(names[0].clone(), Arc::new(locked));
    Ok(Some(SourceSnapshot { description, hold: Box::new(Hold { shared: context.shared.clone(), names }) }))
}

async fn hold(endpoint: &Endpoint, context: &ConnectorContext, wanted: Vec<TableName>) -> Result<(Locked, Export)> {
    // What is left for others must not keep them alive.
    let mut session = endpoint.connect(&context.alone()).await?;
    session.keep_open().await?;
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    session.execute(&format!("SET LOCAL lock_timeout = '{LOCK_WAIT}'")).await?;
    let (mut locked, mut refused) = (HashSet::new(), HashMap::new());
    for chunk in wanted.chunks(AT_ONCE) {
        if attempt(&mut session, &lock(chunk)).await?.is_ok() {
            locked.extend(chunk);
            continue;
        }
        for table in chunk {
            match attempt(&mut session, &lock(std::slice::from_ref(table))).await? {
                Ok(()) => drop(locked.insert(table)),
                Err(error) if error.kind() == ErrorKind::Conflict => drop(refused.insert(table.clone(), error.full())),
                // A view of an old server, no right to all of its columns, gone: to be seen below.
                Err(_) => {}
            }
        }
    }
    let mut held = HashMap::with_capacity(wanted.len());
    let left: Vec<_> = wanted.iter().filter(|table| !refused.contains_key(*table)).cloned().collect();
    for chunk in left.chunks(AT_ONCE) {
        let oids = oids(&mut session, chunk).await?;
        for table in describe_all(&mut session, &oids).await? {
            // LOCK TABLE locks of what a view reads no more than tables and views.
            let whole = locked.contains(&table.name) && matches!(table.kind, 'r' | 'p');
            let reached = if whole { Ok(()) } else { reach(&mut session, &table).await? };
            match reached {
                Ok(()) => drop(held.insert(table.name.clone(), table)),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    refused.insert(table.name, error.full());
                }
                // Its reader finds out.
                Err(_) => {}
            }
        }
    }
    let export = Export::of(session).await?;
    Ok((Locked { wanted, held, refused }, export))
}

fn lock(tables: &[TableName]) -> String {
    let names: Vec<_> = tables.iter().map(|table| table.quoted(Quoting::DOUBLE)).collect();
    format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "))
}

/// Locks what cannot be locked by its name, with all that it reads. The outer error is the session's.
async fn reach(session: &mut Session, table: &Table) -> Result<Result<()>> {
    let select = format!("SELECT FROM {} LIMIT 0", table.name.quoted(Quoting::DOUBLE));
    match attempt(session, &select).await? {
        // It was locked only after the snapshot.
        Ok(()) => match unchanged(session, "", table).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            found => Ok(found),
        },
        refused => Ok(refused),
    }
}

/// Runs a statement that may fail without an end to the transaction. The outer error is the session's.
async fn attempt(session: &mut Session, sql: &str) -> Result<Result<()>> {
    match session.execute(&format!("SAVEPOINT weir; {sql}; RELEASE SAVEPOINT weir")).await {
        Ok(_) => Ok(Ok(())),
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable) => Err(error),
        Err(error) => {
            // Still inside of it nothing could be exported.
            session.execute("ROLLBACK TO SAVEPOINT weir; RELEASE SAVEPOINT weir").await?;
            Ok(Err(error))
        }
    }
}

/// Checks that a table, its partitions and its children lie in the files that they lay in when the transaction's snapshot was
/// taken. `before` is run first.
///
/// # Errors
/// They do not, or the session's.
pub async fn unchanged(session: &mut Session, before: &str, table: &Table) -> Result<()> {
    let oid = table.oid;
    // The catalogue's rows are those of the snapshot, the functions tell what is now.
    let same: bool = session
        .answer(&format!(
            "{before}WITH RECURSIVE r(oid) AS (SELECT {oid}::oid UNION \
               SELECT i.inhrelid FROM r JOIN pg_catalog.pg_inherits i ON i.inhparent = r.oid) \
             SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = {oid}) AND coalesce(bool_and( \
               pg_relation_filenode(c.oid) IS NOT DISTINCT FROM nullif(c.relfilenode, 0)), true) \
             FROM r JOIN pg_catalog.pg_class c ON c.oid = r.oid WHERE c.relkind IN ('r', 'm')"
        ))
        .await
        .context("table", &table.name)?;
    if same {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "the table was made, emptied or rewritten after the snapshot of this run was taken: run the job again",
    )
    .with("table", &table.name))
}
