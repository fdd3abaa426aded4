//! The snapshot that the tables of a run share, and the locks that a whole-database job holds on all of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Mutex;
use weir_core::{ConnectorContext, Error, ErrorKind, ObjectName, Result, Shared, SourceSnapshot};
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
    tables: HashSet<TableName>,
    /// What they are: while they are locked, that does not change.
    described: HashMap<TableName, Table>,
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
        shared.find::<Self>(&name(endpoint))?.described.get(table).cloned()
    }

    /// The snapshot of a whole-database job and its moment, where it holds all of these tables; then nobody needs locks of
    /// his own.
    ///
    /// # Errors
    /// One of the tables is locked by somebody else.
    pub async fn token(
        shared: &Shared,
        endpoint: &Endpoint,
        tables: &[&TableName],
    ) -> Result<Option<(String, String)>> {
        let Some(locked) = shared.find::<Self>(&name(endpoint)) else { return Ok(None) };
        if let Some(error) = tables.iter().find_map(|table| Self::refusal(shared, endpoint, table)) {
            return Err(error);
        }
        if !tables.iter().all(|table| locked.tables.contains(*table)) {
            return Ok(None);
        }
        let exported = exported(shared, endpoint);
        let mut exported = exported.0.lock().await;
        let Some(export) = exported.as_mut() else { return Ok(None) };
        if export.session.execute("SELECT 1").await.is_ok() {
            return Ok(Some((export.token.clone(), export.moment.clone())));
        }
        // The locks are gone with the session.
        *exported = None;
        shared.remove(&name(endpoint));
        Ok(None)
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
    // What is left for others must not keep them alive.
    let mut session = endpoint.connect(&context.alone()).await?;
    session.keep_open().await?;
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    session.execute(&format!("SET LOCAL lock_timeout = '{LOCK_WAIT}'")).await?;
    let tables: Vec<TableName> =
        tables.iter().map(|table| TableName { schema: table.schema.clone(), name: table.table.clone() }).collect();
    let mut locked = Locked { tables: HashSet::new(), described: HashMap::new(), refused: HashMap::new() };
    for chunk in tables.chunks(AT_ONCE) {
        if lock(&mut session, chunk).await?.is_ok() {
            locked.tables.extend(chunk.iter().cloned());
            continue;
        }
        for table in chunk {
            match lock(&mut session, std::slice::from_ref(table)).await? {
                Ok(()) => drop(locked.tables.insert(table.clone())),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    locked.refused.insert(table.clone(), error.full());
                }
                // A view, no right to all of its columns, gone: its reader finds out.
                Err(_) => {}
            }
        }
    }
    let names: Vec<TableName> = locked.tables.iter().cloned().collect();
    for chunk in names.chunks(AT_ONCE) {
        let oids = oids(&mut session, chunk).await?;
        let described = describe_all(&mut session, &oids).await?;
        locked.described.extend(described.into_iter().map(|table| (table.name.clone(), table)));
    }
    let export = Export::of(session).await?;
    let description = format!("exported snapshot {} of {} locked tables", export.token, locked.tables.len());
    *exported(&context.shared, endpoint).0.lock().await = Some(export);
    let names = [name(endpoint), format!("postgresql snapshot of {}", endpoint.identity())];
    context.shared.leave(names[0].clone(), Arc::new(locked));
    Ok(Some(SourceSnapshot { description, hold: Box::new(Hold { shared: context.shared.clone(), names }) }))
}

/// Locks some tables, all of them or none. The outer error is the session's.
async fn lock(session: &mut Session, tables: &[TableName]) -> Result<Result<()>> {
    let names: Vec<_> = tables.iter().map(|table| table.quoted(Quoting::DOUBLE)).collect();
    session.execute("SAVEPOINT weir").await?;
    match session.execute(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "))).await {
        Ok(_) => {
            session.execute("RELEASE SAVEPOINT weir").await?;
            Ok(Ok(()))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable) => Err(error),
        Err(error) => {
            // Still inside of it nothing could be exported.
            session.execute("ROLLBACK TO SAVEPOINT weir; RELEASE SAVEPOINT weir").await?;
            Ok(Err(error))
        }
    }
}
