//! From finished splits to one version of the table, whoever else writes to it and however often it is tried. Runs on
//! the I/O runtime.
//!
//! Every try looks at the newest version first: the run's mark in it says that it is published already. A try that
//! ends in an error is asked about in the same way, for an error does not say that nothing happened.

use std::sync::Arc;
use std::time::Duration;

use deltalake::DeltaTable;
use deltalake::kernel::Add;
use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, WriteMode, WritePlan};
use weir_lakehouse::{Location, arrow_schema};

use crate::commit::{self, Fault, PUBLISHED, adds, committed, delete, ensure_unchanged, files_of_run, remove};
use crate::config::Config;
use crate::files::DataFiles;
use crate::pending::{Pending, settle};
use crate::plan::{State, file_prefix, is_staged, staging};
use crate::record;
use crate::upsert;

/// How often a version is tried to be made while others are faster.
const ATTEMPTS: u32 = 20;

/// All that publishing needs.
pub(crate) struct Publication {
    pub(crate) location: Location,
    pub(crate) plan: WritePlan,
    pub(crate) config: Config,
    pub(crate) pending: Arc<Pending>,
    /// The data files of the splits.
    files: Vec<Add>,
    rows: u64,
    /// Of all rows, as Arrow holds them.
    bytes: u64,
    /// Whether a split was tried more than once, so that files of lost attempts may lie about.
    retried: bool,
}

/// What one try came to.
enum Tried {
    Published(Committed),
    /// See [`Fault::Raced`].
    Raced(Error, Vec<String>),
}

impl Publication {
    pub(crate) fn new(
        location: &Location,
        plan: &WritePlan,
        config: &Config,
        pending: Arc<Pending>,
        receipts: &[Receipt],
    ) -> Result<Self> {
        Ok(Self {
            location: location.clone(),
            plan: plan.clone(),
            config: config.clone(),
            pending,
            files: adds(receipts)?,
            rows: receipts.iter().map(|r| r.rows).sum(),
            bytes: receipts.iter().map(|r| r.account.counts.bytes_written).sum(),
            retried: receipts.iter().any(|r| r.account.attempt > 1),
        })
    }

    /// The bytes of a row in memory on average, where they were counted.
    #[cfg_attr(not(feature = "datafusion"), allow(dead_code, reason = "only a merge holds rows"))]
    pub(crate) fn row_width(&self) -> Option<usize> {
        usize::try_from(self.bytes.checked_div(self.rows)?).ok().filter(|width| *width > 0)
    }

    /// Data files of the table that are made of staged rows.
    ///
    /// # Errors
    /// Types that Arrow has no place for.
    #[cfg_attr(not(feature = "datafusion"), allow(dead_code, reason = "only a merge makes files when it is published"))]
    pub(crate) fn new_files(&self) -> Result<DataFiles> {
        let state = State::of(&self.plan)?;
        Ok(DataFiles::new(
            self.location.folder(),
            file_prefix(&self.plan, "merged", 1),
            arrow_schema(&state.fields)?,
            state.partition_columns,
            self.config.target_file_size,
        ))
    }

    /// Publishes, and takes away what is of no use then. What cannot be taken away is a warning, for the data is there.
    pub(crate) async fn run(self) -> Result<Committed> {
        let mut done = self.publish().await?;
        match self.tidy().await {
            Ok(left) => done.warnings.extend(left),
            Err(error) => done.warnings.push(format!("files of no use may be left behind: {}", error.full())),
        }
        Ok(done)
    }

    async fn publish(&self) -> Result<Committed> {
        let mut attempt = 0;
        // A merge reads its files, and they lie elsewhere.
        let mut looked_for = is_staged(&self.plan);
        let mut raced: Option<(Error, Option<u64>)> = None;
        // Files that were made for a version which did not come, as far as is known.
        let mut useless = Vec::new();
        let mut first = None;
        loop {
            attempt += 1;
            let table = self.location.open(None).await?;
            let mark = match &table {
                Some(table) => commit::mark(table, &self.plan).await?,
                None => None,
            };
            if mark == Some(PUBLISHED) {
                return Ok(said("this run was published already"));
            }
            if let Some((error, base)) = raced.take() {
                // What was in the way is another's, then, and names none of the files. Where nothing is in the way yet, this
                // very version may be on its way.
                if table.as_ref().and_then(DeltaTable::version) > base {
                    self.pending.end();
                    delete(&self.location.folder(), useless.iter().map(String::as_str)).await;
                    useless.clear();
                }
                if attempt > ATTEMPTS {
                    return Err(error);
                }
            }
            if *first.get_or_insert(mark) != mark {
                let message = "another process has given this run up and taken its files back: run the job again";
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if let Some(table) = &table {
                // Files made for a table of this run's own must not go into one that somebody else made meanwhile: its
                // columns may be others. Another entry of the run may have made it, to append to it too.
                if self.plan.creates && !commit::made_by_run(table, &self.plan).await? {
                    let message = "another writer created the table while this run wrote its files: run the job again";
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                ensure_unchanged(table, &State::of(&self.plan)?)?;
            } else if !self.plan.creates {
                let message = "the table was dropped while the job ran: run the job again";
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if !looked_for {
                commit::ensure_there(&self.location.folder(), &self.files).await?;
                looked_for = true;
            }
            let base = match &table {
                // The library goes on from later versions: where it has asked last is not known.
                Some(_) if self.plan.mode == WriteMode::Append => Some(u64::MAX),
                _ => table.as_ref().and_then(DeltaTable::version),
            };
            let tried = match is_staged(&self.plan) {
                true => self.merge(table, mark).await,
                false => self.add(table).await,
            };
            match tried {
                Ok(Tried::Published(done)) => return Ok(done),
                Ok(Tried::Raced(error, files)) => {
                    raced = Some((error, base));
                    useless.extend(files);
                    // Others that were raced come back at other times.
                    let jitter = u64::from(std::process::id().wrapping_mul(attempt) % 16);
                    tokio::time::sleep(Duration::from_millis(10 * u64::from(attempt) + jitter)).await;
                }
                Err(error) => {
                    // A version may be there though its writer met an error, also one after it (a checkpoint).
                    if let Ok(true) = self.is_published().await {
                        let mut done = said("published");
                        done.warnings.push(format!("a fault after publishing: {}", error.full()));
                        return Ok(done);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Whether the newest version of the table has the run's mark.
    pub(crate) async fn is_published(&self) -> Result<bool> {
        match self.location.open(None).await? {
            Some(table) => committed(&table, &self.plan).await,
            None => Ok(false),
        }
    }

    /// Appends the files, or puts them in place of what is there.
    async fn add(&self, table: Option<DeltaTable>) -> Result<Tried> {
        if !self.plan.keys.is_empty() {
            upsert::ensure_distinct(self, &self.files).await?;
        }
        let mut warnings = Vec::new();
        let (overwrite, name, count) = (self.plan.mode == WriteMode::Overwrite, &self.plan.table, self.files.len());
        if overwrite && self.rows == 0 && table.is_some() {
            match self.config.on_empty {
                OnEmpty::Overwrite => warnings.push(format!("the source is empty, and so is {name} now")),
                OnEmpty::Keep => {
                    let mut kept = said("the source was empty: the target was left as it is");
                    kept.warnings.push(format!("the source is empty: {name} is kept as it was"));
                    return Ok(Tried::Published(Committed { rows: Some(0), ..kept }));
                }
                OnEmpty::Error => {
                    let message = "the source is empty, and `onEmpty` is error: the target was left as it is";
                    return Err(Error::new(ErrorKind::Data, message));
                }
            }
        }
        let made = match &table {
            Some(_) if count == 0 && !overwrite => {
                return Ok(Tried::Published(Committed { rows: Some(0), ..said("no rows to publish") }));
            }
            Some(table) => commit::publish(self, table, self.files.clone()).await,
            None => commit::create(self, self.files.clone()).await,
        };
        let created = if table.is_none() { "created and " } else { "" };
        tried(made, |version| {
            let description = format!("{created}published {count} files as version {version}");
            Committed { description, warnings, ..Committed::default() }
        })
    }

    /// Merges the staged rows into the table, or makes a table of them.
    async fn merge(&self, table: Option<DeltaTable>, mark: Option<i64>) -> Result<Tried> {
        match table {
            None => {
                let (files, rows) = upsert::first(self, &self.files).await?;
                let paths = files.iter().map(|add| add.path.clone()).collect();
                let made = commit::create(self, files).await;
                tried(made.map_err(|fault| fault.of_files(paths)), |version| Committed {
                    rows: Some(rows),
                    ..said(format!("created with {rows} rows as version {version}"))
                })
            }
            Some(_) if self.files.is_empty() => {
                Ok(Tried::Published(Committed { rows: Some(0), ..said("no rows to merge") }))
            }
            Some(_) => tried(upsert::merge(self, &self.files, mark).await, |done| Committed {
                rows: Some((done.updated + done.inserted) as u64),
                ..said(format!(
                    "merged as version {}: {} rows updated, {} inserted",
                    done.version, done.updated, done.inserted
                ))
            }),
        }
    }

    /// Deletes staged rows that are merged, and files of attempts that were lost. Says what is left.
    async fn tidy(&self) -> Result<Vec<String>> {
        let folder = self.location.folder();
        let mut left = Vec::new();
        if is_staged(&self.plan) {
            let merged = record::list(&folder, &self.plan).await?;
            let merged: Vec<String> =
                merged.iter().filter(|path| !record::is_record(path)).map(ToString::to_string).collect();
            left.extend(delete(&folder, merged.iter().map(String::as_str)).await);
        } else if self.retried {
            let used = |path: &str| self.files.iter().any(|add| add.path == path);
            let mut found = files_of_run(&self.location, &self.plan).await?;
            found.retain(|path| !used(path));
            left.extend(remove(&self.location, &found).await);
        }
        Ok(left)
    }
}

/// Takes back all that the run has left at a table that it did not reach. Says which files were deleted; `None` where it has
/// reached it.
///
/// The records go first: there must be none whose files are gone. Files without a record are found by their names.
///
/// # Errors
/// Those of [`settle`]: nothing is taken back then.
pub(crate) async fn take_back(
    location: &Location,
    plan: &WritePlan,
    pending: &Pending,
    receipts: &[Receipt],
) -> Result<Option<Vec<String>>> {
    if settle(location, plan, pending).await? {
        return Ok(None);
    }
    let mut gone = forget(location, plan).await?;
    let mut files = files_of_run(location, plan).await?;
    if !is_staged(plan) {
        files.extend(adds(receipts)?.into_iter().map(|add| add.path));
    }
    remove(location, &files).await;
    gone.extend(files);
    Ok(Some(gone))
}

/// Drops the run's folder: its records first, then staged files.
pub(crate) async fn forget(location: &Location, plan: &WritePlan) -> Result<Vec<String>> {
    let folder = location.folder();
    let (records, staged): (Vec<_>, Vec<_>) =
        record::list(&folder, plan).await?.into_iter().partition(record::is_record);
    let paths: Vec<String> = records.into_iter().chain(staged).map(|path| path.to_string()).collect();
    delete(&folder, paths.iter().map(String::as_str)).await;
    if let Some(root) = location.local_path() {
        // With files that were never completed, which the store does not show; there may be none.
        let _ = std::fs::remove_dir_all(root.join(staging(plan)));
    }
    Ok(paths)
}

fn tried<T>(made: Result<T, Fault>, say: impl FnOnce(T) -> Committed) -> Result<Tried> {
    match made {
        Ok(made) => Ok(Tried::Published(say(made))),
        Err(Fault::Raced(error, files)) => Ok(Tried::Raced(error, files)),
        Err(Fault::Other(error)) => Err(error),
    }
}

fn said(description: impl Into<String>) -> Committed {
    Committed { description: description.into(), ..Committed::default() }
}
