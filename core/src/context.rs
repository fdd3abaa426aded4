//! What a connector is given besides its parameters.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono_tz::Tz;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{Kept, Revocable, Room, Seat};

/// How long a connector may take to tell its server that the run is stopped.
const GOODBYE: Duration = Duration::from_millis(500);

/// In whose words a connector was named. It decides defaults, never abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// By its plain name (`mysql`): our defaults.
    Native,
    /// By its DataX name (`mysqlreader`) or as a step of a DataWorks script: DataX's defaults.
    DataX,
}

/// What lives outside a task's serialisable input: made anew wherever the task runs.
#[derive(Debug, Clone)]
pub struct ConnectorContext {
    /// Fires when the run is to stop. Every wait of a connector ends with it within a second.
    pub cancel: CancellationToken,
    /// The job's multi-thread runtime, for clients that spawn work of their own (object stores, Delta, DataFusion).
    pub io: Handle,
    /// Whose defaults hold.
    pub form: Form,
    /// The job's time zone.
    pub time_zone: Tz,
    /// What other connectors of the run left in this process.
    pub shared: Shared,
}

/// What the connectors of one run leave for each other within a process: connections that were opened together to see one
/// snapshot, say, which a serialised token can only name. On another machine it is empty.
#[derive(Clone, Default)]
pub struct Shared {
    values: Arc<Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>>,
    kept: Option<Kept>,
    room: Option<Room>,
    revocable: Revocable,
}

impl Shared {
    /// The same values for work on another runtime, whose sessions are kept in `kept`, or not kept at all.
    pub fn on(&self, kept: Option<Kept>) -> Self {
        if let (Some(room), Some(kept)) = (&self.room, &kept) {
            room.knows(kept);
        }
        Self { kept, ..self.clone() }
    }

    /// The same for connectors whose sessions are counted in this room, or not at all.
    pub fn within(&self, room: Option<Room>) -> Self {
        let kept = self.kept.clone();
        Self { room, ..self.clone() }.on(kept)
    }

    /// The same for a publication that this is told of.
    pub fn telling(&self, revocable: Revocable) -> Self {
        Self { revocable, ..self.clone() }
    }

    /// What a publication tells whether it can be taken back.
    pub fn revocable(&self) -> &Revocable {
        &self.revocable
    }

    /// Whether sessions are counted.
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// Where sessions are kept on this runtime, if they are.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Leaves `value` under a name, which should say whose it is and be new.
    pub fn leave(&self, name: impl Into<String>, value: Arc<dyn Any + Send + Sync>) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), value);
    }

    /// What was left under a name; when that is no `T`, what `make` gives is left there. Of several who ask at once all
    /// get the same.
    pub fn find_or_leave<T: Send + Sync + 'static>(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(found)) = values.get(name).cloned().map(|value| value.downcast()) {
            return found;
        }
        let made = Arc::new(make());
        values.insert(name.to_owned(), made.clone());
        made
    }

    /// What was left under a name, if it is a `T`.
    pub fn find<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<T>> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(name).cloned().and_then(|value| value.downcast().ok())
    }

    /// Takes away what was left under a name.
    pub fn remove(&self, name: &str) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Takes away all that was left, and with it the sessions that it kept open.
    pub fn clear(&self) {
        // Dropped out of the lock: what goes may take something away here itself.
        let values = std::mem::take(&mut *self.values.lock().unwrap_or_else(PoisonError::into_inner));
        drop(values);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl ConnectorContext {
    /// The same without what connectors share: for what may itself be left there, which would else keep itself alive, and
    /// its connections open, for as long as the process lives.
    pub fn alone(&self) -> Self {
        Self { shared: Shared::default(), ..self.clone() }
    }

    /// As [`alone`](Self::alone), for sessions that are counted all the same.
    pub fn apart(&self) -> Self {
        let shared = Shared { values: Arc::default(), ..self.shared.clone() };
        Self { shared, ..self.clone() }
    }

    /// The seat of a session that is to be opened at a place, where they are counted.
    pub async fn seat(&self, place: impl FnOnce() -> String) -> Option<Seat> {
        Some(self.shared.room()?.enter(&place()).await)
    }

    /// Waits for `future`, but no longer than until the run is stopped, and then for the moment that it may take to tell its
    /// server: a statement whose connection is only dropped goes on there.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) when the run is stopped first and it does not succeed in that
    /// moment; else those of `future`.
    pub async fn until_cancelled<T>(
        &self,
        future: impl std::future::Future<Output = crate::Result<T>>,
    ) -> crate::Result<T> {
        if self.cancel.is_cancelled() {
            return Err(crate::Error::cancelled());
        }
        tokio::pin!(future);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            result = &mut future => return result,
        }
        // What is done by then is not thrown away: it may be a lease, or a connection that somebody lent.
        match tokio::time::timeout(GOODBYE, future).await {
            Ok(Ok(done)) => Ok(done),
            _ => Err(crate::Error::cancelled()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Instant;

    use super::*;
    use crate::{Error, ErrorKind};

    #[tokio::test]
    async fn a_stop_leaves_a_moment_to_say_goodbye() {
        let cancel = CancellationToken::new();
        let context = ConnectorContext {
            cancel: cancel.clone(),
            io: Handle::current(),
            form: Form::Native,
            time_zone: Tz::UTC,
            shared: Shared::default(),
        };
        assert_eq!(context.until_cancelled(async { Ok(1) }).await.unwrap(), 1);
        let told = AtomicBool::new(false);
        let statement = async {
            cancel.cancelled().await;
            tokio::task::yield_now().await;
            told.store(true, Relaxed);
            Err::<(), _>(Error::cancelled())
        };
        let stop = async { cancel.cancel() };
        let (stopped, ()) = tokio::join!(context.until_cancelled(statement), stop);
        assert_eq!((stopped.unwrap_err().kind(), told.load(Relaxed)), (ErrorKind::Cancelled, true));
        // What is done in that moment is done.
        let cancel = CancellationToken::new();
        let context = ConnectorContext { cancel: cancel.clone(), ..context };
        let late = async {
            cancel.cancelled().await;
            tokio::task::yield_now().await;
            Ok(2)
        };
        let (done, ()) = tokio::join!(context.until_cancelled(late), async { cancel.cancel() });
        assert_eq!(done.unwrap(), 2);
        // Nothing is begun after it, and nobody who does not listen is waited for.
        let begun = context.until_cancelled(async { panic!("begun") });
        assert_eq!(begun.await.map(|()| 1).unwrap_err().kind(), ErrorKind::Cancelled);
        let cancel = CancellationToken::new();
        let context = ConnectorContext { cancel: cancel.clone(), ..context };
        let deaf = context.until_cancelled(std::future::pending::<crate::Result<()>>());
        let began = Instant::now();
        let (stopped, ()) = tokio::join!(deaf, async { cancel.cancel() });
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(began.elapsed() < GOODBYE * 2);
    }
}
