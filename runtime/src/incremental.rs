//! What a run of an incremental job reads: windows that begin where the last successful run ended.

use std::path::Path;

use chrono_tz::Tz;
use weir_core::{
    ConnectorContext, Error, ErrorKind, Incremental, Reader, Result, Watermark, Window, WindowRequest, WriteMode,
};

use crate::entry::PlannedEntry;
use crate::job::{Endpoint, Entry, Job, UNNAMED};
use crate::ledger::{Ledger, WatermarkRecord};

impl PlannedEntry {
    /// Decides what is read, given how far the job has come. Nothing to do for a reader that is not asked for windows. `early`
    /// is what it found before a snapshot began that is to be read: windows end there. Whether the target is gone since, and
    /// is read anew, is returned.
    ///
    /// # Errors
    /// The reader's; windows that overlap where rows are only ever added.
    pub async fn decide_windows(
        &mut self,
        job: &Job,
        entry: &Entry,
        context: &ConnectorContext,
        records: Vec<&WatermarkRecord>,
        early: Option<Vec<Window>>,
    ) -> Result<bool> {
        if asked(self.reader.as_ref(), entry)?.is_none() {
            return Ok(false);
        }
        // A target that is made again under its old name has lost what lies before the watermark. One of another name is
        // perhaps that of the day, and a folder may have been emptied by whoever takes its files away.
        let again = self.plan.creates
            && self.writer.evolve().is_some()
            && self.plan.mode != WriteMode::Overwrite
            && records.iter().any(|record| is_same(&record.target, &self.plan.table));
        let windows = match early {
            Some(early) if !again => early,
            early => {
                let records = if again { Vec::new() } else { records };
                let mut windows = found(job, entry, self.reader.as_ref(), &records, context).await?;
                for window in &mut windows {
                    if let Some(early) = early.iter().flatten().find(|early| early.table == window.table) {
                        window.high.clone_from(&early.high);
                    }
                }
                windows
            }
        };
        let table = &self.plan.table;
        match self.plan.mode {
            WriteMode::Append if windows.iter().any(|window| window.overlaps) => {
                let text = "an `overlap` reads rows again, and mode append would have them twice: use `upsert`, or `delay` \
                     instead of `overlap`";
                return Err(Error::new(ErrorKind::Unsupported, text).with("target", table));
            }
            WriteMode::Overwrite => {
                self.warnings.push(format!("{table} is replaced by the rows of this run's window alone"));
            }
            _ => {}
        }
        if again {
            self.warnings.push(format!(
                "{table} is gone since the last run, and is made again: it is read as if for the first time, watermark or not"
            ));
        }
        if self.plan.creates && windows.iter().any(|window| window.watermark.is_some()) {
            self.warnings.push(format!(
                "{table} is new, and gets the rows of this run's window alone: --full reads everything once more"
            ));
        }
        self.warnings.extend(windows.iter().flat_map(|window| window.warnings.iter().cloned()));
        self.windows = windows;
        Ok(again)
    }

    /// The window of a table, in words.
    pub fn window_of(&self, table: &str) -> Option<&Window> {
        self.windows.iter().find(|window| window.table == table)
    }
}

/// Whether two names are of one target: a table that is there may be told with its namespace, and one that is to be made without.
fn is_same(a: &str, b: &str) -> bool {
    let ends =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ends(a, b) || ends(b, a)
}

/// The reader's ability, where the job asks for it.
///
/// # Errors
/// The job asks for it, and the reader has none.
pub fn asked<'a>(reader: &'a dyn Reader, entry: &Entry) -> Result<Option<&'a dyn Incremental>> {
    match (reader.incremental(), entry.reader.parameter.get("incremental")) {
        (None, Some(wanted)) if !wanted.is_null() => {
            let text = format!("{} reads no tables by windows: leave out `incremental`", entry.reader.plugin);
            Err(Error::new(ErrorKind::Unsupported, text))
        }
        (found, _) => Ok(found),
    }
}

/// The windows that an entry's reader finds now, given how far the job has come; none where it is not asked for any.
///
/// # Errors
/// The reader's.
pub async fn found(
    job: &Job,
    entry: &Entry,
    reader: &dyn Reader,
    records: &[&WatermarkRecord],
    context: &ConnectorContext,
) -> Result<Vec<Window>> {
    let Some(incremental) = asked(reader, entry)? else { return Ok(Vec::new()) };
    let watermarks: Vec<Watermark> = records.iter().map(|record| record.watermark.clone()).collect();
    let (clocks, clocks_said) = clocks(job, entry)?;
    let places = places(job, entry, incremental, &watermarks, context)?;
    let request = WindowRequest { watermarks, places, clocks, clocks_said };
    context.until_cancelled(incremental.windows(&request)).await
}

/// Where the job's tables are: those of the entry, and where watermarks are of other places, those of the others too.
fn places(
    job: &Job,
    entry: &Entry,
    incremental: &dyn Incremental,
    watermarks: &[Watermark],
    context: &ConnectorContext,
) -> Result<Vec<String>> {
    let mut places = incremental.places();
    if watermarks.iter().all(|mark| places.contains(&mark.place)) {
        return Ok(places);
    }
    let windowed = |place: &Endpoint| {
        let mut place = place.clone();
        if let (Some(map), Some(asked)) = (place.parameter.as_object_mut(), entry.reader.parameter.get("incremental")) {
            map.insert("incremental".into(), asked.clone());
        }
        place
    };
    let readers: Vec<Endpoint> = match &job.database {
        Some(_) => job.places.iter().map(windowed).collect(),
        None => job.entries.iter().map(|entry| entry.reader.clone()).collect(),
    };
    for reader in readers {
        let reader = reader.open_reader(context)?;
        places.extend(reader.incremental().map(|incremental| incremental.places()).unwrap_or_default());
    }
    Ok(places)
}

/// Whose clocks the zone-less times of an entry's source show, and whether the job says so.
fn clocks(job: &Job, entry: &Entry) -> Result<(Tz, bool)> {
    match &entry.source_zone {
        Some(name) => Ok((crate::job::parse_zone(name).map_err(Error::config)?, true)),
        None => Ok((job.data_zone, job.time_zone_from == "setting.timeZone")),
    }
}

/// A job whose watermarks can be told from those of another one.
///
/// # Errors
/// It has neither a name nor a file.
pub fn told_apart(job: &Job) -> Result<()> {
    if job.path.is_some() || job.name != UNNAMED {
        return Ok(());
    }
    Err(Error::config("an incremental job keeps its watermark under its name: give the job a `name`"))
}

/// The watermarks of one entry of a job, those that were moved last at the front.
pub fn of_entry(records: &[WatermarkRecord], ordinal: u32) -> Vec<&WatermarkRecord> {
    let mut records: Vec<_> = records.iter().filter(|record| record.ordinal == ordinal).collect();
    records.sort_by(|a, b| b.moved_at.cmp(&a.moved_at));
    records
}

/// Which of the job's entries that read the same source this one is, from 0. Nothing else of an entry tells two of them
/// apart for good: targets may be named after the day, and conditions may change.
pub fn ordinal(job: &Job, index: usize) -> u32 {
    let Some(mine) = job.entries.get(index) else { return 0 };
    // Most entries of a job differ in their tables.
    let keys = ["table", "url", "jdbcUrl", "path", "connection"];
    let same = |other: &&Entry| {
        let (one, other) = (&mine.reader, &other.reader);
        one.plugin == other.plugin && keys.iter().all(|key| one.parameter.get(key) == other.parameter.get(key))
    };
    job.entries[..index].iter().filter(same).count() as u32
}

/// What the state folder knows of a job, if there is one.
///
/// # Errors
/// Those of reading the ledger.
pub async fn known(job: &Job, state_dir: Option<&Path>) -> Result<Vec<WatermarkRecord>> {
    let ledger = match state_dir {
        Some(folder) => Ledger::find_in(folder).await?,
        None => None,
    };
    match ledger {
        Some(ledger) => ledger.watermarks(Some(&job.name)).await,
        None => Ok(Vec::new()),
    }
}
