//! One case: a route, a mode, a fault and its moment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::call::Caller;
use crate::fault::{Fault, SmallDisk, faults};
use crate::place::{Places, Row, Side, System, job};
use crate::random::Random;
use crate::watch::Onlooker;

/// Rows of the source; at the rate of [`RATE`] a run takes about two seconds. With [`WIDTH`] they are enough for a source to be
/// cut where the case asks for it: a run that dies has some splits at the target, and others not.
const ROWS: i64 = 12_000;
const WIDTH: usize = 60;
const RATE: u64 = 9_000;

/// How rows meet what the target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Append,
    Overwrite,
    Upsert,
}

impl Mode {
    /// The rows that the target holds in the end, in order.
    pub fn expected(self, old: &[Row], new: &[Row]) -> Vec<Row> {
        let mut rows: Vec<Row> = match self {
            Self::Append => old.iter().chain(new).cloned().collect(),
            Self::Overwrite => new.to_vec(),
            Self::Upsert => {
                let merged: BTreeMap<_, _> = old.iter().chain(new).cloned().collect();
                merged.into_iter().collect()
            }
        };
        rows.sort();
        rows
    }
}

/// Where rows come from.
const SOURCES: [System; 4] = [System::PostgreSql, System::MariaDb, System::Sqlite, System::Csv];

/// Where they go to, and how; folders of files know no key to merge by.
const TARGETS: [(System, Mode); 11] = [
    (System::PostgreSql, Mode::Append),
    (System::MariaDb, Mode::Overwrite),
    (System::Delta, Mode::Upsert),
    (System::Parquet, Mode::Append),
    (System::PostgreSql, Mode::Overwrite),
    (System::MariaDb, Mode::Upsert),
    (System::Delta, Mode::Append),
    (System::Parquet, Mode::Overwrite),
    (System::PostgreSql, Mode::Upsert),
    (System::MariaDb, Mode::Append),
    (System::Delta, Mode::Overwrite),
];

/// Every route of a case, as [`Case::route`] names it.
pub fn routes() -> impl Iterator<Item = String> {
    SOURCES.iter().flat_map(|from| TARGETS.iter().map(|(to, mode)| route(*from, *to, *mode)))
}

fn route(from: System, to: System, mode: Mode) -> String {
    format!("{} -> {} {mode:?}", from.name(), to.name())
}

pub struct Case {
    seed: u64,
    from: System,
    to: System,
    mode: Mode,
    channels: u64,
    /// Whether the source is read in ranges of its key, one for each channel.
    cut: bool,
    /// Whether a share of dirty rows decides at the end, so that an append comes all at once.
    share: bool,
    /// Whether somebody changes the source between a call that failed and the next one.
    changes: bool,
    /// Each with the time it waits for after the start of a call.
    faults: Vec<(Fault, Duration)>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.cut { " with a split each" } else { "" };
        let share = if self.share { " by a share" } else { "" };
        write!(f, "{}{share}, {} channels{cut}:", self.route(), self.channels)?;
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
    /// The case of this number: routes come in turn, the rest by chance. As the two lists have no common divisor, every source
    /// meets every target.
    pub fn random(random: &mut Random, seed: u64, number: usize) -> Self {
        let from = SOURCES[number % SOURCES.len()];
        let (to, mode) = TARGETS[number % TARGETS.len()];
        let faults = faults(random, &[from, to]);
        // Splits that were appended from an earlier moment stay, as the guide says; everything else is from one moment.
        let changes = mode != Mode::Append && from != System::Csv && random.below(3) == 0;
        let cut = from != System::Csv && random.below(2) == 0;
        let server = matches!(to, System::PostgreSql | System::MariaDb);
        let share = mode == Mode::Append && server && random.below(2) == 0;
        Self { seed, from, to, mode, channels: 1 + random.below(4), cut, share, changes, faults }
    }

    pub fn route(&self) -> String {
        route(self.from, self.to, self.mode)
    }

    /// Runs the case; says how many of its faults have met a run at work.
    ///
    /// # Errors
    /// What is wrong at the target, or why the run never ended well.
    pub async fn run(&self, places: &mut Places) -> Result<usize, String> {
        let folder = tempfile::tempdir().unwrap();
        let _small_disk = SmallDisk::for_faults(&self.faults, folder.path())?;
        let name = |side: &str| format!("f{}_{side}", self.seed);
        let from = Side::new(self.from, places, folder.path(), &name("from")).await;
        let to = Side::new(self.to, places, folder.path(), &name("to")).await;
        let ended = self.between(&from, &to, folder.path(), places).await;
        from.remove().await;
        to.remove().await;
        ended
    }

    async fn between(&self, from: &Side, to: &Side, folder: &Path, places: &mut Places) -> Result<usize, String> {
        let new: Vec<Row> =
            (0..ROWS).map(|id| (id, format!("new {id} {}", "x".repeat(WIDTH + (id % 40) as usize)))).collect();
        from.fill(&new).await;
        // Appended rows meet others; replaced and merged ones meet their own keys, and keys that only the target has.
        let first = if self.mode == Mode::Append { -500 } else { -500 + ROWS / 2 };
        let old: Vec<Row> = (first..first + 500)
            .chain(if self.mode == Mode::Append { 0..0 } else { -500..0 })
            .map(|id| (id, format!("old {id}")))
            .collect();
        to.fill(&old).await;
        let expected = self.mode.expected(&old, &new);
        let newer: Vec<Row> = new.iter().map(|(id, v)| (*id, v.replacen("new", "newer", 1))).collect();
        let expected_newer = self.mode.expected(&old, &newer);

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
        let (reader, mut source) = from.endpoint();
        if self.cut {
            source["splitPk"] = json!("id");
        }
        let mut setting = json!({"speed": {"channel": self.channels, "record": RATE}});
        if self.share {
            setting["errorLimit"] = json!({"percentage": 0.1});
        }
        std::fs::write(&file, job(&(reader, source), (writer, parameter), setting).to_string()).unwrap();

        let onlooker = Onlooker::start(vec![to.clone()]);
        let before = to.glance().await;
        let mut caller = Caller::new(&file, folder, &format!("case-{}", self.seed));
        let changing = if self.changes { std::slice::from_ref(from) } else { &[] };
        let ended = caller.until_well(&self.faults, places, changing).await;
        let seen = onlooker.seen().await;
        ended?;
        let (calls, met) = (caller.said, caller.met);
        let rows = to.rows().await;
        // Of one moment or of the other, never of both.
        if !(self.changes && rows == expected_newer) {
            differences(&expected, &rows).map_err(|text| format!("{text}\n{calls}"))?;
        }
        if self.mode == Mode::Overwrite || self.share {
            let after = to.glance().await;
            let allowed = [before, after];
            if let Some(partial) = seen[0].iter().find(|state| !allowed.contains(&Some((*state).clone()))) {
                return Err(format!("an onlooker saw {partial}; only {allowed:?} were ever whole\n{calls}"));
            }
        }
        to.litter(&["t"]).await.map_err(|text| format!("{text}\n{calls}"))?;
        Ok(met)
    }
}

/// What is missing, doubled or other, in a few words.
pub fn differences(expected: &[Row], found: &[Row]) -> Result<(), String> {
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
