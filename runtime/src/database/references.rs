//! The foreign keys between the tables of a job.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use weir_core::{ObjectName, Objects, Reference, TargetName};

use super::table::TableJob;

/// A foreign key and the table that has it, in the target's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Referrer {
    /// The table.
    pub table: TargetName,
    /// Its key.
    pub key: Reference,
}

/// Tells each table which others it refers to. A merge refers to nothing and nothing to it: each of its tables has other
/// keys. In `sources` that ignore the case of letters a key may spell its table otherwise than the table itself (SQLite).
pub(super) fn refer(tables: &mut [TableJob], sources: &[Objects]) {
    let single = tables.iter().filter(|table| !table.is_merge() && !table.sources.is_empty());
    let of_source: HashMap<(usize, &ObjectName), &TableJob> =
        single.map(|table| ((table.sources[0].source, &table.sources[0].name), table)).collect();
    let ignores_case = |source: usize| sources.get(source).is_some_and(|of| of.ignores_case);
    let lower = |name: &ObjectName| ObjectName { table: name.table.to_ascii_lowercase(), ..name.clone() };
    let whatever_case: HashMap<(usize, ObjectName), &TableJob> = of_source
        .iter()
        .filter(|((source, _), _)| ignores_case(*source))
        .map(|((source, name), table)| ((*source, lower(name)), *table))
        .collect();
    let references = |table: &TableJob| -> Vec<Reference> {
        let Some(source) = table.sources.first().filter(|_| !table.is_merge()) else { return Vec::new() };
        let keys = table.described.foreign_keys.iter().filter_map(|key| {
            let exact = of_source.get(&(source.source, &key.to));
            let other = exact.or_else(|| whatever_case.get(&(source.source, lower(&key.to))))?;
            let at_target = |name: &String| {
                let exact = other.columns.iter().find(|(from, _)| from == name);
                let same =
                    |(from, _): &&(String, String)| ignores_case(source.source) && from.eq_ignore_ascii_case(name);
                exact.or_else(|| other.columns.iter().find(same)).map(|(_, to)| to.clone())
            };
            Some(Reference {
                name: key.name.clone(),
                columns: key.columns.clone(),
                to: other.target.clone(),
                to_columns: key.to_columns.iter().map(at_target).collect::<Option<_>>()?,
                on_delete: key.on_delete.clone(),
                on_update: key.on_update.clone(),
            })
        });
        keys.collect()
    };
    let all: Vec<_> = tables.iter().map(references).collect();
    tables.iter_mut().zip(all).for_each(|(table, references)| table.references = references);
}

/// All keys that [`refer`] has found.
pub(super) fn referrers(tables: &[TableJob]) -> Vec<Referrer> {
    let of = |table: &TableJob| {
        let table_name = table.target.clone();
        let of = move |key| Referrer { table: table_name.clone(), key };
        table.references.clone().into_iter().map(of)
    };
    tables.iter().flat_map(of).collect()
}

/// Tells those tables that a run has which others refer to them: these get their keys when what they refer to has come.
pub(super) fn left_out(tables: &mut [TableJob], all: Vec<Referrer>) {
    let here: HashMap<TargetName, usize> =
        tables.iter().enumerate().map(|(index, table)| (table.target.clone(), index)).collect();
    for one in all.into_iter().filter(|one| !here.contains_key(&one.table)) {
        if let Some(index) = here.get(&one.key.to) {
            tables[*index].referrers.push(one);
        }
    }
}

/// Forgets the keys onto tables that are not to be at the target.
pub(super) fn forget(tables: &mut [TableJob], gone: &HashSet<TargetName>) {
    tables.iter_mut().for_each(|table| table.references.retain(|key| !gone.contains(&key.to)));
}
