//! The connections of a snapshot, lent to one task after another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, OwnedMutexGuard};
use weir_core::{ConnectorContext, Error, ErrorKind, Result};
use weir_mysql::RowSession;

use crate::same::{Found, check, look};

/// What a task needs to find the connections.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The name under which they were left.
    pub(crate) id: String,
    /// The server of each of the job's tables and statements.
    pub(crate) servers: Vec<usize>,
}

/// The connections of one server.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<Lent>,
    changed: Notify,
}

#[derive(Default)]
struct Lent {
    idle: Vec<RowSession>,
    /// Idle or in use.
    alive: usize,
    /// Tables that were asked about, as they are at the snapshot's moment.
    found: HashMap<String, Found>,
}

/// A connection on loan. Dropped without being given back, it is lost: rows may still be on their way.
pub(crate) struct Loan {
    pool: Arc<Pool>,
    session: Option<RowSession>,
}

impl Pool {
    pub(crate) fn of(sessions: Vec<RowSession>) -> Self {
        let lent = Lent { alive: sessions.len(), idle: sessions, ..Lent::default() };
        Self { state: Mutex::new(lent), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, Lent> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out what these tables are, unless all connections are at work.
    pub(crate) async fn look(self: &Arc<Self>, tables: &[String], context: &ConnectorContext) -> Result<()> {
        let new: Vec<String> = {
            let state = self.state();
            tables.iter().filter(|table| !state.found.contains_key(*table)).cloned().collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let Some(mut loan) = self.take() else { return Ok(()) };
        let session = loan.session()?;
        session.serve(context);
        let found = look(session, &new).await?;
        loan.give_back();
        self.state().found.extend(found);
        Ok(())
    }

    /// An idle connection.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Loan> {
        let session = self.state().idle.pop();
        session.map(|session| Loan { pool: self.clone(), session: Some(session) })
    }

    pub(crate) fn alive(&self) -> usize {
        self.state().alive
    }

    pub(crate) async fn lend(pool: Arc<Self>) -> Result<Loan> {
        loop {
            let changed = pool.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(loan) = pool.take() {
                return Ok(loan);
            }
            if pool.alive() == 0 {
                return Err(lost());
            }
            changed.await;
        }
    }
}

impl Loan {
    /// The connection.
    ///
    /// # Errors
    /// Never, while it is lent.
    pub(crate) fn session(&mut self) -> Result<&mut RowSession> {
        self.session.as_mut().ok_or_else(|| Error::internal("the connection is given back"))
    }

    /// Refuses a table that was read and is not what it was at the snapshot's moment. `nothing`: no row was read.
    pub(crate) async fn check_same(&mut self, table: &str, nothing: bool) -> Result<()> {
        let was = self.pool.state().found.get(table).cloned();
        match was {
            Some(was) => check(self.session()?, table, &was, nothing).await,
            None => Ok(()),
        }
    }

    /// Gives it back: nothing is on its way any more.
    pub(crate) fn give_back(mut self) {
        if let Some(session) = self.session.take() {
            self.pool.state().idle.push(session);
            self.pool.changed.notify_waiters();
        }
    }

    /// What to say of a connection that broke: others of the same moment can take its place, others can not.
    pub(crate) fn broke(self, error: Error) -> Error {
        let pool = self.pool.clone();
        drop(self);
        match pool.alive() {
            0 => lost().because(error),
            _ => error,
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.session.take().is_some() {
            self.pool.state().alive -= 1;
            self.pool.changed.notify_waiters();
        }
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::SnapshotLost,
        "the connection that held the snapshot was lost, and a new one would see another moment: run the job again",
    )
}

/// Borrows a connection of the snapshot for one of the job's tables or statements.
pub(crate) async fn borrow(context: &ConnectorContext, token: &Value, source: usize) -> Result<Loan> {
    let token =
        Token::deserialize(token).map_err(|e| Error::internal("the snapshot is none of this reader's").because(e))?;
    let pools: Arc<Vec<Arc<Pool>>> = context.shared.find(&token.id).ok_or_else(|| {
        Error::new(
            ErrorKind::Conflict,
            "the snapshot's connections belong to another process: with `consistency: none` splits can be read anywhere",
        )
    })?;
    let pool = token.servers.get(source).and_then(|server| pools.get(*server));
    let pool = pool.ok_or_else(|| Error::internal("the split's source is not in the snapshot"))?;
    // Whoever is stopped while it waits takes none: it would be lost with its snapshot.
    let lent = context.cancel.run_until_cancelled(Pool::lend(pool.clone())).await;
    let mut loan = lent.unwrap_or_else(|| Err(Error::cancelled()))?;
    loan.session()?.serve(context);
    Ok(loan)
}

/// The right to ask a source about its tables, beside the connections that hold its snapshot: in a whole-database job, which
/// counts connections, one does so at a time.
pub(crate) async fn turn(context: &ConnectorContext) -> Option<OwnedMutexGuard<()>> {
    context.shared.room()?;
    let asking: Arc<tokio::sync::Mutex<()>> = context.shared.find_or_leave("mysql asking", Default::default);
    Some(asking.lock_owned().await)
}
