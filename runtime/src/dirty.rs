//! Dirty rows of a run: counted against the job's limit, kept in the quarantine file.
//!
//! Each attempt at a split writes a part of its own, synced before the split is finished at the target; the part of an
//! attempt that is tried again is dropped. When the run ends, the parts become one file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use weir_core::{Counts, DirtyRow, Error, ErrorKind, Result, ResultExt};

use crate::job::ErrorLimit;
use crate::observer::{Event, Observer};
use crate::progress::Counters;
use crate::quarantine::{self, create_private};

/// How many bytes a run that was stopped joins.
const JOINED_AT_ONCE: u64 = 16 << 20;

/// One line of a quarantine file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRow {
    /// The run.
    pub run_id: String,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// The split.
    pub split: u32,
    /// Who refused it: `reader`, `transform`, `convert` or `writer`.
    pub side: Side,
    /// The column at fault, where it is known.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// The values by column name, as text.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// The source's types by column name.
    pub types: BTreeMap<String, String>,
}

/// Who refused a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// It could not be decoded.
    Reader,
    /// A transformer could not be applied.
    Transform,
    /// A value does not fit the target's type.
    Convert,
    /// The target refused it.
    Writer,
}

/// The dirty rows of a whole job.
pub struct DirtyRows {
    run_id: String,
    limit: ErrorLimit,
    /// Rows that count against the limit: of the whole job, or of each entry.
    counts: Vec<AtomicU64>,
    /// Whether some of them are of attempts of an earlier call, at which nobody has compared them with today's limit.
    continues: AtomicBool,
    file: Option<PathBuf>,
    /// Held while the parts are joined into the file; whether they are.
    joined: Mutex<bool>,
    parts: Mutex<BTreeMap<(usize, u32), Part>>,
    /// Whether the run was stopped.
    hurried: AtomicBool,
    observer: Arc<dyn Observer>,
}

/// The attempt at a split that counts.
struct Part {
    counters: Arc<Counters>,
    file: Option<PathBuf>,
    /// Of attempts that do not. They are removed only with the others: one of them may turn out to have landed.
    superseded: Vec<PathBuf>,
}

impl DirtyRows {
    /// For a run; `limits` is 1 for one limit for all entries, else the number of entries, each of which has its own; `file`
    /// is where the rows are to end, `None` to keep none.
    pub fn new(
        run_id: &str,
        limit: ErrorLimit,
        limits: usize,
        file: Option<PathBuf>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            run_id: run_id.to_owned(),
            limit,
            counts: std::iter::repeat_with(AtomicU64::default).take(limits.max(1)).collect(),
            continues: AtomicBool::new(false),
            file,
            joined: Mutex::default(),
            parts: Mutex::default(),
            hurried: AtomicBool::new(false),
            observer,
        })
    }

    fn count(&self, entry: usize) -> &AtomicU64 {
        self.counts.get(entry).unwrap_or(&self.counts[0])
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<(usize, u32), Part>> {
        self.parts.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// The part of one attempt; from now on it counts, and not an earlier attempt at the same split.
    pub fn part(self: &Arc<Self>, origin: Origin, counters: Arc<Counters>) -> Arc<DirtyPart> {
        self.count_instead((origin.entry, origin.split), counters.clone(), None);
        Arc::new(DirtyPart { rows: self.clone(), origin, counters, file: Mutex::new(None) })
    }

    /// The attempt that landed is another one, or one of an earlier process: its rows are in the part of this name.
    pub fn keep(&self, entry: usize, split: u32, counts: Counts, name: Option<&str>) {
        let file = self.file.as_ref().zip(name).map(|(file, name)| quarantine::part(file, name));
        self.count(entry).fetch_add(counts.rows_dirty, Relaxed);
        self.continues.store(true, Relaxed);
        self.count_instead((entry, split), Arc::new(Counters::of(counts)), file);
    }

    /// An entry starts again: its dirty rows so far do not count.
    pub fn forget(&self, entry: usize) {
        let splits: Vec<_> = self.parts().keys().filter(|(of, _)| *of == entry).copied().collect();
        for split in splits {
            self.count_instead(split, Arc::default(), None);
        }
    }

    fn count_instead(&self, split: (usize, u32), counters: Arc<Counters>, file: Option<PathBuf>) {
        let mut parts = self.parts();
        let mut superseded = Vec::new();
        if let Some(earlier) = parts.remove(&split) {
            self.count(split.0).fetch_sub(earlier.counters.rows_dirty.load(Relaxed), Relaxed);
            superseded = earlier.superseded;
            superseded.extend(earlier.file.filter(|earlier| Some(earlier) != file.as_ref()));
        }
        superseded.retain(|path| Some(path) != file.as_ref());
        parts.insert(split, Part { counters, file, superseded });
    }

    /// Checks the percentage, when all rows of an entry are read and none is published.
    ///
    /// # Errors
    /// [`DirtyLimit`](ErrorKind::DirtyLimit), with the setting that would let the run pass.
    pub fn check_percentage(&self, dirty: u64, read: u64) -> Result<()> {
        let Some(most) = self.limit.decides_at_end() else { return Ok(()) };
        let share = if read == 0 { 0.0 } else { dirty as f64 / read as f64 };
        if share <= most {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::DirtyLimit,
            format!(
                "{dirty} of {read} rows are dirty ({share:.4}), more than errorLimit.percentage {most} allows; \
                 set \"errorLimit\": {{\"percentage\": {:.4}}} to let the run pass",
                (share * 10_000.0).ceil() / 10_000.0
            ),
        ))
    }

    /// Checks the number again before anything is published: rows that an earlier call has tolerated count too.
    ///
    /// # Errors
    /// [`DirtyLimit`](ErrorKind::DirtyLimit), with the setting that would let the run pass.
    pub fn check_record(&self, entry: usize) -> Result<()> {
        let count = self.count(entry).load(Relaxed);
        // A row of this call has been compared when it came, and ends its own entry alone.
        let limit = self.limit.record.filter(|_| self.continues.load(Relaxed));
        match limit.filter(|most| count > *most) {
            Some(most) => Err(too_many(count, most, "some of them met by an earlier call of this run")),
            None => Ok(()),
        }
    }

    /// Joins all parts into the quarantine file, if there is a row; that file. Called before anything is published, so
    /// that rows which cannot be kept fail the entry in time, and when the run ends.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io); the parts stay then.
    pub fn join(&self) -> Result<Option<PathBuf>> {
        let Some(path) = &self.file else { return Ok(None) };
        let mut whole = self.joined.lock().unwrap_or_else(|poison| poison.into_inner());
        let parts: Vec<PathBuf> = self.parts().values().filter_map(|part| part.file.clone()).collect();
        *whole = false;
        if self.too_large() {
            return Ok(None);
        }
        if !parts.is_empty() {
            quarantine::join(path, &self.run_id, &parts)?;
        }
        *whole = true;
        Ok(Some(path.clone()).filter(|_| !parts.is_empty()))
    }

    /// The run was stopped, and a resume wants the parts again: from now on only as much is joined as takes no time worth
    /// speaking of. What the user should know of more.
    pub fn hurry(&self) -> Option<String> {
        self.hurried.store(true, Relaxed);
        let path = self.file.as_ref().filter(|_| self.too_large())?;
        Some(format!("the dirty rows stay in {}.*.part, until the run goes on and joins them", path.display()))
    }

    /// Whether there is more to be joined than a run that was stopped has the time for.
    fn too_large(&self) -> bool {
        let size =
            |part: &Part| part.file.as_ref().and_then(|file| fs::metadata(file).ok()).map_or(0, |file| file.len());
        self.hurried.load(Relaxed) && self.parts().values().map(size).sum::<u64>() > JOINED_AT_ONCE
    }

    /// Removes the parts, once their rows are in the joined file and no resume can want them again: when the end of the run
    /// is on record.
    pub fn clear(&self) {
        let whole = *self.joined.lock().unwrap_or_else(|poison| poison.into_inner());
        let Some(file) = self.file.as_ref().filter(|_| whole) else { return };
        let parts = self.parts();
        let all = parts.values().flat_map(|part| part.file.iter().chain(&part.superseded));
        let none = parts.values().all(|part| part.file.is_none());
        quarantine::clear(file, &self.run_id, &all.cloned().collect(), none);
    }
}

/// Where the rows of one attempt come from and go to.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The entry's index in the job.
    pub entry: usize,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// The split.
    pub split: u32,
    /// From 1.
    pub attempt: u32,
    /// The source's types by column name.
    pub types: Arc<BTreeMap<String, String>>,
}

/// The dirty rows of one attempt at one split.
pub struct DirtyPart {
    rows: Arc<DirtyRows>,
    origin: Origin,
    counters: Arc<Counters>,
    file: Mutex<Option<BufWriter<File>>>,
}

impl DirtyPart {
    /// Counts and keeps a row.
    ///
    /// # Errors
    /// [`DirtyLimit`](ErrorKind::DirtyLimit) when that is one too many, with the row and the setting that would let
    /// the run pass; [`Cancelled`](ErrorKind::Cancelled) when another was, and this one does not count any more;
    /// [`Io`](ErrorKind::Io) when it cannot be kept.
    pub fn add(&self, side: Side, row: DirtyRow) -> Result<()> {
        let limit = self.rows.limit.record;
        // Only where all rows are of this call, one of them has been the one too many: else they may be from the start.
        let last = limit.filter(|_| !self.rows.continues.load(Relaxed));
        let one_more = |count: u64| last.is_none_or(|most| count <= most).then_some(count + 1);
        let counted = self.rows.count(self.origin.entry).fetch_update(Relaxed, Relaxed, one_more);
        let count = counted.map_err(|_| Error::cancelled())? + 1;
        self.counters.rows_dirty.fetch_add(1, Relaxed);
        self.rows.observer.event(&Event::Dirty { table: &self.origin.source, row: &row });
        let over = limit.filter(|most| count > *most).map(|most| {
            let of_column = row.column.as_ref().map_or_else(String::new, |c| format!("column {c}: "));
            let error = too_many(count, most, &format!("the last: {of_column}{}", row.reason))
                .with("table", &self.origin.source)
                .with("split", self.origin.split);
            match &row.column {
                Some(column) => error.with("column", column),
                None => error,
            }
        });
        self.keep(side, row)?;
        over.map_or(Ok(()), Err)
    }

    fn keep(&self, side: Side, row: DirtyRow) -> Result<()> {
        let Some(file) = &self.rows.file else { return Ok(()) };
        let line = QuarantineRow {
            run_id: self.rows.run_id.clone(),
            source: self.origin.source.clone(),
            target: self.origin.target.clone(),
            split: self.origin.split,
            side,
            column: row.column,
            reason: row.reason,
            values: row.values,
            types: self.origin.types.as_ref().clone(),
        };
        let mut part = self.file.lock().unwrap_or_else(|poison| poison.into_inner());
        if part.is_none() {
            let Origin { entry, split, attempt, .. } = &self.origin;
            let path = quarantine::part_of(file, &self.rows.run_id, *entry, *split, *attempt);
            *part = Some(BufWriter::new(create_private(&path)?));
            if let Some(known) = self.rows.parts().get_mut(&(self.origin.entry, self.origin.split)) {
                known.file = Some(path);
            }
        }
        if let Some(writer) = part.as_mut() {
            let quarantine = || format!("{}", file.display());
            serde_json::to_writer(&mut *writer, &line).map_err(std::io::Error::from).context("file", quarantine())?;
            writer.write_all(b"\n").context("file", quarantine())?;
        }
        Ok(())
    }

    /// The part's file, if a row went into it, with its folder: a later call may keep its own parts elsewhere.
    pub fn name(&self) -> Option<String> {
        let parts = self.rows.parts();
        let file = parts.get(&(self.origin.entry, self.origin.split))?.file.as_ref()?;
        Some(file.to_string_lossy().into_owned())
    }

    /// Makes the part durable; called before the split is finished at the target.
    pub fn sync(&self) -> Result<()> {
        let mut part = self.file.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(writer) = part.as_mut() {
            writer.flush().and_then(|()| writer.get_ref().sync_data()).context("split", self.origin.split)?;
        }
        Ok(())
    }
}

/// More dirty rows than the job tolerates.
fn too_many(count: u64, most: u64, of: &str) -> Error {
    let rows = if count == 1 { "row" } else { "rows" };
    let text = format!(
        "{count} dirty {rows} where errorLimit.record allows {most}; {of}; mend the data, or set \"errorLimit\": \
         {{\"record\": N}} (or --error-limit N; \"unlimited\" for any number) to let the run pass"
    );
    Error::new(ErrorKind::DirtyLimit, text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::observer::Silent;

    fn row(reason: &str) -> DirtyRow {
        DirtyRow { values: serde_json::Map::new(), column: Some("c".into()), reason: reason.into() }
    }

    fn origin(split: u32, attempt: u32) -> Origin {
        let (source, target) = ("s".into(), "t".into());
        Origin { entry: 0, source, target, split, attempt, types: Arc::default() }
    }

    #[test]
    fn the_row_over_the_limit_fails_and_is_kept_and_a_retried_attempt_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("q/run.jsonl");
        let limit = ErrorLimit { record: Some(1), percentage: None };
        let rows = DirtyRows::new("run", limit, 1, Some(file.clone()), Arc::new(Silent));
        let first = rows.part(origin(0, 1), Arc::default());
        first.add(Side::Reader, row("forgotten")).unwrap();
        let second = rows.part(origin(0, 2), Arc::default());
        second.add(Side::Reader, row("kept")).unwrap();
        let error = second.add(Side::Writer, row("too many")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DirtyLimit);
        // What other channels find before they hear of it changes no count.
        let counters = Arc::new(Counters::default());
        let late = rows.part(origin(1, 1), counters.clone()).add(Side::Writer, row("late")).unwrap_err();
        assert_eq!((late.kind(), counters.counts().rows_dirty), (ErrorKind::Cancelled, 0));
        second.sync().unwrap();
        assert_eq!(rows.join().unwrap(), Some(file.clone()));
        rows.clear();
        let kept = fs::read_to_string(&file).unwrap();
        let reasons: Vec<_> = kept.lines().map(|l| serde_json::from_str::<QuarantineRow>(l).unwrap().reason).collect();
        assert_eq!(reasons, ["kept", "too many"]);
        assert_eq!(fs::read_dir(folder.path().join("q")).unwrap().count(), 1);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
    }

    #[test]
    fn a_percentage_alone_is_checked_at_the_end() {
        let limit = ErrorLimit { record: None, percentage: Some(0.1) };
        let rows = DirtyRows::new("run", limit, 1, None, Arc::new(Silent));
        assert!(rows.check_percentage(10, 100).is_ok());
        assert!(rows.check_percentage(11, 100).is_err());
        assert!(rows.check_percentage(0, 0).is_ok());
    }
}
