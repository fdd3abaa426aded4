//! The run ledger: what this machine remembers of its runs, so that one that died can be continued.
//!
//! A SQLite file in the state folder. It holds what a run decided before its first read (specs, splits), what became of
//! each split, and the final report. The *target's* record of finished splits is the truth; the ledger follows it, so
//! losing the last moments of the ledger to a crash loses nothing.

mod changes;
mod faults;
mod keys;
mod litter;
mod lock;
mod records;
mod watermarks;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tokio::sync::Mutex;
use tokio::time::Instant;
use weir_core::{Committed, Error, ErrorKind, Receipt, Result};

use crate::database::Expansion;

pub use changes::{KnownRow, MetTable, RecordedChange, known_tables};
pub use keys::{DroppedKey, MadeKey};
pub use lock::JobLock;
pub use records::{EntryProgress, EntryRecord, RunRecord, RunStatus, SplitRecord};
pub use watermarks::WatermarkRecord;

use self::faults::{failed, is_damaged, unusable};
use self::writing::{Synced, change};

/// The file in the state folder.
const FILE: &str = "ledger.db";

/// The number that a changed layout raises; a newer ledger is refused by an older program.
const LAYOUT: i64 = 9;

/// The oldest layout that can be looked into as it is.
const READABLE: i64 = 7;

/// How long opening it waits for another process that makes it.
const OPENING: Duration = Duration::from_secs(10);

/// How long SQLite waits for others once it is open: changes wait by themselves, see `writing`.
const OPEN: Duration = Duration::from_millis(50);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, job TEXT NOT NULL, path TEXT, at TEXT NOT NULL, parameters TEXT NOT NULL,
    fingerprint TEXT NOT NULL, status TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT, report TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_of_job ON runs (job, started_at);
CREATE TABLE IF NOT EXISTS entries (
    run_id TEXT NOT NULL, entry INTEGER NOT NULL, spec TEXT NOT NULL, source TEXT NOT NULL, committed TEXT,
    PRIMARY KEY (run_id, entry)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS splits (
    run_id TEXT NOT NULL, entry INTEGER NOT NULL, split INTEGER NOT NULL, body TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, receipt TEXT,
    PRIMARY KEY (run_id, entry, split)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS expansions (
    run_id TEXT PRIMARY KEY, body TEXT NOT NULL, publishing INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS windows (
    run_id TEXT NOT NULL, entry INTEGER NOT NULL, target TEXT NOT NULL, ordinal INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (run_id, entry)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS watermarks (
    job TEXT NOT NULL, source TEXT NOT NULL, place TEXT NOT NULL, ordinal INTEGER NOT NULL, target TEXT NOT NULL,
    change_column TEXT NOT NULL, value TEXT NOT NULL, run_id TEXT NOT NULL, moved_at TEXT NOT NULL,
    PRIMARY KEY (job, source, place, ordinal)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS syncs (id INTEGER PRIMARY KEY, written INTEGER NOT NULL);";

/// An open ledger.
pub struct Ledger {
    connection: Mutex<SqliteConnection>,
    /// The state folder; none in memory.
    folder: Option<PathBuf>,
    /// Changes that were written, and how many of them are known to be on the disk.
    written: AtomicU64,
    synced: AtomicU64,
    /// When the run was stopped that it is opened for.
    stopped: Arc<OnceLock<Instant>>,
}

impl Ledger {
    /// Opens the ledger of a state folder, and makes it when there is none.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the folder cannot be written, with what to do.
    pub async fn open(state_dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(state_dir).map_err(|error| unusable(state_dir, error))?;
        let opening = SqliteConnection::connect_with(&in_folder(state_dir).busy_timeout(OPENING)).await;
        let unusable = |error| match is_damaged(&error) {
            true => failed(error),
            false => unusable(state_dir, error),
        };
        let made = async { Self::made(opening.map_err(unusable)?, unusable).await };
        let ledger = made.await.map_err(|error| error.with("folder", state_dir.display()))?;
        Ok(Self { folder: Some(state_dir.to_owned()), ..ledger })
    }

    /// Makes what is not there yet.
    async fn made(mut connection: SqliteConnection, unusable: impl Fn(sqlx::Error) -> Error) -> Result<Self> {
        let layout: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.map_err(failed)?;
        if layout > LAYOUT {
            let text = "the state folder was written by a newer Weir: use that, or another --state-dir";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if layout < LAYOUT {
            for tables in [TABLES, changes::TABLES, keys::TABLES, litter::TABLES] {
                sqlx::raw_sql(tables).execute(&mut connection).await.map_err(&unusable)?;
            }
            let layout = format!("PRAGMA user_version = {LAYOUT}");
            sqlx::raw_sql(AssertSqlSafe(layout)).execute(&mut connection).await.map_err(&unusable)?;
        }
        let open = format!("PRAGMA busy_timeout = {}", OPEN.as_millis());
        sqlx::raw_sql(AssertSqlSafe(open)).execute(&mut connection).await.map_err(failed)?;
        Ok(Self::of(connection))
    }

    fn of(connection: SqliteConnection) -> Self {
        Self {
            connection: Mutex::new(connection),
            folder: None,
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            stopped: Arc::default(),
        }
    }

    /// For a run: once it is stopped, at the moment that stands there then, changes wait no longer than it may take to end.
    pub(crate) fn stopped_at(self, stopped: Arc<OnceLock<Instant>>) -> Self {
        Self { stopped, ..self }
    }

    /// Opens the ledger of a state folder to look into it; `None` when there is none. The folder need not be writable.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) when another version of Weir has made it; [`Config`](ErrorKind::Config) when
    /// the folder is none; [`Data`](ErrorKind::Data) when the ledger is damaged; [`Io`](ErrorKind::Io).
    pub async fn find_in(state_dir: &Path) -> Result<Option<Self>> {
        match std::fs::metadata(state_dir.join(FILE)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                let text = "the state folder is no folder: check --state-dir, or WEIR_STATE_DIR";
                return Err(Error::config(text).with("folder", state_dir.display()));
            }
            Err(_) => return Ok(None),
        }
        match Self::open(state_dir).await {
            Err(error) if error.kind() == ErrorKind::Io => Self::read(state_dir).await.map(Some),
            opened => opened.map(Some),
        }
    }

    /// Opens a ledger that cannot be written.
    async fn read(state_dir: &Path) -> Result<Self> {
        let at = |error: Error| error.with("folder", state_dir.display());
        let file = state_dir.join(FILE);
        let mut log = file.clone().into_os_string();
        log.push("-wal");
        // Without a log the file is all there is. SQLite would make files beside it to find that out, and cannot.
        let whole = std::fs::metadata(log).map_or(true, |log| log.len() == 0);
        let options = SqliteConnectOptions::new().filename(file).read_only(true).immutable(whole).busy_timeout(OPENING);
        let connecting = SqliteConnection::connect_with(&options.disable_statement_logging()).await;
        let mut connection = connecting.map_err(|error| at(failed(error)))?;
        let layout: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.map_err(|e| at(failed(e)))?;
        if !(READABLE..=LAYOUT).contains(&layout) {
            let text =
                "the state folder was written by another version of Weir, and cannot be written: use that version";
            return Err(at(Error::new(ErrorKind::Unsupported, text)));
        }
        Ok(Self { folder: Some(state_dir.to_owned()), ..Self::of(connection) })
    }

    /// Says of a fault where the ledger is.
    fn at(&self) -> impl Fn(Error) -> Error + '_ {
        |error| match &self.folder {
            Some(folder) => error.with("folder", folder.display()),
            None => error,
        }
    }

    /// The fault of a statement.
    fn failed(&self) -> impl Fn(sqlx::Error) -> Error + '_ {
        |error| self.at()(failed(error))
    }

    /// Writes down a run that begins, or begins again.
    pub async fn begin(&self, run: &RunRecord) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let write = sqlx::query(
            "INSERT INTO runs (run_id, job, path, at, parameters, fingerprint, status, started_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT (run_id) DO UPDATE SET status = excluded.status, finished_at = NULL, report = NULL",
        )
        .bind(&run.run_id)
        .bind(&run.job)
        .bind(&run.path)
        .bind(&run.at)
        .bind(json(&run.parameters)?)
        .bind(json(&run.fingerprint)?)
        .bind(RunStatus::Running.name())
        .bind(&run.started_at);
        let mut change = change!(self, connection, Synced::Now);
        write.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }

    /// Writes down the tables that a run of a whole-database job has: a resume goes on with the same.
    pub async fn expand(&self, run_id: &str, expansion: &Expansion) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        let query = sqlx::query("INSERT OR REPLACE INTO expansions (run_id, body) VALUES (?1, ?2)");
        query.bind(run_id).bind(json(expansion)?).execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }

    /// The tables of a run of a whole-database job, and whether all of them were moved and their publication had begun.
    pub async fn expansion(&self, run_id: &str) -> Result<Option<(Expansion, bool)>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT body, publishing FROM expansions WHERE run_id = ?1").bind(run_id);
        let row = query.fetch_optional(&mut *connection).await.map_err(self.failed())?;
        row.map(|row| Ok((parsed(row.get("body"))?, row.get("publishing")))).transpose()
    }

    /// All tables of a run are moved, and begin to be published together; or that came to nothing.
    pub async fn publishing(&self, run_id: &str, begun: bool) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        let query = sqlx::query("UPDATE expansions SET publishing = ?2 WHERE run_id = ?1").bind(run_id).bind(begun);
        query.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }

    /// The run with this id.
    pub async fn run(&self, run_id: &str) -> Result<Option<RunRecord>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT * FROM runs WHERE run_id = ?1").bind(run_id);
        let run = query.fetch_optional(&mut *connection).await.map_err(self.failed())?;
        run.as_ref().map(|row| self.seen(run_of(row)?)).transpose()
    }

    /// A run as it is now: one that did not end, and whose process has let go of its job's lock, was interrupted.
    fn seen(&self, run: RunRecord) -> Result<RunRecord> {
        let free = |folder: &PathBuf| JobLock::is_free(folder, run.lock());
        let interrupted = run.status == RunStatus::Running && self.folder.as_ref().is_some_and(free);
        Ok(RunRecord { status: if interrupted { RunStatus::Interrupted } else { run.status }, ..run })
    }

    /// The last run of a job, by the job's name or its file. One that did not succeed comes before all others: there is
    /// one at most, and the time of day must not hide it, for clocks go back.
    pub async fn last_run(&self, job: &str) -> Result<Option<RunRecord>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT * FROM runs WHERE job = ?1 OR path = ?1 \
             ORDER BY status IN ('succeeded', 'abandoned'), started_at DESC, run_id DESC LIMIT 1",
        );
        query.bind(job).fetch_optional(&mut *connection).await.map_err(self.failed())?.as_ref().map(run_of).transpose()
    }

    /// The latest runs, newest first.
    pub async fn runs(&self, most: u32) -> Result<Vec<RunRecord>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT * FROM runs ORDER BY started_at DESC, run_id DESC LIMIT ?1").bind(most);
        let rows = query.fetch_all(&mut *connection).await.map_err(self.failed())?;
        rows.iter().map(|row| self.seen(run_of(row)?)).collect()
    }

    /// Writes down all that was decided about an entry, before its first read. What an earlier process decided is
    /// forgotten. Windows outlive [`forget_entry`](Self::forget_entry): whoever plans the entry again reads the same.
    pub async fn plan_entry(&self, run_id: &str, entry: &EntryRecord, splits: &[weir_core::Split]) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Later);
        sqlx::query("DELETE FROM splits WHERE run_id = ?1 AND entry = ?2")
            .bind(run_id)
            .bind(entry.entry)
            .execute(&mut *change)
            .await
            .map_err(self.failed())?;
        sqlx::query("INSERT OR REPLACE INTO entries (run_id, entry, spec, source) VALUES (?1, ?2, ?3, ?4)")
            .bind(run_id)
            .bind(entry.entry)
            .bind(json(&entry.spec)?)
            .bind(json(&entry.source)?)
            .execute(&mut *change)
            .await
            .map_err(self.failed())?;
        watermarks::freeze(&mut change, run_id, entry).await.map_err(self.at())?;
        changes::keep(&mut change, run_id, entry).await.map_err(self.at())?;
        for split in splits {
            sqlx::query("INSERT INTO splits (run_id, entry, split, body) VALUES (?1, ?2, ?3, ?4)")
                .bind(run_id)
                .bind(entry.entry)
                .bind(split.id)
                .bind(json(split)?)
                .execute(&mut *change)
                .await
                .map_err(self.failed())?;
        }
        change.commit().await.map_err(self.failed())?;
        let mine = self.written.fetch_add(1, Relaxed) + 1;
        drop(connection);
        self.sync(mine).await
    }

    /// Returns when the first `mine` changes are on the disk. Of many tables that are planned at once, whose changes wait
    /// for the connection one behind the other, the first to come here syncs all that were written before.
    async fn sync(&self, mine: u64) -> Result<()> {
        let mut connection = self.connection.lock().await;
        if self.synced.load(Relaxed) >= mine {
            return Ok(());
        }
        let written = self.written.load(Relaxed);
        let mut change = change!(self, connection, Synced::Now);
        // Whatever is written takes along what was written before it.
        let mark = sqlx::query("INSERT OR REPLACE INTO syncs (id, written) VALUES (1, ?1)").bind(written as i64);
        mark.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())?;
        self.synced.store(written, Relaxed);
        Ok(())
    }

    /// What was decided about the entries of a run, in order.
    pub async fn entries(&self, run_id: &str) -> Result<Vec<EntryRecord>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT entries.*, windows.body, windows.ordinal, knowledge.body AS known FROM entries \
             LEFT JOIN windows USING (run_id, entry) LEFT JOIN knowledge USING (run_id, entry) \
             WHERE entries.run_id = ?1 ORDER BY entries.entry",
        );
        let query = query.bind(run_id);
        let rows = query.fetch_all(&mut *connection).await.map_err(self.failed())?;
        let of = |row: &SqliteRow| {
            Ok(EntryRecord {
                entry: row.get::<u32, _>("entry"),
                spec: parsed(row.get("spec"))?,
                source: parsed(row.get("source"))?,
                committed: row.get::<Option<&str>, _>("committed").map(parsed).transpose()?,
                windows: row.get::<Option<&str>, _>("body").map(parsed).transpose()?.unwrap_or_default(),
                ordinal: row.get::<Option<u32>, _>("ordinal").unwrap_or_default(),
                known: row.get::<Option<&str>, _>("known").map(parsed).transpose()?,
            })
        };
        rows.iter().map(of).collect()
    }

    /// The splits of an entry, in order.
    pub async fn splits(&self, run_id: &str, entry: u32) -> Result<Vec<SplitRecord>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT * FROM splits WHERE run_id = ?1 AND entry = ?2 ORDER BY split");
        let rows = query.bind(run_id).bind(entry).fetch_all(&mut *connection).await.map_err(self.failed())?;
        let of = |row: &SqliteRow| {
            Ok(SplitRecord {
                split: parsed(row.get("body"))?,
                attempts: row.get("attempts"),
                receipt: row.get::<Option<&str>, _>("receipt").map(parsed).transpose()?,
            })
        };
        rows.iter().map(of).collect()
    }

    /// How far a run is: splits and finished splits of each entry.
    pub async fn progress(&self, run_id: &str) -> Result<Vec<EntryProgress>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT entry, count(*) AS splits, count(receipt) AS finished, \
             coalesce(sum(receipt ->> '$.rows'), 0) AS rows FROM splits WHERE run_id = ?1 GROUP BY entry ORDER BY entry",
        );
        let rows = query.bind(run_id).fetch_all(&mut *connection).await.map_err(self.failed())?;
        let of = |row: &SqliteRow| EntryProgress {
            entry: row.get("entry"),
            splits: row.get("splits"),
            finished: row.get("finished"),
            rows: row.get("rows"),
        };
        Ok(rows.iter().map(of).collect())
    }

    /// An attempt at a split begins; 0: those that were made have come to nothing for sure. Not synced where what matters of it is
    /// at the target (`recorded`); else it is the one proof that rows may be there.
    pub async fn attempt(&self, run_id: &str, entry: u32, split: u32, attempt: u32, recorded: bool) -> Result<()> {
        let query = sqlx::query("UPDATE splits SET attempts = ?4 WHERE run_id = ?1 AND entry = ?2 AND split = ?3");
        let mut connection = self.connection.lock().await;
        let synced = if recorded || attempt == 0 { Synced::Later } else { Synced::Now };
        let mut change = change!(self, connection, synced);
        let query = query.bind(run_id).bind(entry).bind(split).bind(attempt);
        query.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }

    /// A split is finished. Not synced: the target's record says so too.
    pub async fn finish_split(&self, run_id: &str, entry: u32, receipt: &Receipt) -> Result<()> {
        let query = sqlx::query("UPDATE splits SET receipt = ?4 WHERE run_id = ?1 AND entry = ?2 AND split = ?3");
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Later);
        let query = query.bind(run_id).bind(entry).bind(receipt.split).bind(json(receipt)?);
        query.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }

    /// An entry is published. Synced only where the target itself keeps no record of it.
    pub async fn publish(&self, run_id: &str, entry: u32, committed: &Committed, recorded: bool) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let synced = if recorded { Synced::Later } else { Synced::Now };
        let mut change = change!(self, connection, synced);
        let query = sqlx::query("UPDATE entries SET committed = ?3 WHERE run_id = ?1 AND entry = ?2");
        let query = query.bind(run_id).bind(entry).bind(json(committed)?);
        query.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }

    /// What was staged for an entry is gone: a resume plans it anew.
    pub async fn forget_entry(&self, run_id: &str, entry: u32) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        for table in [
            "DELETE FROM entries WHERE run_id = ?1 AND entry = ?2",
            "DELETE FROM splits WHERE run_id = ?1 AND entry = ?2",
        ] {
            sqlx::query(table).bind(run_id).bind(entry).execute(&mut *change).await.map_err(self.failed())?;
        }
        change.commit().await.map_err(self.failed())
    }

    /// A run has ended, with its report as JSON; durable when this returns. With its success its windows are read, and the
    /// watermarks move. Of a run that is given up, and of one of a whole database, whose tables succeed one by one, those
    /// count that are published.
    pub async fn end(&self, run_id: &str, status: RunStatus, finished_at: &str, report: Option<&str>) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        let query = sqlx::query(
            "UPDATE runs SET status = ?2, finished_at = ?3, report = coalesce(?4, report) WHERE run_id = ?1",
        );
        let query = query.bind(run_id).bind(status.name()).bind(finished_at).bind(report);
        query.execute(&mut *change).await.map_err(self.failed())?;
        if status == RunStatus::Succeeded {
            sqlx::query(litter::NOTE).bind(run_id).execute(&mut *change).await.map_err(self.failed())?;
        }
        watermarks::advance(&mut change, run_id, status, finished_at).await.map_err(self.at())?;
        change.commit().await.map_err(self.failed())
    }
}

/// How the ledger of a state folder is opened.
fn in_folder(state_dir: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(state_dir.join(FILE))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(OPEN)
        .disable_statement_logging()
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("the ledger cannot write this down").because(e))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(ErrorKind::Data, "the ledger holds what this Weir cannot read: start anew with --fresh").because(e)
    })
}

fn run_of(row: &SqliteRow) -> Result<RunRecord> {
    Ok(RunRecord {
        run_id: row.get("run_id"),
        job: row.get("job"),
        path: row.get("path"),
        at: row.get("at"),
        parameters: parsed(row.get("parameters"))?,
        fingerprint: parsed(row.get("fingerprint"))?,
        status: RunStatus::parse(row.get("status")),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        report: row.get::<Option<&str>, _>("report").map(parsed).transpose()?,
    })
}
