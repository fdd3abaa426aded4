//! Tables that a merge has more, or has no more, than in the last run: each is a table that came or went.

use std::collections::{BTreeSet, HashMap};

use weir_core::WriteMode;

use super::super::config::{TableAdded, TableDeleted};
use super::super::job::DatabaseJob;
use super::super::table::{TableJob, some_of};
use super::super::unseen::Unseen;
use super::{ChangeKind, ChangeOutcome, ChangedTable, TableChangeRecord};

/// What a table's source tables are compared with.
pub(super) struct Merge<'a> {
    /// The source tables that the last run met it with.
    pub known: Vec<&'a str>,
    /// For each source table of the job, whether all that is known of it is that it was left out.
    pub of_source: &'a HashMap<&'a str, bool>,
    /// Everything that the sources have.
    pub present: &'a BTreeSet<String>,
    /// Databases of which nothing was seen.
    pub unseen: &'a Unseen,
}

/// What the rules make of the parts of a merge.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// What is to be written down.
    pub changes: Vec<ChangedTable>,
    /// Those that are left out: as the job identifies them, and as people read them.
    pub left_out: Vec<[String; 2]>,
    /// Why the merge is not to be moved.
    pub refused: Option<String>,
}

impl Merge<'_> {
    /// Compares the parts of a table with those of before, and takes those out of it that are to be left out; all of them
    /// stay where none would.
    pub fn compare(&self, job: &DatabaseJob, table: &mut TableJob) -> Parts {
        let mut parts = Parts::default();
        let rules = &job.config.rules;
        let target = table.target.to_string();
        let change = |source: &str, kind, outcome, detail: &str| {
            let (from, to) = if kind == ChangeKind::TableAdded { (None, Some(source)) } else { (Some(source), None) };
            let change = TableChangeRecord::of_table(kind, outcome, detail).between(from, to);
            ChangedTable { source: source.to_owned(), target: target.clone(), change }
        };
        let names: Vec<[String; 2]> = table.sources.iter().map(|one| job.names_of(one)).collect();
        // Of a new one nothing is known, or that it was left out.
        let of_known = |name: &[String; 2]| name.iter().find_map(|one| self.of_source.get(one.as_str()).copied());
        let is_new: Vec<bool> = names.iter().map(|name| of_known(name) != Some(false)).collect();
        let leave_out = rules.table_added == TableAdded::Ignore && !is_new.iter().all(|is_new| *is_new);
        for (name, _) in names.iter().zip(&is_new).filter(|(_, is_new)| **is_new) {
            let (kind, label, said) = (ChangeKind::TableAdded, shown(job, &name[0]), of_known(name).is_some());
            match (leave_out, said) {
                (false, _) => parts.changes.push(change(label, kind, ChangeOutcome::Done, "merged with the others")),
                // Said once, and not with every run.
                (true, false) => {
                    parts.changes.push(change(label, kind, ChangeOutcome::Ignored, "rules.tableAdded is ignore"));
                }
                (true, true) => {}
            }
            if leave_out {
                parts.left_out.push([name[0].clone(), label.to_owned()]);
            }
        }
        if leave_out {
            let stays = |at: usize| !is_new[at];
            retain(&mut table.sources, stays);
            table.origin.iter_mut().for_each(|column| retain(&mut column.values, stays));
        }
        let is_here = |known: &str| names.iter().flatten().any(|name| name == known);
        let may_be_there =
            |known: &str| self.present.contains(known) || self.unseen.is_unasked(known) || self.unseen.is_closed(known);
        let gone: Vec<&str> =
            self.known.iter().copied().filter(|known| !is_here(known) && !may_be_there(known)).collect();
        let error = rules.table_deleted == TableDeleted::Error;
        // Where a lost privilege looks like a dropped table, rows go only when the job says that they may.
        let hidden = !error && table.mode == WriteMode::Overwrite && self.unseen.hides && !job.says_deleted;
        for part in &gone {
            let (outcome, detail) = match (error, table.mode) {
                (true, _) => (ChangeOutcome::Refused, "rules.tableDeleted is error"),
                _ if hidden => (ChangeOutcome::Refused, "dropped, or hidden from the user"),
                (false, WriteMode::Overwrite) => (ChangeOutcome::Ignored, "its rows go with this run"),
                (false, _) => (ChangeOutcome::Ignored, "the target keeps its rows"),
            };
            parts.changes.push(change(shown(job, part), ChangeKind::TableDeleted, outcome, detail));
        }
        if (error || hidden) && !gone.is_empty() {
            let gone = some_of(gone.into_iter().map(|part| shown(job, part).to_owned()).collect());
            // Of a table that is not moved, nothing is merged with the others.
            parts.changes.retain(|one| one.change.outcome != ChangeOutcome::Done);
            parts.refused = Some(match hidden {
                false => format!("the source has no more of what is merged {gone}, and rules.tableDeleted is error"),
                true => format!(
                    "the source shows no more of what is merged {gone}, whose rows would go with this run: grant the job's user \
                     SELECT on it again, or, if it was dropped, say `\"rules\": {{\"tableDeleted\": \"ignore\"}}`"
                ),
            });
        }
        parts
    }
}

/// A source table's identity as people read it, like [`DatabaseJob::label`].
fn shown<'t>(job: &DatabaseJob, identity: &'t str) -> &'t str {
    match identity.split_once(": ") {
        Some((_, name)) if job.sources.len() == 1 => name,
        _ => identity,
    }
}

fn retain<T>(list: &mut Vec<T>, stays: impl Fn(usize) -> bool) {
    let mut places = 0..;
    list.retain(|_| places.next().is_some_and(&stays));
}
