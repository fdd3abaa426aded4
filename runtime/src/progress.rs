//! Counting what flows: for each table and for the job.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use weir_core::Counts;

use crate::observer::{TableProgress, TableState};

/// Counters of one attempt at one split.
#[derive(Debug, Default)]
pub struct Counters {
    /// See [`Counts`].
    pub rows_read: AtomicU64,
    /// See [`Counts`].
    pub bytes_read: AtomicU64,
    /// See [`Counts`].
    pub rows_written: AtomicU64,
    /// See [`Counts`].
    pub bytes_written: AtomicU64,
    /// See [`Counts`].
    pub rows_dirty: AtomicU64,
    /// See [`Counts`].
    pub rows_filtered: AtomicU64,
}

impl Counters {
    /// Counters that stand at `counts`.
    pub fn of(counts: Counts) -> Self {
        Self {
            rows_read: counts.rows_read.into(),
            bytes_read: counts.bytes_read.into(),
            rows_written: counts.rows_written.into(),
            bytes_written: counts.bytes_written.into(),
            rows_dirty: counts.rows_dirty.into(),
            rows_filtered: counts.rows_filtered.into(),
        }
    }

    /// The counters at this moment.
    pub fn counts(&self) -> Counts {
        Counts {
            rows_read: self.rows_read.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            rows_written: self.rows_written.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            rows_dirty: self.rows_dirty.load(Relaxed),
            rows_filtered: self.rows_filtered.load(Relaxed),
        }
    }
}

/// The progress of all tables of a job.
#[derive(Debug, Default)]
pub struct Progress {
    tables: Mutex<Vec<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    entry: usize,
    shown: TableProgress,
    running: HashMap<u32, Arc<Counters>>,
    begun: Option<Instant>,
    elapsed_ms: u64,
}

impl Progress {
    fn tables(&self) -> MutexGuard<'_, Vec<Table>> {
        self.tables.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// A table of entry `entry` that the job will move.
    pub fn add_table(&self, entry: usize, progress: TableProgress) {
        let mut tables = self.tables();
        // One that waited for its turn has a place already.
        match tables.iter_mut().find(|table| table.entry == entry && table.shown.state == TableState::Waiting) {
            Some(waiting) if progress.state != TableState::Waiting => waiting.shown = progress,
            _ => tables.push(Table { entry, shown: progress, ..Table::default() }),
        }
    }

    /// How far all tables of an entry are.
    pub fn set_state(&self, entry: usize, state: TableState) {
        self.tables().iter_mut().filter(|table| table.entry == entry).for_each(|table| table.shown.state = state);
    }

    /// An entry starts again: what it has moved so far does not count.
    pub fn forget(&self, entry: usize) {
        self.tables().retain(|table| table.entry != entry);
    }

    /// Begins an attempt at a split; an earlier attempt's counters no longer count.
    pub fn begin(&self, entry: usize, table: &str, split: u32) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        if let Some(table) = find(&mut self.tables(), entry, table) {
            table.begun.get_or_insert_with(Instant::now);
            table.running.insert(split, counters.clone());
        }
        counters
    }

    /// A split that an earlier process finished.
    pub fn keep(&self, entry: usize, table: &str, counts: Counts) {
        if let Some(table) = find(&mut self.tables(), entry, table) {
            table.shown.counts += counts;
            table.shown.splits_done += 1;
        }
    }

    /// The last attempt at a split was overtaken by an earlier one, which has landed after all.
    pub fn replace(&self, entry: usize, table: &str, split: u32, counts: Counts) {
        if let Some(table) = find(&mut self.tables(), entry, table) {
            table.running.remove(&split);
        }
        self.keep(entry, table, counts);
    }

    /// Ends the last attempt at a split.
    pub fn finish(&self, entry: usize, table: &str, split: u32) {
        if let Some(table) = find(&mut self.tables(), entry, table) {
            if let Some(counters) = table.running.remove(&split) {
                table.shown.counts += counters.counts();
            }
            table.shown.splits_done += 1;
            table.elapsed_ms = table.begun.map_or(0, |at| at.elapsed().as_millis() as u64);
        }
    }

    /// Everything at this moment, with each table's elapsed milliseconds.
    pub fn snapshot(&self) -> (Counts, Vec<(usize, TableProgress, u64)>) {
        let mut total = Counts::default();
        let tables = self
            .tables()
            .iter()
            .map(|table| {
                let mut shown = table.shown.clone();
                for counters in table.running.values() {
                    shown.counts += counters.counts();
                }
                total += shown.counts;
                (table.entry, shown, table.elapsed_ms)
            })
            .collect();
        (total, tables)
    }

    /// The entries of which it is known how they are cut.
    pub fn entries_with_splits(&self) -> HashSet<usize> {
        self.tables().iter().filter(|table| table.shown.splits > 0).map(|table| table.entry).collect()
    }

    /// The counts of one entry.
    pub fn of_entry(&self, entry: usize) -> Counts {
        let mut total = Counts::default();
        for table in self.tables().iter().filter(|table| table.entry == entry) {
            total += table.shown.counts;
            table.running.values().for_each(|counters| total += counters.counts());
        }
        total
    }
}

fn find<'a>(tables: &'a mut [Table], entry: usize, name: &str) -> Option<&'a mut Table> {
    let index = tables.iter().position(|t| t.entry == entry && t.shown.source == name);
    let index = index.or_else(|| tables.iter().position(|t| t.entry == entry))?;
    tables.get_mut(index)
}
