//! The sessions that hold a snapshot's locks: one split at a time is read in each, for they are among the sessions that the job
//! may have open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;
use weir_core::{ConnectorContext, Error, ErrorKind, Result};
use weir_sqlserver::{Session, Setup, cell_number, connect_first};

use crate::source::Location;

/// Whose session it is: the database and the login.
pub(crate) type Key = (String, String);

pub(crate) fn key(location: &Location) -> Key {
    (location.place(), location.options.first().map(|options| options.user.clone()).unwrap_or_default())
}

/// The sessions of a snapshot.
pub(crate) struct Holders {
    sessions: Mutex<HashMap<Key, Holder>>,
    changed: Notify,
    /// Whether splits are read in them: where connectors are counted. A split that is stopped while it is read in one ends the
    /// snapshot.
    lent: bool,
    /// Whether a split waits for the session of its database. Else it is read in another one meanwhile.
    alone: bool,
}

enum Holder {
    Idle(Box<Session>),
    Lent,
    Lost,
}

impl Holders {
    /// Where connectors are counted, sessions of several databases of a server leave no room for others: of one server there
    /// are `most`.
    pub(crate) fn of(sessions: Vec<(Key, Session)>, most: usize, context: &ConnectorContext) -> Self {
        let lent = context.shared.room().is_some();
        let alone = lent && most > 1;
        let sessions = sessions.into_iter().map(|(key, session)| (key, Holder::Idle(Box::new(session)))).collect();
        Self { sessions: Mutex::new(sessions), changed: Notify::new(), lent, alone }
    }

    /// Leaves them for the readers of the run; gives the name.
    pub(crate) fn leave(self: &Arc<Self>, context: &ConnectorContext) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("sqlserver locks {}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        context.shared.leave(name.clone(), self.clone());
        name
    }

    /// Those of a snapshot, if this process holds them.
    pub(crate) fn find(context: &ConnectorContext, snapshot: Option<&Value>) -> Option<Arc<Self>> {
        context.shared.find(snapshot?.as_str()?)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, Holder>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a database, if it is idle.
    fn take(self: &Arc<Self>, key: &Key) -> Result<Option<Work>> {
        let mut sessions = self.sessions();
        let holder =
            sessions.get_mut(key).ok_or_else(|| Error::internal("no session holds the locks of this split"))?;
        match std::mem::replace(holder, Holder::Lent) {
            Holder::Idle(session) => Ok(Some(Work { session: Some(*session), of: Some((self.clone(), key.clone())) })),
            Holder::Lent => Ok(None),
            Holder::Lost => {
                *holder = Holder::Lost;
                Err(lost())
            }
        }
    }

    async fn lend(self: &Arc<Self>, key: &Key) -> Result<Option<Work>> {
        if !self.lent {
            return Ok(None);
        }
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let lent = self.take(key)?;
            if lent.is_some() || !self.alone {
                return Ok(lent);
            }
            changed.await;
        }
    }

    /// Whether the locks are still there under which a split was read in another session.
    ///
    /// # Errors
    /// [`SnapshotLost`](ErrorKind::SnapshotLost).
    pub(crate) async fn check(self: &Arc<Self>, location: &Location, context: &ConnectorContext) -> Result<()> {
        // Who reads in it finds out.
        let Some(mut work) = self.take(&key(location))? else { return Ok(()) };
        let session = work.session()?;
        session.serve(context);
        let row = session.row("SELECT @@TRANCOUNT").await;
        match row.map(|row| row.and_then(|row| cell_number(&row, 0))) {
            Ok(Some(1)) => work.end().await,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Ok(_) | Err(_) => return Err(lost()),
        }
        Ok(())
    }

    fn put(&self, key: Key, holder: Holder) {
        self.sessions().insert(key, holder);
        self.changed.notify_waiters();
    }

    /// Takes all sessions that are idle.
    pub(crate) fn end(&self) -> Vec<Session> {
        let idle = |(_, holder)| match holder {
            Holder::Idle(session) => Some(*session),
            _ => None,
        };
        self.sessions().drain().filter_map(idle).collect()
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::SnapshotLost,
        "the session that held the locks was lost, and rows may have changed since: run the job again",
    )
}

/// A session to work in: one of its own, or one that holds the locks. That one is lost if it is dropped without having been
/// given back: rows may still be on their way.
pub(crate) struct Work {
    session: Option<Session>,
    of: Option<(Arc<Holders>, Key)>,
}

impl Work {
    /// The session that holds the locks, if it is free, else one of its own.
    ///
    /// # Errors
    /// The locks are lost; those of connecting.
    pub(crate) async fn begin(
        holders: Option<&Arc<Holders>>,
        location: &Location,
        setup: &Setup,
        context: &ConnectorContext,
    ) -> Result<Self> {
        if let Some(holders) = holders {
            let lent = context.cancel.run_until_cancelled(holders.lend(&key(location))).await;
            if let Some(mut lent) = lent.unwrap_or_else(|| Err(Error::cancelled()))? {
                lent.session()?.serve(context);
                return Ok(lent);
            }
        }
        let session = connect_first(&location.options, setup, context).await?;
        Ok(Self { session: Some(session), of: None })
    }

    /// Whether it holds the locks, in the transaction that does.
    pub(crate) fn holds(&self) -> bool {
        self.of.is_some()
    }

    /// The session.
    ///
    /// # Errors
    /// Never, until it ends.
    pub(crate) fn session(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| Error::internal("the session has ended"))
    }

    /// Lets it rest, or gives it back; nothing is on its way any more, and one of its own is in no transaction.
    pub(crate) async fn end(mut self) {
        let Some(session) = self.session.take() else { return };
        match self.of.take() {
            Some((holders, key)) => holders.put(key, Holder::Idle(Box::new(session))),
            None => session.rest().await,
        }
    }

    /// Ends it while rows are on their way.
    pub(crate) async fn stop(mut self) {
        if let Ok(session) = self.session() {
            session.stop().await;
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some((holders, key)) = self.of.take() {
            holders.put(key, Holder::Lost);
        }
    }
}
