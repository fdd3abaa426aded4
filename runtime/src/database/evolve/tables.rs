//! Tables that the source has more, or has no more, than in the last run.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use weir_core::{ErrorKind, Result};

use super::super::config::{TableAdded, TableDeleted};
use super::super::expand::Expansion;
use super::super::job::DatabaseJob;
use super::super::references::forget;
use super::super::table::{FailedTable, some_of};
use super::parts::Merge;
use super::{ChangeKind, ChangeOutcome, Journal, TableChangeRecord};
use crate::ledger::{KnownRow, MetTable};

/// A change of a job's set of tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedTable {
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// What it is, and what is done about it.
    #[serde(flatten)]
    pub change: TableChangeRecord,
}

/// What the rules for whole tables make of a job's selection.
#[derive(Debug, Default)]
pub struct Settled {
    /// New tables that are moved: the run that makes one at the target writes that down.
    pub added: Vec<ChangedTable>,
    /// What is left out, kept or refused, and is to be written down.
    pub others: Vec<ChangedTable>,
    /// Tables that are met for the first time or in another way.
    met: Vec<MetTable>,
    /// Targets that are the job's no more.
    gone: Vec<String>,
}

/// Applies the rules for whole tables to what a job has selected, and remembers what it has met. `all` says whether the run is
/// one of all tables of the job.
///
/// # Errors
/// The ledger's.
pub async fn settle(journal: Journal<'_>, job: &DatabaseJob, expansion: &mut Expansion, all: bool) -> Result<()> {
    let known = journal.ledger.known_tables(journal.job).await?;
    let settled = selection(&known, job, expansion, all);
    let records: Vec<_> =
        settled.others.iter().map(|table| journal.record(&table.source, &table.target, &table.change)).collect();
    journal.ledger.meet_tables(journal.job, &settled.met, &settled.gone, &records).await
}

/// Applies the rules: takes tables out of the selection, or to those that fail, and says what has changed against what the
/// job knew.
///
/// Tables that the first run meets are not new: it initialises everything that it selects. Nor is one new that goes to
/// another target than before, the one of the day perhaps.
pub fn selection(known: &[KnownRow], job: &DatabaseJob, expansion: &mut Expansion, all: bool) -> Settled {
    let rules = &job.config.rules;
    let mut settled = Settled::default();
    let before: HashMap<&str, &KnownRow> = known.iter().map(|row| (row.target.as_str(), row)).collect();
    // Whether all that is known of a source table is that it was left out.
    let mut of_source: HashMap<&str, bool> = HashMap::new();
    for (row, source) in known.iter().flat_map(|row| parts(row, job).into_iter().map(move |source| (row, source))) {
        *of_source.entry(source).or_insert(true) &= row.ignored;
    }
    let mut here: HashSet<String> = HashSet::new();
    let (mut left_out, mut refused) = (HashSet::new(), HashSet::new());
    let mut left_out_parts = Vec::new();
    let Expansion { tables, failed, present, unseen, .. } = expansion;
    tables.retain_mut(|table| {
        let (source, target) = (table.source(), table.target.to_string());
        let before = before.get(target.as_str());
        let mine: Vec<[String; 2]> = table.sources.iter().map(|one| job.names_of(one)).collect();
        let elsewhere = mine.iter().flatten().filter_map(|source| of_source.get(source.as_str()).copied());
        let seen: Vec<bool> = before.map(|row| row.ignored).into_iter().chain(elsewhere).collect();
        let is_new = !known.is_empty() && seen.iter().all(|ignored| *ignored);
        let ignored = is_new && rules.table_added == TableAdded::Ignore;
        let of = |outcome, detail: &str| ChangedTable {
            source: source.clone(),
            target: target.clone(),
            change: TableChangeRecord::of_table(ChangeKind::TableAdded, outcome, detail),
        };
        if ignored && seen.is_empty() {
            // Said once, and not with every run.
            settled.others.push(of(ChangeOutcome::Ignored, "rules.tableAdded is ignore"));
        } else if is_new && !ignored {
            settled.added.push(of(ChangeOutcome::Done, "no earlier run had it"));
        }
        let mut reason = None;
        // A merge into a target that is called after the day was called otherwise before.
        let other_day = || {
            let met = |part: &str| mine.iter().flatten().any(|name| name == part);
            let was_met = |row: &&KnownRow| !row.ignored && !row.sources.is_empty();
            let mut merges: Vec<_> = known.iter().filter(was_met).collect();
            // Before a table that was moved by itself too.
            merges.sort_by_key(|row| Reverse(row.sources.len()));
            merges.into_iter().find(|row| parts(row, job).into_iter().any(met))
        };
        // A table that has left its merge is not asked about those that it was merged with.
        let row = before.copied().or_else(other_day).filter(|row| !row.ignored && !row.sources.is_empty());
        let row = row.filter(|_| table.is_merge());
        if let Some(row) = row {
            let merged = Merge { known: parts(row, job), of_source: &of_source, present, unseen };
            let parts = merged.compare(job, table);
            for [part, label] in &parts.left_out {
                // It has a row of its own, so that the next run knows that this was said.
                let place = format!("{target} ← {part}");
                if !known.iter().any(|row| row.target == place) {
                    let (source, sources) = (label.clone(), vec![part.clone()]);
                    settled.met.push(MetTable { target: place.clone(), source, sources, ignored: true });
                }
                here.insert(place);
            }
            left_out_parts.extend(parts.left_out.into_iter().map(|[_, label]| label));
            settled.others.extend(parts.changes);
            reason = parts.refused;
        }
        here.insert(target.clone());
        if let Some(reason) = reason {
            refused.insert(table.target.clone());
            let (kind, sources) = (ErrorKind::NotFound, table.sources.clone());
            failed.push(FailedTable { source, target, kind, reason, sources });
            return false;
        }
        let sources: Vec<String> = table.sources.iter().map(|one| job.identity(one.source, &one.name)).collect();
        if before.is_none_or(|row| row.ignored != ignored || row.sources != sources) {
            settled.met.push(MetTable { target, source: table.source(), sources, ignored });
        }
        if ignored {
            left_out.insert(table.target.clone());
        }
        !ignored
    });
    forget(&mut expansion.tables, &left_out.union(&refused).cloned().collect());
    let mut names: Vec<String> = left_out.iter().map(ToString::to_string).chain(left_out_parts).collect();
    names.sort();
    expansion.warnings.extend(told(names));
    here.extend(expansion.failed.iter().map(|table| table.target.clone()));
    // One that cannot be mapped today is the job's all the same, whatever its target is called.
    let failing = expansion.failed.iter().flat_map(|table| &table.sources);
    let failing: HashSet<String> = failing.flat_map(|one| job.names_of(one)).collect();
    let is_here =
        |row: &KnownRow| here.contains(&row.target) || parts(row, job).iter().any(|part| failing.contains(*part));
    if known.is_empty() {
        // What the first run selects is not new to later ones, whatever becomes of it now. Not under its target's name: nobody has
        // made that, and it may be a table that the job reads.
        let met = expansion.failed.iter().filter(|table| !table.sources.is_empty()).map(|table| MetTable {
            target: format!("{} ← {}", table.target, table.source),
            source: table.source.clone(),
            sources: table.sources.iter().map(|one| job.identity(one.source, &one.name)).collect(),
            ignored: false,
        });
        settled.met.extend(met);
    }
    for row in known.iter().filter(|row| all && !is_here(row)) {
        let parts = parts(row, job);
        if parts.iter().any(|source| expansion.unseen.is_closed(source)) {
            continue;
        }
        let present = |source: &&str| expansion.present.contains(*source) || expansion.unseen.is_unasked(source);
        if parts.iter().any(present) || row.ignored {
            // The job selects it no more.
            settled.gone.push(row.target.clone());
            continue;
        }
        let detail = "the source has the table no more";
        let (outcome, detail) = match rules.table_deleted {
            TableDeleted::Ignore => {
                settled.gone.push(row.target.clone());
                (ChangeOutcome::Ignored, format!("{detail}; the target keeps its own as it is"))
            }
            TableDeleted::Error => {
                let reason = format!("{detail}, and rules.tableDeleted is error");
                if !expansion.failed.iter().any(|table| table.source == row.source) {
                    expansion.failed.push(FailedTable {
                        source: row.source.clone(),
                        target: row.target.clone(),
                        kind: ErrorKind::NotFound,
                        reason: reason.clone(),
                        sources: Vec::new(),
                    });
                }
                (ChangeOutcome::Refused, reason)
            }
        };
        settled.others.push(ChangedTable {
            source: row.source.clone(),
            target: row.target.clone(),
            change: TableChangeRecord::of_table(ChangeKind::TableDeleted, outcome, detail),
        });
    }
    settled
}

/// The source tables of a row, without a source's name where the job has no such source (any more): it may be called otherwise
/// now. Of a row that an older program wrote, the first.
fn parts<'a>(row: &'a KnownRow, job: &DatabaseJob) -> Vec<&'a str> {
    let known = |source: &str| job.sources.iter().any(|one| one.name == source);
    if !row.sources.is_empty() {
        let part = |text: &'a String| match text.split_once(": ") {
            Some((source, name)) if !known(source) => name,
            _ => text.as_str(),
        };
        return row.sources.iter().map(part).collect();
    }
    let merged = row.source.strip_suffix(" more").and_then(|text| text.rsplit_once(" and "));
    vec![merged.map_or(row.source.as_str(), |(first, _)| first)]
}

/// What the user should know of tables that a rule leaves out of every run.
fn told(left_out: Vec<String>) -> Option<String> {
    let why = "left out, for no earlier run moved them and rules.tableAdded is ignore";
    (!left_out.is_empty()).then(|| format!("{why}: {}", some_of(left_out)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::TableJob;
    use serde_json::json;

    #[test]
    fn a_table_that_failed_in_the_first_run_is_not_new_in_the_next() {
        let job = DatabaseJob::of(&json!({"rules": {"tableAdded": "ignore"}}));
        let table = |name: &str| {
            let name = json!({"database": "d", "schema": null, "table": name});
            let described = json!({"name": name, "kind": "table", "columns": [], "primary_key": []});
            let table = json!({"target": {"schema": null, "table": name["table"]}, "sources": [{"source": 0, "name": name}],
                "mode": "overwrite", "key": [], "columns": [], "all_columns": true, "group": 0, "rules": job.config.rules,
                "described": described});
            serde_json::from_value::<TableJob>(table).unwrap()
        };
        let failed = |name: &str| FailedTable {
            source: format!("d.{name}"),
            target: name.into(),
            kind: ErrorKind::Schema,
            reason: "it cannot be mapped".into(),
            sources: table(name).sources,
        };
        let of = |tables: &[&str], failing: &[&str]| Expansion {
            tables: tables.iter().map(|name| table(name)).collect(),
            failed: failing.iter().map(|name| failed(name)).collect(),
            present: ["one", "ill", "late"].iter().map(|name| format!("fake: d.{name}")).collect(),
            ..Expansion::default()
        };
        // As the ledger would have them.
        let mut known: Vec<KnownRow> = Vec::new();
        let mut run = |mut expansion: Expansion| {
            let settled = selection(&known, &job, &mut expansion, true);
            known.retain(|row| !settled.gone.contains(&row.target));
            for MetTable { target, source, sources, ignored } in settled.met {
                known.retain(|row| row.target != target);
                known.push(KnownRow { target, source, sources, ignored, table: None, made: Vec::new() });
            }
            let moved: Vec<_> = expansion.tables.into_iter().map(|table| table.target.table).collect();
            let mut rows: Vec<_> = known.iter().map(|row| row.target.clone()).collect();
            rows.sort();
            (moved, rows)
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(run(of(&["one"], &["ill"])), (names(&["one"]), names(&["ill ← d.ill", "one"])));
        // It fails again, beside one that is new and fails too.
        assert_eq!(run(of(&["one"], &["ill", "late"])), (names(&["one"]), names(&["ill ← d.ill", "one"])));
        assert_eq!(run(of(&["one", "ill", "late"], &[])).0, names(&["one", "ill"]));
        assert_eq!(run(of(&["one", "ill", "late"], &[])), (names(&["one", "ill"]), names(&["ill", "late", "one"])));
    }
}
