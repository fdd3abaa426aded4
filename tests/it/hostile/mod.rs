//! Hostile surroundings: other runs, kills, full and read-only disks, altered tables, silent servers, wrong certificates.
//! The command runs as a process of its own, for that is what is killed, stopped and measured.

mod again;
mod altered;
mod bounds;
mod dirty;
mod disk;
mod landing;
mod late;
mod lease;
mod ledger;
mod limits;
mod names;
mod parser;
mod quarantine;
mod retry;
mod silent;
mod snapshot;
mod stop;
mod tls;
mod unsaid;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_plugins_test::Stopwatch;

use crate::support::job_of;

/// Longer than anything here may take on a machine that builds something else at the same time.
const PATIENCE: Duration = Duration::from_secs(90);

/// A folder with a state folder in it, where the command is called.
struct Place {
    folder: tempfile::TempDir,
}

/// Jobs with an object store at one end: files and a lake, each read and written, below the URL of a folder that holds `in.csv`.
fn at_stores(folder: &str, options: &Value) -> Vec<Value> {
    let rows = json!({"column": [{"incr": "1,1", "type": "long"}], "sliceRecordCount": 10});
    let at = |name: &str, more: Value| {
        let mut at = json!({"path": format!("{folder}{name}"), "storageOptions": options});
        at.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        at
    };
    vec![
        job_of("files", at("in.csv", json!({"format": "csv", "header": true})), "stream", json!({})),
        job_of("lakehouse", at("lake", json!({})), "stream", json!({})),
        job_of("stream", rows.clone(), "files", at("out", json!({"format": "csv", "writeMode": "truncate"}))),
        job_of("stream", rows, "lakehouse", at("lake", json!({"writeMode": "overwrite"}))),
    ]
}

/// How a call ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A call that goes on; killed when the test ends before it.
struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job(&self, job: &Value) {
        std::fs::write(self.path("job.json"), job.to_string()).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("WEIR_STATE_DIR", self.path("state"))
            .env_remove("WEIR_ENV")
            .env_remove("WEIR_TZ")
            .env_remove("WEIR_LOG")
            .stdin(Stdio::null());
        command
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let name = uuid();
        let (out, err) = (self.path(&format!("{name}.out")), self.path(&format!("{name}.err")));
        let child = self
            .command(arguments)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Running { child, out, err }
    }

    fn call(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// A call that has to succeed.
    fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.call(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}\n{}\n{}", ended.out, ended.err);
        ended
    }

    /// A call that has to fail with `code` and say all of `words`.
    fn fails(&self, arguments: &[&str], code: i32, words: &[&str]) -> Ended {
        let ended = self.call(arguments);
        ended.says(code, words);
        ended
    }

    /// A run that has to succeed; its report.
    fn report(&self, arguments: &[&str]) -> Value {
        let ended = self.ok(&[&["run", "job.json", "--report", "report.json"], arguments].concat());
        assert!(!ended.err.contains("error"), "{}", ended.err);
        self.last_report()
    }

    fn last_report(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }

    /// `weir … --format json`.
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--format", "json"]].concat()).out).unwrap()
    }

    /// Waits until so many splits of the job's last run have landed; its id.
    fn landed(&self, splits: u64) -> String {
        let begun = Instant::now();
        loop {
            // A ledger that is just being made is no fault.
            let shown = self.call(&["runs", "--last", "1", "--format", "json"]);
            let runs: Value = serde_json::from_str(&shown.out).unwrap_or_default();
            let run = &runs[0];
            if run["splits"][0]["finished"].as_u64().unwrap_or_default() >= splits {
                assert_eq!(run["status"], "running", "the run was faster than the test: {run}");
                return run["run_id"].as_str().unwrap().to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "nothing lands: {shown:?}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until so many splits of this run have landed.
    fn landed_of(&self, run_id: &str, splits: u64) {
        let begun = Instant::now();
        loop {
            let shown = self.call(&["runs", run_id, "--format", "json"]);
            let run: Value = serde_json::from_str(&shown.out).unwrap_or_default();
            if run["splits"][0]["finished"].as_u64().unwrap_or_default() >= splits {
                assert_eq!(run["status"], "running", "the run was faster than the test: {run}");
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing lands: {shown:?}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Ended {
    fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        for word in words {
            assert!(self.err.to_lowercase().contains(&word.to_lowercase()), "does not say `{word}`:\n{}", self.err);
        }
    }
}

impl Running {
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    fn end(mut self) -> Ended {
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let ended = Ended { code: status.code(), out: text(&self.out), err: text(&self.err) };
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
        ended
    }

    /// Waits for its end, which has to come soon.
    fn end_within(mut self, most: Duration) -> Ended {
        let begun = Stopwatch::start();
        while self.child.try_wait().unwrap().is_none() {
            let said = || std::fs::read_to_string(&self.err).unwrap();
            assert!(begun.is_within(most), "it did not end within {} s:\n{}", most.as_secs_f64(), said());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn uuid() -> String {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("call-{}", COUNT.fetch_add(1, Relaxed))
}

/// Statements on an SQLite file.
async fn sqlite(path: &Path, sql: &str) {
    use sqlx::{Connection, Executor};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap_or_else(|e| panic!("{e}\nin: {sql}"));
    connection.close().await.unwrap();
}

/// The one row of a query on an SQLite file, as text.
async fn sqlite_row(path: &Path, sql: &str) -> String {
    use sqlx::{Connection, Row};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await;
    let row = row.unwrap_or_else(|e| panic!("{e}\nin: {sql}"));
    let text = row.get::<String, _>(0);
    connection.close().await.unwrap();
    text
}

/// Whether this user may mount file systems; says so when not.
fn small_disk(megabytes: u32) -> Option<SmallDisk> {
    let folder = tempfile::tempdir().unwrap();
    let size = format!("size={megabytes}m");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
    match mount {
        Ok(output) if output.status.success() => Some(SmallDisk { folder }),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            weir_plugins_test::not_run(&format!("a small disk cannot be mounted here: {}", said.trim()));
            None
        }
        Err(error) => {
            weir_plugins_test::not_run(&format!("a small disk cannot be mounted here: {error}"));
            None
        }
    }
}

/// A disk of a few megabytes, in memory.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves so many bytes free.
    fn fill_but(&self, bytes: usize) {
        use std::io::Write;
        let mut filler = File::create(self.path("filler")).unwrap();
        let block = [0u8; 4096];
        let mut written = 0usize;
        while filler.write_all(&block).is_ok() {
            written += block.len();
        }
        filler.set_len(written.saturating_sub(bytes) as u64).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
