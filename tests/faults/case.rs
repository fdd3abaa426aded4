//! One case: a route, a mode, a fault and its moment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fault::{Fault, SmallDisk};
use crate::place::{Places, Row, Side, System, job};
use crate::random::Random;
use crate::watch::Onlooker;

/// Rows of the source; at the rate of [`RATE`] a run takes about two seconds.
const ROWS: i64 = 12_000;
const RATE: u64 = 9_000;

/// How often the same call is made before the case is given up.
const CALLS: usize = 6;

/// How long a call may take, faults and waits included.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Overwrite,
    Upsert,
}

pub struct Case {
    seed: u64,
    from: System,
    to: System,
    mode: Mode,
    channels: u64,
    /// Whether somebody changes the source between a call that failed and the next one.
    changes: bool,
    /// Each with the time it waits for after the start of a call.
    faults: Vec<(Fault, Duration)>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} channels:", self.route(), self.channels)?;
        if self.changes {
            write!(f, " (the source changes)")?;
        }
        for (fault, at) in &self.faults {
            write!(f, " {fault} at {} ms", at.as_millis())?;
        }
        Ok(())
    }
}

impl Case {
    pub fn random(random: &mut Random, seed: u64) -> Self {
        let from = random.pick(&[System::PostgreSql, System::MariaDb, System::Sqlite, System::Csv]);
        let to = random.pick(&[System::PostgreSql, System::MariaDb, System::Delta, System::Parquet]);
        let mode = match to {
            System::Parquet => random.pick(&[Mode::Append, Mode::Overwrite]),
            _ => random.pick(&[Mode::Append, Mode::Overwrite, Mode::Upsert]),
        };
        let mut servers: Vec<_> = [from, to].into_iter().filter_map(System::family).collect();
        servers.dedup();
        // Now and then the second call is disturbed too.
        let number = 1 + random.below(4) / 3;
        let faults = (0..number)
            .map(|_| (Fault::random(random, &servers), Duration::from_millis(random.below(2_600))))
            .collect();
        // Splits that were appended from an earlier moment stay, as the guide says; everything else is from one moment.
        let changes = mode != Mode::Append && from != System::Csv && random.below(3) == 0;
        Self { seed, from, to, mode, channels: 1 + random.below(3), changes, faults }
    }

    pub fn route(&self) -> String {
        format!("{} -> {} {:?}", self.from.name(), self.to.name(), self.mode)
    }

    /// Runs the case.
    ///
    /// # Errors
    /// What is wrong at the target, or why the run never ended well.
    pub async fn run(&self, places: &mut Places) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let _small_disk = match self.faults.iter().any(|(fault, _)| *fault == Fault::FullDisk) {
            true => Some(SmallDisk::mount(folder.path())?),
            false => None,
        };
        let name = |side: &str| format!("f{}_{side}", self.seed);
        let from = Side::new(self.from, places, folder.path(), &name("from")).await;
        let to = Arc::new(Side::new(self.to, places, folder.path(), &name("to")).await);
        let ended = self.between(&from, &to, folder.path(), places).await;
        from.remove().await;
        to.remove().await;
        ended
    }

    async fn between(&self, from: &Side, to: &Arc<Side>, folder: &Path, places: &mut Places) -> Result<(), String> {
        let source: Vec<Row> =
            (0..ROWS).map(|id| (id, format!("new {id} {}", "x".repeat((id % 40) as usize)))).collect();
        from.fill(&source).await;
        // Appended rows meet others; replaced and merged ones meet their own keys, and keys that only the target has.
        let first = if self.mode == Mode::Append { -500 } else { -500 + ROWS / 2 };
        let old: Vec<Row> = (first..first + 500)
            .chain(if self.mode == Mode::Append { 0..0 } else { -500..0 })
            .map(|id| (id, format!("old {id}")))
            .collect();
        to.fill(&old).await;
        let expected = self.expected(&old, &source);
        let newer: Vec<Row> = source.iter().map(|(id, v)| (*id, v.replacen("new", "newer", 1))).collect();
        let expected_newer = self.expected(&old, &newer);

        let file = folder.join("job.json");
        let (writer, mut parameter) = to.endpoint();
        parameter["writeMode"] = json!(match (self.mode, self.to) {
            (Mode::Overwrite, System::Parquet) => "truncate",
            (Mode::Append, _) => "append",
            (Mode::Overwrite, _) => "overwrite",
            (Mode::Upsert, _) => "upsert",
        });
        if self.mode == Mode::Upsert {
            parameter["key"] = json!(["id"]);
        }
        let setting = json!({"speed": {"channel": self.channels, "record": RATE}});
        std::fs::write(&file, job(&from.endpoint(), (writer, parameter), setting).to_string()).unwrap();

        let onlooker = Onlooker::start(to.clone());
        let before = to.glance().await;
        let mut calls = String::new();
        let mut faults = self.faults.iter();
        let mut ended = false;
        for call in 0..CALLS {
            let (code, text) = self.call(&file, folder, faults.next(), places, call).await?;
            calls.push_str(&format!("call {call}: exit {code:?}\n{text}"));
            if code == Some(0) {
                ended = true;
                break;
            }
            if self.changes && call == 0 {
                from.change().await;
            }
        }
        let seen = onlooker.seen().await;
        if !ended {
            return Err(format!("the run never ended well\n{calls}"));
        }
        let rows = to.rows().await;
        // Of one moment or of the other, never of both.
        if !(self.changes && rows == expected_newer) {
            differences(&expected, &rows).map_err(|text| format!("{text}\n{calls}"))?;
        }
        if self.mode == Mode::Overwrite {
            let after = to.glance().await;
            let allowed = [before, after];
            if let Some(partial) = seen.iter().find(|state| !allowed.contains(&Some((*state).clone()))) {
                return Err(format!("an onlooker saw {partial}; only {allowed:?} were ever whole\n{calls}"));
            }
        }
        self.litter(to).await.map_err(|text| format!("{text}\n{calls}"))
    }

    fn expected(&self, old: &[Row], new: &[Row]) -> Vec<Row> {
        let mut rows: Vec<Row> = match self.mode {
            Mode::Append => old.iter().chain(new).cloned().collect(),
            Mode::Overwrite => new.to_vec(),
            Mode::Upsert => {
                let merged: BTreeMap<_, _> = old.iter().chain(new).cloned().collect();
                merged.into_iter().collect()
            }
        };
        rows.sort();
        rows
    }

    /// Makes the same call again, with a fault in its course; its exit code and what it said.
    async fn call(
        &self,
        job: &Path,
        folder: &Path,
        fault: Option<&(Fault, Duration)>,
        places: &mut Places,
        call: usize,
    ) -> Result<(Option<i32>, String), String> {
        let log = folder.join(format!("log{call}"));
        let mut run = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--quiet", "--run-id", &format!("case-{}", self.seed), "--quarantine", "off"])
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg(job)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        if let Some((fault, at)) = fault {
            tokio::time::sleep(*at).await;
            fault.strike(&mut run, places, folder).await;
        }
        let code = wait(&mut run, begun + PATIENCE).await;
        let text = std::fs::read_to_string(&log).unwrap();
        match code {
            Some(code) if !text.contains("panicked") => Ok((code, text)),
            Some(_) => Err(format!("call {call} panicked\n{text}")),
            None => Err(format!("call {call} did not end within {} s\n{text}", PATIENCE.as_secs())),
        }
    }

    /// Nothing of ours may stay at the target, but the empty table of records.
    async fn litter(&self, to: &Side) -> Result<(), String> {
        let names: Vec<String> = match &to.database {
            Some(database) => {
                let schema = if self.to == System::PostgreSql { "public" } else { database.name() };
                let sql = format!(
                    "SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}' ORDER BY 1"
                );
                database.query(&sql).await.into_iter().filter_map(|row| row[0].clone()).collect()
            }
            None => return Ok(()),
        };
        let litter: Vec<_> = names.iter().filter(|name| *name != "t" && *name != "weir_commits").collect();
        if litter.is_empty() { Ok(()) } else { Err(format!("left behind: {litter:?}")) }
    }
}

async fn wait(run: &mut Child, until: Instant) -> Option<Option<i32>> {
    loop {
        if let Some(status) = run.try_wait().unwrap() {
            return Some(status.code());
        }
        if Instant::now() > until {
            let _ = run.kill();
            let _ = run.wait();
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What is missing, doubled or other, in a few words.
fn differences(expected: &[Row], found: &[Row]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let mut counts = BTreeMap::<&Row, i64>::new();
    expected.iter().for_each(|row| *counts.entry(row).or_default() -= 1);
    found.iter().for_each(|row| *counts.entry(row).or_default() += 1);
    let of = |sign: i64| -> Vec<_> { counts.iter().filter(|(_, n)| **n * sign > 0).map(|(row, _)| *row).collect() };
    let (missing, extra) = (of(-1), of(1));
    Err(format!(
        "{} rows where {} were expected; {} missing, such as {:?}; {} too many, such as {:?}",
        found.len(),
        expected.len(),
        missing.len(),
        missing.first(),
        extra.len(),
        extra.first()
    ))
}
