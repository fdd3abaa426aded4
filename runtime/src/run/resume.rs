//! How an entry starts: anew, or where an earlier process left it.

use std::collections::HashSet;

use weir_core::{
    ConnectorContext, Error, ErrorKind, Receipt, Result, SourceColumn, SourceSchema, SourceTable, Split, Writer,
};

use super::Run;
use super::abandon::may_be_published;
use super::begin::anew;
use crate::database::evolve::Evolution;
use crate::entry::PlannedEntry;
use crate::job::Endpoint;
use crate::ledger::{EntryRecord, SplitRecord};

/// An entry that may start.
pub(super) struct EntryStart {
    /// What was decided, now or by an earlier process.
    pub planned: PlannedEntry,
    /// What an earlier process has left of it.
    pub left: Option<Left>,
}

impl EntryStart {
    /// Whether nothing is left to do at the target.
    pub fn is_over(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.committed.is_some())
    }
}

/// What an earlier process has left of an entry.
pub(super) struct Left {
    /// All splits, as they were cut then.
    pub splits: Vec<Split>,
    /// Receipts of those that landed.
    pub kept: Vec<Receipt>,
    /// Whether they are published: only postSql is left to do.
    pub published: bool,
    /// What the commit said, where even that is known.
    pub committed: Option<weir_core::Committed>,
    /// Whether the source had a snapshot then.
    pub from_snapshot: bool,
    /// What there was to say of it.
    description: Option<String>,
}

impl Left {
    /// The snapshot that all rows show which have landed; splits of one that was lost may lie beside those of the next.
    pub fn snapshot(&self) -> Option<String> {
        let epoch = |receipt: &Receipt| receipt.account.epoch.clone();
        let first = self.kept.first().map(epoch);
        self.description.clone().filter(|_| self.kept.iter().map(epoch).all(|one| Some(one) == first))
    }
}

impl Run {
    /// Plans an entry, or takes up what an earlier process has left of it.
    pub(super) async fn start_entry(&self, index: usize, context: &ConnectorContext) -> Result<EntryStart> {
        let mut then = None;
        if let Some(ledger) = self.ledger.as_ref().filter(|_| self.continued) {
            let records = self.records.get_or_try_init(|| ledger.entries(&self.run_id)).await?;
            if let Some(record) = records.iter().find(|record| record.entry as usize == index).cloned() {
                let splits = ledger.splits(&self.run_id, record.entry).await?;
                then = Some(record.source.clone());
                if let Some(start) = self.take_up(index, record, splits, context).await? {
                    return Ok(start);
                }
            }
        }
        self.start_anew(index, then.as_deref(), context).await
    }

    /// Plans an entry of which nothing is left. What of its source is not as it was `then` is no fault, but is said.
    async fn start_anew(
        &self,
        index: usize,
        then: Option<&[String]>,
        context: &ConnectorContext,
    ) -> Result<EntryStart> {
        let mut planned = self.plan_anew(index, context).await?;
        if let Some(changes) = then.and_then(|then| source_changes(then, &planned.source)) {
            let table = &planned.plan.table;
            self.warn(&format!(
                "{table} is planned anew: the source's columns have changed since the run began ({changes})"
            ));
        }
        if then.is_none() && self.options.run_id.is_some() {
            self.refuse_unknown(&planned, context).await?;
        }
        self.set_windows(index, &mut planned, context).await?;
        Ok(EntryStart { planned, left: None })
    }

    /// A name that a caller gave the run may be that of one which began with another state folder, or with this one before
    /// it was lost. What that run has put into the target for good cannot be told from what is missing: how it was cut is
    /// forgotten.
    async fn refuse_unknown(&self, planned: &PlannedEntry, context: &ConnectorContext) -> Result<()> {
        let plan = &planned.plan;
        let recorded = context.until_cancelled(planned.writer.recorded(plan)).await?;
        let what = match recorded.receipts.len() {
            _ if recorded.published => "the rows".to_owned(),
            splits if splits > 0 && plan.commits_per_split => format!("{splits} splits"),
            _ => return Ok(()),
        };
        let text = format!(
            "the target has {what} of run {} already, of which this state folder knows nothing: call it with the state \
             folder that it began with, or, if that is lost, look at the target and start anew with --fresh and a new \
             --run-id, which leaves these rows where they are and writes them again",
            self.run_id
        );
        Err(Error::new(ErrorKind::Conflict, text).with("job", &self.job.name).with("target", &plan.table))
    }

    /// Takes back what is staged at the target under the run's name, of which the ledger knows nothing. It needs the lease,
    /// for its owner may be at work.
    pub(super) async fn take_back_unknown(&self, entry: &PlannedEntry, context: &ConnectorContext) -> Result<()> {
        if self.options.run_id.is_none() || entry.plan.commits_per_split {
            return Ok(());
        }
        let recorded = context.until_cancelled(entry.writer.recorded(&entry.plan)).await?;
        if recorded.receipts.is_empty() {
            return Ok(());
        }
        let table = &entry.plan.table;
        self.warn(&format!("{table} starts again: what run {} has staged was planned elsewhere", self.run_id));
        context.until_cancelled(entry.writer.abort(&entry.plan, &recorded.receipts)).await
    }

    /// Takes up an entry whose snapshot was lost, as a later process would.
    pub(super) async fn start_again(
        &self,
        index: usize,
        entry: &PlannedEntry,
        (record, splits): (EntryRecord, Vec<Split>),
        receipts: &[Receipt],
        context: &ConnectorContext,
    ) -> Result<EntryStart> {
        self.progress.forget(index);
        self.dirty.forget(index);
        let splits = splits.into_iter().map(|split| {
            let receipt = receipts.iter().find(|receipt| receipt.split == split.id).cloned();
            SplitRecord { split, attempts: 1, receipt }
        });
        let splits: Vec<_> = splits.collect();
        let start = || async {
            if let Some(start) = self.take_up(index, record.clone(), splits.clone(), context).await? {
                return Ok(start);
            }
            self.start_anew(index, Some(&record.source), context).await
        };
        self.again(index, &entry.plan, start, "starting").await
    }

    /// What is left of an entry, as the target remembers it; `None` when nothing can be kept, and all of it is taken
    /// back.
    async fn take_up(
        &self,
        index: usize,
        record: EntryRecord,
        splits: Vec<SplitRecord>,
        context: &ConnectorContext,
    ) -> Result<Option<EntryStart>> {
        let entry = &self.job.entries[index];
        let of = |endpoint: &Endpoint| ConnectorContext { form: endpoint.form, ..context.clone() };
        let reader = entry.reader.open_reader(&of(&entry.reader))?;
        let writer = entry.writer.open_writer(&of(&entry.writer))?;
        let plan = &record.spec.plan;
        let started = splits.iter().any(|split| split.attempts > 0);
        let known: Vec<Receipt> = splits.iter().filter_map(|split| split.receipt.clone()).collect();
        let splits: Vec<Split> = splits.into_iter().map(|record| record.split).collect();
        let has_snapshot = reader.snapshot().is_some();
        let planned = |source: SourceSchema, writer| PlannedEntry {
            reader: reader.clone(),
            writer,
            source,
            pipeline: record.spec.pipeline.clone(),
            plan: record.spec.plan.clone(),
            columns: Vec::new(),
            warnings: Vec::new(),
            evolution: record.known.clone().map(|known| Evolution { known, ..Evolution::default() }),
            windows: record.windows.clone(),
        };
        let left = |kept, published, committed| Left {
            splits: splits.clone(),
            kept,
            published,
            committed,
            from_snapshot: record.spec.pipeline.read.snapshot.is_some(),
            description: record.spec.snapshot.clone(),
        };
        if let Some(committed) = record.committed.clone() {
            let left = Some(left(known, true, Some(committed)));
            return Ok(Some(EntryStart { planned: planned(tables_of(&splits), writer), left }));
        }
        if !plan.records_splits {
            let all = !splits.is_empty() && known.len() == splits.len();
            if (plan.commits_per_split && started) || may_be_published(plan, &entry.writer, all) {
                return Err(self.cannot_go_on(plan, "the target does not record which splits have landed"));
            }
            self.take_back(index, writer.as_ref(), plan, &known, context).await?;
            return Ok(None);
        }
        let recorded = context.until_cancelled(writer.recorded(plan)).await?;
        self.catch_up(index, &known, &recorded.receipts).await?;
        if recorded.published {
            let left = Some(left(recorded.receipts, true, None));
            return Ok(Some(EntryStart { planned: planned(tables_of(&splits), writer), left }));
        }
        let missing = splits.len() > recorded.receipts.len();
        let stable = |receipt: &Receipt| splits.iter().any(|split| split.id == receipt.split && split.stable);
        let keep = if self.begins_together && !plan.commits_per_split {
            // What is published together shows one moment, so either all of it stays or none of it.
            false
        } else if plan.commits_per_split {
            // A split that means other rows now than it did then leaves no way to tell which rows are missing.
            if missing && !recorded.receipts.iter().all(stable) {
                let why = "its splits are ranges of pages, whose rows may have moved since; a `splitPk` would let such a \
                           run go on";
                return Err(self.cannot_go_on(plan, why));
            }
            !recorded.receipts.is_empty()
        } else {
            // All rows of one table are from one moment: staged rows of an earlier one are of no use.
            !recorded.receipts.is_empty() && (!missing || (!has_snapshot && recorded.receipts.iter().all(stable)))
        };
        if !keep {
            if !recorded.receipts.is_empty() {
                let table = &plan.table;
                self.warn(&format!("{table} starts again: what was staged is from a snapshot that is gone"));
            }
            self.take_back(index, writer.as_ref(), plan, &recorded.receipts, context).await?;
            return Ok(None);
        }
        let source = context.until_cancelled(reader.schema()).await?;
        if let Some(changes) = source_changes(&record.source, &source) {
            let anew = anew(&self.options);
            let text = format!("the source's columns have changed since the run began ({changes}): {anew}");
            return Err(Error::new(ErrorKind::Conflict, text).with("table", &plan.table));
        }
        if has_snapshot && missing {
            self.warn(&format!(
                "{} of {} splits of {} were read by an earlier process: the others show the source at a later moment",
                recorded.receipts.len(),
                splits.len(),
                plan.table
            ));
        }
        let left = Some(left(recorded.receipts, false, None));
        Ok(Some(EntryStart { planned: planned(source, writer), left }))
    }

    /// Writes down which splits have landed that the ledger has not heard of, for their process died too soon.
    async fn catch_up(&self, index: usize, known: &[Receipt], landed: &[Receipt]) -> Result<()> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let known: HashSet<_> = known.iter().map(|receipt| receipt.split).collect();
        for receipt in landed.iter().filter(|receipt| !known.contains(&receipt.split)) {
            ledger.finish_split(&self.run_id, index as u32, receipt).await?;
        }
        Ok(())
    }

    fn cannot_go_on(&self, plan: &weir_core::WritePlan, why: &str) -> Error {
        Error::new(
            ErrorKind::Conflict,
            format!(
                "run {} cannot go on where it ended: {why}; look at the target, and {}",
                self.run_id,
                anew(&self.options)
            ),
        )
        .with("target", &plan.table)
    }

    async fn take_back(
        &self,
        index: usize,
        writer: &dyn Writer,
        plan: &weir_core::WritePlan,
        receipts: &[Receipt],
        context: &ConnectorContext,
    ) -> Result<()> {
        context.until_cancelled(writer.abort(plan, receipts)).await?;
        match &self.ledger {
            Some(ledger) => ledger.forget_entry(&self.run_id, index as u32).await,
            None => Ok(()),
        }
    }
}

/// What the report needs of a source that is not asked again.
pub(super) fn tables_of(splits: &[Split]) -> SourceSchema {
    let mut source = SourceSchema::default();
    for split in splits {
        if source.tables.iter().all(|table| table.name != split.table) {
            source.tables.push(SourceTable { name: split.table.clone(), ..SourceTable::default() });
        }
    }
    source
}

/// The columns as the ledger compares them.
pub(super) fn columns_of(source: &SourceSchema) -> Vec<String> {
    let of = |column: &SourceColumn| {
        let null = if column.nullable { "" } else { " not null" };
        let key = column.key.map_or_else(String::new, |position| format!(" key {position}"));
        format!("{} {}{null}{key}", column.name, column.native_type)
    };
    source.columns.iter().map(of).collect()
}

/// Whether a column is recorded with more than its name and type, as builds of old did not.
fn is_whole(column: &str) -> bool {
    let key = column.rsplit_once(" key ").is_some_and(|(_, position)| position.parse::<u32>().is_ok());
    key || column.ends_with(" not null")
}

/// What of a source's columns is not as it was.
fn source_changes(then: &[String], source: &SourceSchema) -> Option<String> {
    let now = match then.iter().any(|column| is_whole(column)) {
        true => columns_of(source),
        false => source.columns.iter().map(|column| format!("{} {}", column.name, column.native_type)).collect(),
    };
    if then == now {
        return None;
    }
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|column| !those.contains(column)).cloned().collect()
    };
    let (gone, new) = (only(then, &now), only(&now, then));
    Some(match (gone.is_empty(), new.is_empty()) {
        (true, true) => "their order".to_owned(),
        _ => format!("gone: {}; new: {}", list(&gone), list(&new)),
    })
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_an_older_build_are_compared_by_name_and_type() {
        let column = |name: &str, nullable, key| SourceColumn {
            name: name.into(),
            native_type: "int".into(),
            nullable,
            key,
            representations: Vec::new(),
            comment: None,
        };
        let source = SourceSchema {
            columns: vec![column("id", false, Some(1)), column("v", true, None)],
            ..SourceSchema::default()
        };
        let of = |columns: [&str; 2]| source_changes(&columns.map(str::to_owned), &source);
        assert_eq!(of(["id int", "v int"]), None);
        assert_eq!(of(["id int not null key 1", "v int"]), None);
        assert_eq!(of(["id int", "v text"]).unwrap(), "gone: v text; new: v int");
        assert_eq!(of(["id int key 1", "v int"]).unwrap(), "gone: id int key 1; new: id int not null key 1");
    }
}
