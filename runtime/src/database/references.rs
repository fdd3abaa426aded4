//! The foreign keys between the tables of a job.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use weir_core::{ObjectName, Reference, TargetName};

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
/// keys.
pub(super) fn refer(tables: &mut [TableJob]) {
    let single = tables.iter().filter(|table| !table.is_merge() && !table.sources.is_empty());
    let of_source: HashMap<(usize, &ObjectName), &TableJob> =
        single.map(|table| ((table.sources[0].source, &table.sources[0].name), table)).collect();
    let references = |table: &TableJob| -> Vec<Reference> {
        let Some(source) = table.sources.first().filter(|_| !table.is_merge()) else { return Vec::new() };
        let keys = table.described.foreign_keys.iter().filter_map(|key| {
            let other = of_source.get(&(source.source, &key.to))?;
            let at_target =
                |name: &String| other.columns.iter().find(|(from, _)| from == name).map(|(_, to)| to.clone());
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
