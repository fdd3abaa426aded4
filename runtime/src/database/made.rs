//! Tables that the job itself has made where it reads: what it has written is nothing to be read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use weir_core::{ConnectorContext, ObjectName, Objects, Result, TargetName, database_writer};

use super::entries::at_target;
use super::job::DatabaseJob;
use super::table::TableSource;
use super::targets::{reads_home, spelling};
use crate::ledger::KnownRow;

/// Those of the sources' tables that are targets of the job's earlier runs. One that was a target and its own source is none:
/// then the job wrote elsewhere.
///
/// # Errors
/// An end that cannot be opened.
pub(super) fn made(
    job: &DatabaseJob,
    known: &[KnownRow],
    objects: &[Objects],
    context: &ConnectorContext,
) -> Result<HashSet<(usize, ObjectName)>> {
    let same = spelling(job);
    let schemas = database_writer(&job.target.plugin).is_some_and(|plugin| plugin.names.schemas);
    let known = known.iter().filter(|row| !row.ignored);
    let targets: HashMap<String, &KnownRow> = known.map(|row| (same(&row.target), row)).collect();
    let (mut homes, mut made) = (HashMap::new(), HashSet::new());
    for (source, of) in objects.iter().enumerate() {
        for name in of.list.iter().map(|object| &object.name) {
            let schema = name.schema.as_ref().unwrap_or(&name.database);
            let called = |schema: Option<&String>| {
                same(&TargetName { schema: schema.cloned(), table: name.table.clone() }.to_string())
            };
            let (table, in_full) = (called(None), called(Some(schema).filter(|_| schemas)));
            // What is called without its namespace is in the connection's own.
            let own = of.schema.as_ref().or(of.database.as_ref()) == Some(schema);
            let row = targets.get(&in_full).or_else(|| targets.get(&table).filter(|_| own));
            let names = job.names_of(&TableSource { source, name: name.clone() });
            if row.is_none_or(|row| row.source == names[1] || row.sources.iter().any(|one| names.contains(one))) {
                continue;
            }
            let is_home = match homes.entry((source, &name.database)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let target = TargetName { schema: None, table: name.table.clone() };
                    let home = at_target(job, &target)?.open_writer(context)?.home();
                    let own = of.database.as_deref();
                    let reads = home.map(|home| reads_home(job, source, own, name, &home, context)).transpose()?;
                    *new.insert(reads.unwrap_or(false))
                }
            };
            if is_home {
                made.insert((source, name.clone()));
            }
        }
    }
    Ok(made)
}
