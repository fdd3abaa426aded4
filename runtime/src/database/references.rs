//! The foreign keys between the tables of a job.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use weir_core::{Evolve, KeyDefinition, ObjectName, Objects, Reference, Result, TargetName};

use super::DatabaseJob;
use super::table::TableJob;
use crate::ledger::MadeKey;

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

/// Those of the keys that runs have made at a table's target which its source has no more; `has` tells the targets of the
/// run's tables. A key that the source has onto a table that the run does not know counts as the one that was there.
pub fn gone(
    table: &TableJob,
    made: &[MadeKey],
    database: &DatabaseJob,
    has: impl Fn(&TargetName) -> bool,
) -> Vec<MadeKey> {
    if table.is_merge() || made.is_empty() {
        return Vec::new();
    }
    let place = place_of(database);
    let is_gone = |key: &Reference| {
        let same = |now: &&Reference| now.columns == key.columns;
        let mut now = table.references.iter().filter(same).peekable();
        let is_known = now.peek().is_some();
        let unknown = || table.described.foreign_keys.iter().any(|now| now.columns == key.columns);
        !now.any(|now| now.to == key.to && now.to_columns == key.to_columns) && (is_known || has(&key.to) || !unknown())
    };
    made.iter().filter(|one| one.place == place && is_gone(&one.key)).cloned().collect()
}

/// Those of the keys that a table has which are among these that were made.
///
/// # Errors
/// The target's.
pub async fn present(able: &dyn Evolve, made: &[MadeKey]) -> Result<Vec<KeyDefinition>> {
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let meant: Vec<_> = made.iter().map(|one| one.key.clone()).collect();
    let mut keys = able.foreign_keys(&meant).await?;
    keys.retain(|there| meant.iter().any(|key| is_made(&there.key, key)));
    Ok(keys)
}

/// Whether a key between the columns of one that was made is that one: somebody may have made another since.
pub fn is_made(there: &Reference, made: &Reference) -> bool {
    there.columns == made.columns
        && there.to.table.eq_ignore_ascii_case(&made.to.table)
        && there.to_columns == made.to_columns
        && (made.name.is_empty() || there.name.eq_ignore_ascii_case(&made.name))
}

/// The target system, as far as it tells where keys are.
pub fn place_of(database: &DatabaseJob) -> String {
    json!([database.target.plugin, database.target.redacted()]).to_string()
}

/// Forgets the keys onto tables that are not to be at the target.
pub(super) fn forget(tables: &mut [TableJob], gone: &HashSet<TargetName>) {
    tables.iter_mut().for_each(|table| table.references.retain(|key| !gone.contains(&key.to)));
}
