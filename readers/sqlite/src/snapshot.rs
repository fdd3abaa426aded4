//! One moment of a file for all splits of all tables of a run.
//!
//! SQLite cannot hand a transaction's view to another connection. So several connections begin to read, and as long as a
//! further one says that nobody committed meanwhile (`PRAGMA data_version`), all of them see the same. When somebody has,
//! no more can join, and the splits share those that there are: slower, never other rows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Notify;
use weir_core::{ConnectorContext, Error, ErrorKind, Result, ResultExt, Snapshot, SnapshotGuard};
use weir_sqlite::{Access, Connection, Database, File};

use crate::SqliteReader;
use crate::config::Consistency;

/// How often the first connection is tried again when somebody writes at just that moment.
const ATTEMPTS: usize = 50;

/// A moment of a file, shared by all readers of a run.
#[derive(Default)]
pub struct Moment {
    /// In autocommit, or it would not see what others commit; with what it saw at first.
    watch: tokio::sync::Mutex<Option<(Connection, i64)>>,
    readers: Mutex<Readers>,
    given_back: Notify,
}

#[derive(Default)]
struct Readers {
    idle: Vec<Connection>,
    /// Those that read now.
    out: usize,
    /// Whether there is a moment.
    begun: bool,
    /// Whether somebody committed since, or may have: no more can join.
    written: bool,
}

/// A connection that sees the moment; whoever drops it gives it to the next split.
pub struct Lease {
    moment: Arc<Moment>,
    connection: Option<Connection>,
}

impl Lease {
    /// Reads. A read that fails, or that nobody waits for any more, takes the connection away from no other split, unless
    /// it ended the transaction.
    pub async fn run<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = self.connection.take().ok_or_else(|| Error::internal("a lease without a connection"))?;
        connection.lend(move |connection| self.give_back(connection), work).await
    }

    fn give_back(mut self, connection: Connection) {
        self.connection = Some(connection);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut readers = self.moment.readers();
        readers.out -= 1;
        readers.idle.extend(self.connection.take());
        drop(readers);
        self.moment.given_back.notify_waiters();
    }
}

impl Moment {
    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the moment, unless an earlier entry of the run did, and opens up to `channels` connections that see it.
    async fn begin(&self, file: &File, context: &ConnectorContext, channels: usize) -> Result<()> {
        let mut watch = self.watch.lock().await;
        if !self.readers().begun {
            let mut attempts = 0;
            loop {
                let (connection, before) = version(file.open(Access::Read, context).await?).await?;
                let reader = reading(file, context).await?;
                let (connection, after) = version(connection).await?;
                if before == after {
                    *watch = Some((connection, before));
                    let mut readers = self.readers();
                    readers.idle.push(reader);
                    readers.begun = true;
                    break;
                }
                attempts += 1;
                if attempts == ATTEMPTS {
                    let message = "another program commits to the file all the time: run again when it is done, or set \
                                   `consistency` to `none`";
                    return Err(Error::new(ErrorKind::Conflict, message).retryable(true));
                }
            }
        }
        let here = |readers: &Readers| readers.idle.len() + readers.out;
        while here(&self.readers()) < channels {
            match self.join(&mut watch, file, context).await? {
                Some(reader) => self.readers().idle.push(reader),
                None => break,
            }
        }
        Ok(())
    }

    /// One more connection that sees the moment; `None` when somebody committed since.
    async fn join(
        &self,
        watch: &mut Option<(Connection, i64)>,
        file: &File,
        context: &ConnectorContext,
    ) -> Result<Option<Connection>> {
        if self.readers().written {
            return Ok(None);
        }
        let reader = match reading(file, context).await {
            // A writer that waits for our readers to end lets no new one in.
            Err(error) if error.kind() == ErrorKind::Conflict => None,
            reader => Some(reader?),
        };
        // Asked after the reader began: what was committed by then would show. Whoever is stopped meanwhile takes the
        // watch along.
        let unchanged = match watch.take() {
            Some((connection, first)) => {
                let (connection, now) = version(connection.watched_by(context)).await?;
                *watch = Some((connection, first));
                now == first
            }
            None => false,
        };
        let reader = reader.filter(|_| unchanged);
        self.readers().written = reader.is_none();
        Ok(reader)
    }

    /// A connection that sees the moment, as soon as there is one.
    pub async fn take(self: &Arc<Self>, file: &File, context: &ConnectorContext) -> Result<Lease> {
        // Each task is stopped by itself, and the connection goes from one to the other.
        let lease =
            |connection: Connection| Lease { moment: self.clone(), connection: Some(connection.watched_by(context)) };
        loop {
            let given_back = self.given_back.notified();
            tokio::pin!(given_back);
            // From here on it hears of a connection that is given back.
            given_back.as_mut().enable();
            let (idle, all_lost) = {
                let mut readers = self.readers();
                let idle = readers.idle.pop();
                readers.out += usize::from(idle.is_some());
                (idle, readers.written && readers.out == 0)
            };
            if let Some(connection) = idle {
                return Ok(lease(connection));
            }
            if all_lost {
                return Err(gone());
            }
            let mut watch = self.watch.lock().await;
            if let Some(connection) = self.join(&mut watch, file, &alone(context)).await? {
                self.readers().out += 1;
                return Ok(lease(connection));
            }
            drop(watch);
            if self.readers().out == 0 && self.readers().idle.is_empty() {
                return Err(gone());
            }
            context
                .until_cancelled(async {
                    given_back.await;
                    Ok(())
                })
                .await?;
        }
    }
}

fn gone() -> Error {
    let message = "the file was written while it was read, and no connection is left that sees it as it was: run again";
    Error::new(ErrorKind::SnapshotLost, message)
}

/// The context for a connection that the run's shared things hold: it must not hold them in turn.
fn alone(context: &ConnectorContext) -> ConnectorContext {
    ConnectorContext { shared: Default::default(), ..context.clone() }
}

async fn version(connection: Connection) -> Result<(Connection, i64)> {
    connection.run(|database| Ok(database.integer("PRAGMA data_version", &[])?.unwrap_or_default())).await
}

/// A connection within a read transaction that has begun: SQLite takes the view with the first look at the file.
async fn reading(file: &File, context: &ConnectorContext) -> Result<Connection> {
    let connection = file.open(Access::Read, context).await?;
    let look = connection.run(|database| {
        database.execute("BEGIN")?;
        Ok(database.execute("SELECT 1 FROM sqlite_schema LIMIT 1")?)
    });
    Ok(look.await?.0)
}

fn name(file: &File) -> String {
    format!("sqlite moment of {}", file.identity())
}

/// The moment that a split is to see, as the snapshot's token says; `None` for whatever it finds.
pub fn of_split(token: Option<&Value>, file: &File, context: &ConnectorContext) -> Result<Option<Arc<Moment>>> {
    let held = token.and_then(|t| t.get("files")?.as_array());
    let identity = file.identity();
    if !held.is_some_and(|files| files.iter().any(|f| f.as_str() == Some(identity.as_str()))) {
        return Ok(None);
    }
    match context.shared.find(&name(file)) {
        Some(moment) => Ok(Some(moment)),
        None => Err(Error::new(ErrorKind::Conflict, "the process that held the file's snapshot has ended: run again")),
    }
}

#[async_trait]
impl Snapshot for SqliteReader {
    async fn begin(&self, channels: usize) -> Result<SnapshotGuard> {
        let mut files: Vec<&File> = Vec::new();
        for file in self.files() {
            if !files.iter().any(|f| f.identity() == file.identity()) {
                files.push(file);
            }
        }
        let (mut held, mut moments, mut locks) = (Vec::new(), Vec::new(), false);
        let mut loose = Vec::new();
        for file in files {
            let shown = file.path.display();
            let mode = |database: &weir_sqlite::Database<'_>| Ok(database.texts("PRAGMA journal_mode", &[])?);
            let mode = file.with(Access::Read, self.context(), mode).await?;
            let wal = mode.first().is_some_and(|mode| mode == "wal");
            // Without a write-ahead log a reader that holds its view would keep our own writer out for ever.
            if !wal && file.is_target(&self.context().shared) {
                if self.consistency() == Consistency::Snapshot {
                    let message = "the file is the source and the target, and only in WAL mode can a snapshot be held \
                                   meanwhile: PRAGMA journal_mode = wal, or set `consistency` to `auto`";
                    return Err(Error::new(ErrorKind::Conflict, message).with("file", shown));
                }
                loose.push(shown.to_string());
                continue;
            }
            if file.is_target(&self.context().shared) {
                // What an earlier entry of the job has written is part of what this one reads.
                self.context().shared.remove(&name(file));
            }
            let moment: Arc<Moment> = self.context().shared.find_or_leave(&name(file), Moment::default);
            moment.begin(file, &alone(self.context()), channels).await.context("file", shown)?;
            held.push(file.identity());
            moments.push(moment);
            locks |= !wal;
        }
        let mut description = match moments.len() {
            0 => String::new(),
            1 => "one moment of the file for all splits".into(),
            n => format!("one moment of each of {n} files for all splits"),
        };
        if locks {
            description
                .push_str("; until the run ends other programs cannot write to it, which WAL mode would let them");
        }
        if !loose.is_empty() {
            let gap = if description.is_empty() { "" } else { "; " };
            description.push_str(&format!(
                "{gap}each split sees {} as it is when it is read, for it is the target too and not in WAL mode",
                loose.join(", ")
            ));
        }
        let token = json!({ "files": held });
        // A run never has another moment of a file: when it is lost, so is the run.
        Ok(SnapshotGuard { token, description, moments: BTreeMap::new(), hold: Box::new(moments) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_plugins_test::harness::context;

    #[tokio::test]
    async fn a_lost_connection_is_replaced_only_while_nobody_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let file = File { path: folder.path().join("t.db"), session: vec![] };
        let context = context();
        let write = async |sql: &'static str| {
            file.with(Access::Create, &context, move |database| Ok(database.execute(sql)?)).await.unwrap();
        };
        write("PRAGMA journal_mode = wal").await;
        write("CREATE TABLE a(v INTEGER)").await;
        let moment = Arc::new(Moment::default());
        moment.begin(&file, &context, 1).await.unwrap();
        // A read that ends its transaction has no moment to give back.
        let lose = async || {
            let lease = moment.take(&file, &context).await?;
            lease.run(|database| Ok(database.execute("ROLLBACK")?)).await
        };
        lose().await.unwrap();
        lose().await.unwrap();
        write("INSERT INTO a VALUES (1)").await;
        let error = lose().await.unwrap_err();
        assert!(error.kind() == ErrorKind::SnapshotLost && error.message().contains("run again"), "{error}");
    }
}
