//! One case of a whole database: several tables, with keys and without, of which each must end as if nothing had happened.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::call::Caller;
use crate::case::{Mode, differences};
use crate::fault::{Fault, SmallDisk, faults};
use crate::place::{Places, Row, Side, System};
use crate::random::Random;
use crate::watch::Onlooker;

/// About two seconds for all tables of a case.
const RATE: u64 = 6_000;

/// A table of the source.
struct Table {
    name: String,
    keyed: bool,
    rows: i64,
    /// Whether it has a column more when the run begins than at the target.
    grown: bool,
    /// Whether it is cut into pieces, small as it is.
    cut: bool,
}

pub struct DatabaseCase {
    seed: u64,
    from: System,
    to: System,
    keyed: Mode,
    unkeyed: Mode,
    /// Whether all tables are published together.
    together: bool,
    tables: Vec<Table>,
    connections: u64,
    groups: u64,
    /// Whether somebody changes the source between a call that failed and the next one.
    changes: bool,
    /// Each with the time it waits for after the start of a call.
    faults: Vec<(Fault, Duration)>,
}

impl fmt::Display for DatabaseCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} groups of {} connections,", self.route(), self.groups, self.connections)?;
        for table in &self.tables {
            let words = [("keyed", table.keyed), ("grown", table.grown), ("cut", table.cut)];
            let words: Vec<_> = words.into_iter().filter(|(_, so)| *so).map(|(word, _)| word).collect();
            write!(f, " {} ({} rows {})", table.name, table.rows, words.join(" "))?;
        }
        if self.changes {
            write!(f, " (the source changes)")?;
        }
        for (fault, at) in &self.faults {
            write!(f, " {fault} at {} ms", at.as_millis())?;
        }
        Ok(())
    }
}

impl DatabaseCase {
    pub fn random(random: &mut Random, seed: u64) -> Self {
        let from = random.pick(&[System::PostgreSql, System::MariaDb, System::Sqlite]);
        let to = random.pick(&[System::PostgreSql, System::MariaDb, System::Delta, System::Parquet]);
        let together = random.below(3) == 0;
        let keyed = match to {
            System::Parquet => Mode::Overwrite,
            _ => random.pick(&[Mode::Overwrite, Mode::Overwrite, Mode::Upsert]),
        };
        let unkeyed = if together { Mode::Overwrite } else { random.pick(&[Mode::Overwrite, Mode::Append]) };
        let tables = (0..4 + random.below(4))
            .map(|number| {
                let keyed = random.below(3) > 0;
                Table {
                    name: format!("t{number}"),
                    keyed,
                    rows: 100 + i64::try_from(random.below(3_000)).unwrap(),
                    // Folders of files have the columns of their last run, whatever was before.
                    grown: to != System::Parquet && random.below(3) == 0,
                    cut: keyed && random.below(2) == 0,
                }
            })
            .collect();
        let faults = faults(random, &[from, to]);
        // Rows that were appended at an earlier moment stay, as the guide says; every other table is from one moment.
        let changes = unkeyed != Mode::Append && random.below(3) == 0;
        let (connections, groups) = (1 + random.below(3), 1 + random.below(2));
        Self { seed, from, to, keyed, unkeyed, together, tables, connections, groups, changes, faults }
    }

    pub fn route(&self) -> String {
        let together = if self.together { " together" } else { "" };
        format!("database {} -> {} {:?} {:?}{together}", self.from.name(), self.to.name(), self.keyed, self.unkeyed)
    }

    /// Runs the case; says how many of its faults have met a run at work.
    ///
    /// # Errors
    /// What is wrong at the target, or why the run never ended well.
    pub async fn run(&self, places: &mut Places) -> Result<usize, String> {
        let folder = tempfile::tempdir().unwrap();
        let _small_disk = SmallDisk::for_faults(&self.faults, folder.path())?;
        let name = |side: &str| format!("d{}_{side}", self.seed);
        let from = Side::new(self.from, places, folder.path(), &name("from")).await;
        let to = Side::new(self.to, places, folder.path(), &name("to")).await;
        let ended = self.between(&from, &to, folder.path(), places).await;
        from.remove().await;
        to.remove().await;
        ended
    }

    fn mode(&self, table: &Table) -> Mode {
        if table.keyed { self.keyed } else { self.unkeyed }
    }

    fn job(&self, from: &Side, to: &Side) -> Value {
        let end = |side: &Side| {
            let (name, parameter) = side.whole();
            json!({"name": name, "parameter": parameter})
        };
        let word = |mode: Mode| format!("{mode:?}").to_lowercase();
        let cut = self.tables.iter().filter(|table| table.cut);
        let cut: Map<String, Value> = cut.map(|table| (table.name.clone(), json!({"splitPk": "id"}))).collect();
        json!({
            "type": "database",
            "name": format!("shop {}", self.seed),
            "source": end(from),
            "target": end(to),
            "naming": {"schema": "{TARGET_SCHEMA}"},
            "write": {"keyed": word(self.keyed), "unkeyed": word(self.unkeyed)},
            "group": {"maxSourceConnections": self.connections, "concurrentGroups": self.groups},
            "publish": if self.together { "all" } else { "table" },
            "tables": cut,
            "setting": {"speed": {"record": RATE}},
        })
    }

    async fn between(&self, from: &Side, to: &Side, folder: &Path, places: &mut Places) -> Result<usize, String> {
        let sources: Vec<Side> = self.tables.iter().map(|table| from.table(&table.name)).collect();
        let targets: Vec<Side> = self.tables.iter().map(|table| to.table(&table.name)).collect();
        for (table, source) in self.tables.iter().zip(&sources) {
            source.make(table.keyed, &table.old()).await;
        }
        let file = folder.join("job.json");
        std::fs::write(&file, self.job(from, to).to_string()).unwrap();
        // The run before: it makes the tables, and nobody disturbs it.
        Caller::new(&file, folder, &format!("before-{}", self.seed)).until_well(&[], places, &[]).await?;
        for (table, source) in self.tables.iter().zip(&sources) {
            source.replace(table.grown, &table.new_rows(false)).await;
        }

        let onlooker = Onlooker::start(targets.clone());
        let before = glances(&targets).await;
        let run_id = format!("case-{}", self.seed);
        let mut caller = Caller::new(&file, folder, &run_id);
        let changing = if self.changes { sources.as_slice() } else { &[] };
        let ended = caller.until_well(&self.faults, places, changing).await;
        let seen = onlooker.seen().await;
        ended?;
        self.compare(&targets).await.map_err(|text| format!("{text}\n{}", caller.said))?;
        let after = glances(&targets).await;
        for (number, table) in self.tables.iter().enumerate().filter(|(_, table)| self.mode(table) == Mode::Overwrite) {
            let allowed = [&before[number], &after[number]];
            if let Some(partial) = seen[number].iter().find(|state| !allowed.contains(&&Some((*state).clone()))) {
                let name = &table.name;
                let text = format!("an onlooker saw {partial} in {name}; only {allowed:?} were ever whole");
                return Err(format!("{text}\n{}", caller.said));
            }
        }
        let names: Vec<&str> = self.tables.iter().map(|table| table.name.as_str()).collect();
        to.litter(&names).await.map_err(|text| format!("{text}\n{}", caller.said))?;
        self.changes_on_record(folder, &run_id).map_err(|text| format!("{text}\n{}", caller.said))?;
        Ok(caller.met)
    }

    /// Every table has the rows of one moment; where all are published together, all of the same moment.
    async fn compare(&self, targets: &[Side]) -> Result<(), String> {
        let mut newer = Vec::new();
        for (table, target) in self.tables.iter().zip(targets) {
            let (mode, old, rows) = (self.mode(table), table.old(), target.rows().await);
            // Rows that are there already have NULL in a column that comes later.
            let old: Vec<Row> = match table.grown {
                true => old.into_iter().map(|(id, v)| (id, v + ",")).collect(),
                false => old,
            };
            let is_newer = self.changes && rows == mode.expected(&old, &table.new_rows(true));
            if !is_newer {
                let expected = mode.expected(&old, &table.new_rows(false));
                differences(&expected, &rows).map_err(|text| format!("{}: {text}", table.name))?;
            }
            newer.push(is_newer);
        }
        let one_moment = newer.iter().all(|one| *one == newer[0]);
        if self.together && !one_moment {
            return Err(format!("the tables are of two moments although they are published together: {newer:?}"));
        }
        Ok(())
    }

    /// However often the run was begun again, the column that came is on record once.
    fn changes_on_record(&self, folder: &Path, run_id: &str) -> Result<(), String> {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["changes", "--run", run_id, "--format", "json", "--state-dir"])
            .arg(folder.join("state"))
            .output()
            .unwrap();
        let found: Vec<Value> =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {output:?}"))?;
        let mut found: Vec<String> = (found.iter())
            .map(|change| format!("{} {} {}", change["target"], change["kind"], change["outcome"]).replace('"', ""))
            .collect();
        found.sort();
        let grown = self.tables.iter().filter(|table| table.grown);
        let due: Vec<String> = grown.map(|table| format!("{} column_added done", table.name)).collect();
        if found == due { Ok(()) } else { Err(format!("changes on record: {found:?} instead of {due:?}")) }
    }
}

impl Table {
    /// The rows that the target has before the run: some with keys that the source will have no more.
    fn old(&self) -> Vec<Row> {
        (-50..self.rows / 2).map(|id| (id, format!("old {id}"))).collect()
    }

    /// The rows of the source, before or after somebody has changed them; in a table without a key each of them twice.
    fn new_rows(&self, changed: bool) -> Vec<Row> {
        let word = if changed { "newer" } else { "new" };
        let row = |number: i64| {
            let id = if self.keyed { number } else { number / 2 };
            let more = if self.grown { format!(",w{}", id % 10) } else { String::new() };
            (id, format!("{word} {id} {}{more}", "x".repeat((id % 40) as usize)))
        };
        let mut rows: Vec<Row> = (0..self.rows).map(row).collect();
        rows.sort();
        rows
    }
}

async fn glances(tables: &[Side]) -> Vec<Option<String>> {
    let mut seen = Vec::with_capacity(tables.len());
    for table in tables {
        seen.push(table.glance().await);
    }
    seen
}
