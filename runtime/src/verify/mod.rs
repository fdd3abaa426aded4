//! `weir verify`: whether the target holds what the source has, by each side's own values.
//!
//! ```text
//!   source ─▶ reader ─▶ transformers, conversion ─┐              ┌─ equal: done
//!                                                  ├─▶ buckets ──┤
//!   target ─▶ reader of the writer's name ─────────┘  (rows, sum) └─ rows of the buckets that differ ─▶ keys
//! ```
//!
//! Rows fall into buckets by the hash of their key; a bucket keeps how many there were and the sum of their hashes, which
//! depends on no order, so memory is bounded whatever the tables' size. Only buckets that differ are read again, as many
//! at once as fit, to find the keys; a last reading finds their values.

mod compare;
mod gather;
mod hash;
mod json;
mod pass;
mod sides;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use weir_core::{ConnectorContext, ErrorKind, Kept, Result, Shared, Watermark};

pub(crate) use self::sides::{appending, comparable, plan_again};

use self::compare::{Differences, Found, Hashed, Rule, compare};
use self::gather::{BUCKETS, Bucket, Gather, Named};
use self::pass::{Drive, Flow, Held};
use self::sides::Comparison;
use crate::database::evolve::KnownTable;
use crate::database::{begin_snapshots, expanded_as_run};
use crate::entry::open_all;
use crate::incremental::{of_entry, ordinal};
use crate::job::{Entry, Job};
use crate::ledger::{KnownRow, Ledger};
use crate::limit::Limiter;
use crate::plan::room;
use crate::report::ErrorReport;
use crate::threads::Threads;

/// About the most rows that are compared one by one at once, 32 bytes each.
const ROWS_AT_ONCE: u64 = 2 << 20;

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Compare the values of about so many rows, chosen by their keys; all are counted.
    pub sample: Option<u64>,
    /// Where the ledger is: of an incremental source those rows are compared that lie before its watermark, and of a whole
    /// database what the rules have not left out.
    pub state_dir: Option<PathBuf>,
    /// Stops it when it fires.
    pub cancel: CancellationToken,
}

/// What verifying a job found.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// The job's name.
    pub job: String,
    /// Whether every target holds what it should.
    pub equal: bool,
    /// Each entry.
    pub entries: Vec<EntryVerification>,
}

/// What verifying one entry found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EntryVerification {
    /// The source's tables.
    pub source: String,
    /// The target table.
    pub target: String,
    /// Whether the target holds what it should.
    pub equal: bool,
    /// Why the two could not be compared: a table of a whole database that cannot be read, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
    /// The columns that tell rows apart.
    pub key: Vec<String>,
    /// Rows that the source has for the target.
    pub source_rows: u64,
    /// Rows that the target has.
    pub target_rows: u64,
    /// Rows of the source that cannot be moved: the dirty ones of a run.
    pub source_left_out: u64,
    /// Rows of the target that cannot be read.
    pub target_left_out: u64,
    /// How many rows of the source had their values compared; `None` for all.
    pub sampled: Option<u64>,
    /// Rows of the source that the target lacks.
    pub missing: Findings,
    /// Rows whose key both sides have with other values.
    pub different: Findings,
    /// Rows that only the target has.
    pub extra: Findings,
    /// Whether rows that only the target has are as they should be: the job adds to what is there.
    pub extra_allowed: bool,
    /// Whether a row that the target refuses leaves the one of its key as it was: the job upserts.
    #[serde(skip)]
    keeps_old: bool,
}

/// How many rows, and some of their keys.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Exactly; of a sample, in the sample.
    pub rows: u64,
    /// Up to 20 keys, values by column.
    pub keys: Vec<Map<String, Value>>,
    /// Of each key the table that has the row, where the side has several: the shards of a merge, the paths of a job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
}

impl Findings {
    /// The keys as people read them: `id=5, line=2 in shop_1.orders`.
    pub fn shown(&self) -> impl Iterator<Item = String> {
        let tables = self.tables.iter().map(|table| format!(" in {table}")).chain(std::iter::repeat(String::new()));
        self.keys.iter().zip(tables).map(|(key, table)| show_key(key) + &table)
    }
}

impl Verification {
    /// What differs, in a sentence for each entry.
    pub fn summary(&self) -> String {
        let all: Vec<_> = self.entries.iter().filter(|entry| !entry.equal).map(EntryVerification::summary).collect();
        all.join("; ")
    }
}

impl Verification {
    /// Whether all that is wrong is what a run with `dirty` dirty rows leaves wrong at its targets: that rows are missing, or
    /// after an upsert have the values from before, as many at most.
    pub(crate) fn lacks_only(&self, dirty: u64) -> bool {
        let before: u64 = self.entries.iter().map(|entry| entry.source_left_out).sum();
        let lacking = |entry: &EntryVerification| entry.missing.rows + entry.different.rows;
        let all: u64 = self.entries.iter().map(lacking).sum();
        let lacks = |entry: &EntryVerification| {
            entry.equal
                || (lacking(entry) > 0
                    && (entry.keeps_old || entry.different.rows == 0)
                    && entry.target_left_out == 0
                    && (entry.extra_allowed || entry.extra.rows == 0))
        };
        all <= dirty.saturating_sub(before) && self.entries.iter().all(lacks)
    }
}

impl EntryVerification {
    /// What was found, in a sentence.
    pub fn summary(&self) -> String {
        let Self { source, target, source_rows, target_rows, .. } = self;
        if let Some(error) = &self.error {
            return format!("{target} could not be compared with {source}: {}", error.message);
        }
        let mut parts = Vec::new();
        for (what, found) in [("missing", &self.missing), ("different", &self.different), ("extra", &self.extra)] {
            if found.rows == 0 || (what == "extra" && self.extra_allowed) {
                continue;
            }
            let key = found.shown().next().map_or_else(String::new, |key| format!(" (first: {key})"));
            parts.push(format!("{} {what}{key}", found.rows));
        }
        if self.target_left_out > 0 {
            parts.push(format!("{} unreadable", self.target_left_out));
        }
        let what = if parts.is_empty() { "the numbers of rows differ".into() } else { parts.join(", ") };
        format!(
            "{target} is not what {source} has: {what}; {source_rows} rows at the source, {target_rows} at the target"
        )
    }
}

/// A key as people read it: `id=5, line=2`.
pub fn show_key(key: &Map<String, Value>) -> String {
    let mut shown: Vec<String> = Vec::with_capacity(key.len());
    for (name, value) in key {
        let text = value.as_str().map_or_else(|| "NULL".to_owned(), str::to_owned);
        let cut = text.char_indices().nth(60).map_or(text.clone(), |(end, _)| format!("{}…", &text[..end]));
        shown.push(format!("{name}={cut}"));
    }
    shown.join(", ")
}

/// Compares what the targets of a job hold with what its sources have now. Reads only.
///
/// # Errors
/// A source that gives other rows each time, a target that cannot be read, and whatever keeps either from being read.
pub async fn verify(job: &Job, options: &VerifyOptions) -> Result<Verification> {
    let ledger = match &options.state_dir {
        Some(folder) => Ledger::find_in(folder).await?,
        None => None,
    };
    let (watermarks, tables) = match &ledger {
        Some(ledger) => (ledger.watermarks(Some(&job.name)).await?, ledger.known_tables(&job.name).await?),
        None => Default::default(),
    };
    let moved = |job: &Job, index| {
        let records = of_entry(&watermarks, ordinal(job, index)).into_iter();
        records.map(|record| record.watermark.clone()).collect()
    };
    let kept = Kept::default();
    let context = ConnectorContext {
        cancel: options.cancel.clone(),
        io: Handle::current(),
        form: weir_core::Form::Native,
        time_zone: job.data_zone,
        shared: Shared::default().within(room(job)).on(Some(kept.clone())),
    };
    let verified = verify_moved(job, options.sample, &Memory { moved: &moved, tables: &tables }, &context).await;
    kept.close().await;
    verified
}

/// What is known of a job's runs.
pub(crate) struct Memory<'a> {
    /// Up to where the incremental sources of an entry were moved.
    pub moved: &'a (dyn Fn(&Job, usize) -> Vec<Watermark> + Send + Sync),
    /// The tables of a whole database, as its last runs met them.
    pub tables: &'a [KnownRow],
}

impl Memory<'_> {
    /// What the run that published an entry knew of its source.
    fn of_entry(&self, entry: &Entry) -> Option<&KnownTable> {
        let target = entry.table.as_ref()?.target.to_string();
        self.tables.iter().find(|row| row.target == target)?.table.as_ref()
    }
}

/// As [`verify`], with what is known of the job's runs, and the connectors' context.
pub(crate) async fn verify_moved(
    job: &Job,
    sample: Option<u64>,
    memory: &Memory<'_>,
    context: &ConnectorContext,
) -> Result<Verification> {
    // A whole-database job that has its entries already is a run's own.
    let expanded = match job.database.is_some() && job.entries.is_empty() {
        true => Some(expanded_as_run(job, memory.tables, context).await?),
        false => None,
    };
    let job = expanded.as_ref().unwrap_or(job);
    open_all(job, context)?;
    // As in a run, one moment for all tables, and one session for each source that holds it.
    let _held = match &job.database {
        Some(database) => begin_snapshots(job, database, context).await?,
        None => Vec::new(),
    };
    let limiter = Arc::new(Limiter::new(job.setting.rows_per_second, job.setting.bytes_per_second));
    let (mut entries, mut first) = (Vec::with_capacity(job.entries.len()), None);
    for (index, entry) in job.entries.iter().enumerate() {
        let known = (&*(memory.moved)(job, index), memory.of_entry(entry));
        let verified = verify_entry(job, entry, (sample, known), context, &limiter).await;
        let verified = verified.map_err(|error| if job.entries.len() > 1 { error.with("entry", index) } else { error });
        match (verified, &entry.table) {
            (Ok(verified), _) => entries.push(verified),
            // One of many tables keeps nobody from the others.
            (Err(error), Some(table)) if error.kind() != ErrorKind::Cancelled => {
                entries.push(EntryVerification {
                    source: table.source(),
                    target: table.target.to_string(),
                    error: Some(ErrorReport::from(&error)),
                    ..EntryVerification::default()
                });
                first = first.or(Some(error));
            }
            (Err(error), _) => return Err(error),
        }
    }
    if let Some(error) = first.filter(|_| entries.iter().all(|entry| entry.error.is_some())) {
        return Err(error);
    }
    Ok(Verification { job: job.name.clone(), equal: entries.iter().all(|entry| entry.equal), entries })
}

async fn verify_entry(
    job: &Job,
    entry: &Entry,
    (sample, known): (Option<u64>, (&[Watermark], Option<&KnownTable>)),
    context: &ConnectorContext,
    limiter: &Arc<Limiter>,
) -> Result<EntryVerification> {
    let comparison = sides::prepare(job, entry, context, known).await?;
    let Comparison { common, sides, .. } = &comparison;
    let drive =
        Drive { common, context, limiter: limiter.clone(), retry: job.setting.retry, threads: Threads::default() };
    let source = Held::begin(&sides.0, &drive).await.map_err(|error| error.with("side", "source"))?;
    let target = Held::begin(&sides.1, &drive).await.map_err(|error| error.with("side", "target"))?;
    let mut seen = match sample {
        None => compare_all(&source, &target, &drive).await?,
        Some(rows) => compare_sample(&source, &target, rows, &drive).await?,
    };
    let (missing, different, extra) = names(&source, &target, &seen.differences, &drive).await?;
    let exact = common.rule == Rule::Exact;
    if !exact && seen.sampled.is_some() {
        // Of a sample it is known only what the source has.
        seen.differences.extra = Found::default();
    }
    drive.threads.close().await;
    let Seen { flows, differences, sampled } = seen;
    let numbers = match common.rule {
        Rule::Exact => flows.0.rows == flows.1.rows,
        Rule::Contains => flows.0.rows <= flows.1.rows,
        Rule::Upsert => !common.distinct || flows.0.rows <= flows.1.rows,
        Rule::Present => true,
    };
    let equal = numbers
        && differences.missing.count == 0
        && differences.different.count == 0
        && (!exact || (differences.extra.count == 0 && flows.1.left_out == 0));
    let findings = |found: &Found, (keys, tables)| Findings { rows: found.count, keys, tables };
    Ok(EntryVerification {
        equal,
        error: None,
        key: common.key.iter().map(|index| common.fields[*index].name().clone()).collect(),
        source_rows: flows.0.rows,
        target_rows: flows.1.rows,
        source_left_out: flows.0.left_out,
        target_left_out: flows.1.left_out,
        sampled,
        missing: findings(&differences.missing, missing),
        different: findings(&differences.different, different),
        extra: findings(&differences.extra, extra),
        extra_allowed: !exact,
        keeps_old: common.rule == Rule::Upsert,
        source: comparison.source_label.clone(),
        target: comparison.target_label.clone(),
    })
}

/// What the passes found.
struct Seen {
    flows: (Flow, Flow),
    differences: Differences,
    sampled: Option<u64>,
}

async fn compare_all(source: &Held<'_>, target: &Held<'_>, drive: &Drive<'_>) -> Result<Seen> {
    let (ours, our_flow) = source.pass(Gather::buckets(), drive).await?;
    let (theirs, their_flow) = target.pass(Gather::buckets(), drive).await?;
    let mut differences = Differences::default();
    let (Gather::Buckets(ours), Gather::Buckets(theirs)) = (ours, theirs) else {
        return Ok(Seen { flows: (our_flow, their_flow), differences, sampled: None });
    };
    let exact = drive.common.rule == Rule::Exact;
    for wanted in rounds(&ours, &theirs, exact) {
        let wanted = Arc::new(wanted);
        let rows = |known| Gather::Rows { wanted: wanted.clone(), known, rows: Vec::new(), others: 0 };
        let ours = rows_of(source.pass(rows(None), drive).await?.0).0;
        let known = (!exact).then(|| sorted_keys(&ours));
        let (theirs, others) = rows_of(target.pass(rows(known), drive).await?.0);
        differences.extra.count += others;
        compare_rows(ours, theirs, drive.common.rule, &mut differences);
    }
    Ok(Seen { flows: (our_flow, their_flow), differences, sampled: None })
}

async fn compare_sample(source: &Held<'_>, target: &Held<'_>, rows: u64, drive: &Drive<'_>) -> Result<Seen> {
    let wanted = usize::try_from(rows).unwrap_or(usize::MAX / 4).min(usize::MAX / 4);
    let sample = Gather::Sample { wanted, most: u128::MAX, rows: Vec::new() };
    let (ours, our_flow) = source.pass(sample, drive).await?;
    let most = match &ours {
        Gather::Sample { most, .. } => *most,
        _ => u128::MAX,
    };
    let ours = rows_of(ours).0;
    let same = match drive.common.rule {
        Rule::Exact => Gather::Sample { wanted: usize::MAX / 4, most, rows: Vec::new() },
        _ => Gather::Rows {
            wanted: Arc::new((0..BUCKETS).collect()),
            known: Some(sorted_keys(&ours)),
            rows: Vec::new(),
            others: 0,
        },
    };
    let (theirs, their_flow) = target.pass(same, drive).await?;
    let sampled = Some(ours.len() as u64);
    let mut differences = Differences::default();
    compare_rows(ours, rows_of(theirs).0, drive.common.rule, &mut differences);
    Ok(Seen { flows: (our_flow, their_flow), differences, sampled })
}

/// The buckets that differ, as many together as fit into memory.
fn rounds(ours: &[Bucket], theirs: &[Bucket], exact: bool) -> Vec<HashSet<usize>> {
    let mut rounds: Vec<HashSet<usize>> = Vec::new();
    let mut rows = u64::MAX;
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate().filter(|(_, (ours, theirs))| ours != theirs) {
        // Where the target may hold more, only what has a key of the source is kept.
        let more = ours.rows + if exact { theirs.rows } else { ours.rows };
        rows = rows.saturating_add(more);
        if rows > ROWS_AT_ONCE {
            rounds.push(HashSet::new());
            rows = more;
        }
        if let Some(round) = rounds.last_mut() {
            round.insert(index);
        }
    }
    rounds
}

fn rows_of(gather: Gather) -> (Vec<Hashed>, u64) {
    match gather {
        Gather::Rows { rows, others, .. } => (rows, others),
        Gather::Sample { rows, .. } => (rows, 0),
        _ => Default::default(),
    }
}

fn sorted_keys(rows: &[Hashed]) -> Arc<Vec<u128>> {
    let mut keys: Vec<u128> = rows.iter().map(|row| row.key).collect();
    keys.sort_unstable();
    keys.dedup();
    Arc::new(keys)
}

fn compare_rows(mut ours: Vec<Hashed>, mut theirs: Vec<Hashed>, rule: Rule, found: &mut Differences) {
    compare(&mut ours, &mut theirs, rule, found);
}

/// Keys, and the table of each where there are several.
type Keys = (Vec<Map<String, Value>>, Vec<String>);

/// The values of the keys that were found missing, different and extra.
async fn names(
    source: &Held<'_>,
    target: &Held<'_>,
    differences: &Differences,
    drive: &Drive<'_>,
) -> Result<(Keys, Keys, Keys)> {
    let Differences { missing, different, extra } = differences;
    let ours = named(source, missing.keys.iter().chain(&different.keys), drive).await?;
    let theirs = named(target, extra.keys.iter(), drive).await?;
    let of = |found: &Found, names: &HashMap<u128, Named>, side: &Held<'_>| -> Keys {
        let mut rows: Vec<_> = found.keys.iter().filter_map(|key| names.get(key).cloned()).collect();
        rows.sort_by_key(|row| show_key(&row.key));
        let (keys, tables) = rows.into_iter().map(|row| (row.key, row.table)).unzip();
        (keys, if side.has_tables() { tables } else { Vec::new() })
    };
    Ok((of(missing, &ours, source), of(different, &ours, source), of(extra, &theirs, target)))
}

async fn named(side: &Held<'_>, keys: impl Iterator<Item = &u128>, drive: &Drive<'_>) -> Result<HashMap<u128, Named>> {
    let wanted: HashSet<u128> = keys.copied().collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let (wanted, key) = (Arc::new(wanted), drive.common.key.clone());
    let gather = Gather::Names { wanted, key, table: String::new(), found: HashMap::new() };
    match side.pass(gather, drive).await?.0 {
        Gather::Names { found, .. } => Ok(found),
        _ => Ok(HashMap::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_that_differ_are_read_in_rounds_that_fit() {
        let bucket = |rows| Bucket { rows, sum: 0 };
        let ours = [bucket(10), bucket(ROWS_AT_ONCE), bucket(5), bucket(0), bucket(7)];
        let theirs = [bucket(10), bucket(0), bucket(4), bucket(1), bucket(7)];
        let found = rounds(&ours, &theirs, true);
        assert_eq!(found, [HashSet::from([1]), HashSet::from([2, 3])]);
        assert!(rounds(&ours, &ours, true).is_empty());
    }
}
