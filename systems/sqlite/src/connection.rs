//! Opening a database file, and running blocking work on it away from the runtime.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use weir_core::{ConnectorContext, Error, ErrorKind, Result, ResultExt, Shared};

use crate::error::driver_error;
use crate::raw::Database;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading: nothing is ever created or changed.
    Read,
    /// Writing to a file that exists.
    Write,
    /// Writing; a missing file (not its folder) is created.
    Create,
}

/// A database file and how to open it.
#[derive(Debug, Clone)]
pub struct File {
    /// The file.
    pub path: PathBuf,
    /// Statements for every session.
    pub session: Vec<String>,
}

impl File {
    /// Whether the file exists.
    pub fn exists(&self) -> bool {
        self.path.is_file()
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map(|m| m.len()).unwrap_or(0)
    }

    /// Names the file however it was written.
    pub fn identity(&self) -> String {
        self.path.canonicalize().unwrap_or_else(|_| self.path.clone()).display().to_string()
    }

    /// The file: names of tables are unique in it.
    pub fn home(&self) -> String {
        weir_sql::home("sqlite", &self.identity(), None)
    }

    /// Tells the other connectors of the run that it writes to this file.
    pub fn mark_as_target(&self, shared: &Shared) {
        shared.leave(format!("sqlite target {}", self.identity()), Arc::new(()));
    }

    /// Whether the run writes to this file.
    pub fn is_target(&self, shared: &Shared) -> bool {
        shared.find::<()>(&format!("sqlite target {}", self.identity())).is_some()
    }

    /// Opens a connection and runs the session statements.
    ///
    /// Foreign keys are not enforced unless the session says `PRAGMA foreign_keys = ON`: that is SQLite's own default,
    /// and an overwrite must not delete the rows of other tables by cascade.
    pub async fn open(&self, access: Access, context: &ConnectorContext) -> Result<Connection> {
        let shown = self.path.display();
        if self.path.is_dir() {
            return Err(Error::config("the path is a folder: name the database file in it").with("file", shown));
        }
        if access != Access::Create && !self.exists() {
            let remedy = match access {
                Access::Read => "check the path (relative paths start at the working directory)",
                _ => "check the path, or let `createTable` create the file",
            };
            return Err(
                Error::new(ErrorKind::NotFound, format!("there is no database file: {remedy}")).with("file", shown)
            );
        }
        if let Some(folder) = self.path.parent().filter(|f| !f.as_os_str().is_empty() && !f.is_dir()) {
            return Err(Error::new(ErrorKind::NotFound, "the folder of the database does not exist: create it first")
                .with("folder", folder.display()));
        }
        if access == Access::Read && self.has_journal() {
            // A transaction that died left its journal, and a connection that only reads cannot roll it back. Where this
            // user may not write either, reading says so.
            if let Ok(recovering) = self.connect(Access::Write, context).await {
                let _ = recovering.run(|database| Ok(database.execute("SELECT 1 FROM sqlite_schema LIMIT 1")?)).await;
            }
        }
        let connection = self.connect(access, context).await?;
        if self.session.is_empty() {
            return Ok(connection);
        }
        let session = self.session.clone();
        let (connection, ()) = connection
            .run(move |database| {
                for statement in &session {
                    database.execute(statement).context("session", statement)?;
                }
                Ok(())
            })
            .await?;
        Ok(connection)
    }

    async fn connect(&self, access: Access, context: &ConnectorContext) -> Result<Connection> {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(access == Access::Read)
            .create_if_missing(access == Access::Create)
            .foreign_keys(false)
            // Short: longer waits are ours, and end when the run is stopped.
            .busy_timeout(Duration::from_millis(200))
            .disable_statement_logging();
        let connecting = async { options.connect().await.map_err(driver_error) };
        let inner = context.until_cancelled(connecting).await.context("file", self.path.display())?;
        Ok(Connection { inner, path: self.path.clone(), context: context.clone() })
    }

    /// Whether a transaction is under way, or has died.
    fn has_journal(&self) -> bool {
        let mut journal = self.path.clone().into_os_string();
        journal.push("-journal");
        std::fs::metadata(journal).is_ok_and(|m| m.len() > 0)
    }

    /// Opens a connection for one piece of work.
    pub async fn with<T: Send + 'static>(
        &self,
        access: Access,
        context: &ConnectorContext,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (_, result) = self.open(access, context).await?.run(work).await?;
        Ok(result)
    }
}

/// An open connection.
pub struct Connection {
    inner: SqliteConnection,
    path: PathBuf,
    context: ConnectorContext,
}

impl Connection {
    /// Lets another part of the run have the connection: from now on it heeds `context`.
    pub fn watched_by(mut self, context: &ConnectorContext) -> Self {
        self.context.cancel = context.cancel.clone();
        self
    }

    /// Runs `work` on a thread for blocking work. It is interrupted when the run is stopped and when this future is
    /// dropped, and so always ends soon. A failure closes the connection, which rolls back what it had open.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<(Self, T)> {
        self.on_thread(work, |connection, _, result| Ok((connection, result?))).await
    }

    /// Runs `work` within the transaction that is open, as [`run`](Self::run) does. As long as that transaction lasts the
    /// connection outlives a failure: `back` gets it on the thread as soon as the work has ended, also when nobody waits for
    /// it any more.
    pub async fn lend<T: Send + 'static>(
        self,
        back: impl FnOnce(Self) + Send + 'static,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let end = |connection, in_transaction, result| {
            if in_transaction {
                back(connection);
            }
            result
        };
        self.on_thread(work, end).await
    }

    /// `end` gets the connection, whether a transaction is open, and what came of the work.
    async fn on_thread<T: Send + 'static, R: Send + 'static>(
        mut self,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
        end: impl FnOnce(Self, bool, Result<T>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let cancel = self.context.cancel.child_token();
        let _guard = cancel.clone().drop_guard();
        let work = move || {
            let stopped = cancel.clone();
            let database = Database::lock(&mut self.inner, move || !cancel.is_cancelled())?;
            let result = if stopped.is_cancelled() { Err(Error::cancelled()) } else { work(&database) };
            let in_transaction = database.in_transaction();
            drop(database);
            let result = result.map_err(|error| error.with("file", self.path.display()));
            end(self, in_transaction, result)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::internal("the thread that works with the database died").because(error))?
    }
}
