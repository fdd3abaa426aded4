//! From a whole-database job to its tables: one read of each catalogue, then everything is decided.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weir_core::{ConnectorContext, Error, ErrorKind, Objects, Result, TableDescription, TargetName};
use weir_core::{WriteMode, database_reader, database_writer};

use super::config::{ColumnConfig, MergeConfig, TableConfig, TableDeleted};
use super::entries::{entry, reader_of};
use super::group::{check_kept, group};
use super::incremental::{choose, refuse_shared};
use super::job::{DatabaseJob, Override};
use super::listing::{Described, Listing, Shut, describe};
use super::made::made;
use super::merge::{difference, origin, united};
use super::naming::{apart, fitting, fitting_column};
use super::only::Only;
use super::pattern::Pattern;
use super::references::{left_out, refer, referrers};
use super::select::{Counts, Found, Selection, select};
use super::table::{FailedTable, TableJob, TableSource, some_of};
use super::targets::{distinct, refuse_own};
use super::unseen::{Unseen, all_of, closed, unknown, unseen};
use super::words;
use crate::job::Entry;
use crate::ledger::KnownRow;

/// What a whole-database job comes to. A run freezes it in the ledger, so that a resume goes on with the same tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Expansion {
    /// The tables in the order in which they begin.
    pub tables: Vec<TableJob>,
    /// How many groups they are in.
    pub groups: usize,
    /// Tables that cannot be moved.
    pub failed: Vec<FailedTable>,
    /// Tables that the job names and the source does not have (any more).
    pub gone: Vec<String>,
    /// The own database of each source's connection, where it has one.
    #[serde(default)]
    pub databases: Vec<Option<String>>,
    /// One table of each database that tables were selected from, whichever of them the run moves.
    #[serde(default)]
    pub reads: Vec<TableSource>,
    /// How much was selected.
    pub selected: Counts,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Everything that the sources have, selected or not, as `DatabaseJob::identity` names it, and by its name alone.
    #[serde(skip)]
    pub present: BTreeSet<String>,
    /// Databases of which nothing was seen.
    #[serde(skip)]
    pub(super) unseen: Unseen,
}

/// Reads the catalogues and decides; `known` is what earlier runs of the job have met. What is named, and not seen elsewhere
/// than in a source that is `shut`, fails, and so does every merge: nobody knows what that source has of it.
///
/// # Errors
/// A source that cannot be reached or lists nothing, two sources that land on one target, patterns that select nothing.
pub async fn expand(
    job: &DatabaseJob,
    shut: &Shut,
    only: &Only,
    known: &[KnownRow],
    context: &ConnectorContext,
) -> Result<Expansion> {
    let Listing { catalogs, objects } = Listing::read(job, shut, context).await?;
    let selection = select(&job.patterns, &objects, &made(job, known, &objects, context)?);
    let (described, expansion) = (Described::new(), Expansion::default());
    let mut draft = Draft { job, objects: &objects, selection: &selection, shut, described, expansion };
    draft.expansion.selected = selection.counts;
    let all = objects.iter().enumerate().flat_map(|(source, of)| of.list.iter().map(move |one| (source, &one.name)));
    draft.expansion.present = all.flat_map(|(source, name)| [job.identity(source, name), name.to_string()]).collect();
    draft.expansion.databases = objects.iter().map(|one| one.database.clone()).collect();
    draft.expansion.unseen = Unseen::of(job, &objects, !draft.shut.is_empty());
    draft.expansion.reads = selection.of_each_database().map(TableSource::from).collect();
    draft.shut();
    draft.missing();
    draft.idle();
    let made = selection.made.clone();
    let why = "left out, for the job itself has made them where it reads:";
    draft.expansion.warnings.extend((!made.is_empty()).then(|| format!("{why} {}", some_of(made))));
    draft.described = describe(job, &catalogs, &selection, context).await?;
    for found in &selection.single {
        draft.single(found);
    }
    for (index, tables) in selection.merges.iter().enumerate() {
        draft.merge(index, tables);
    }
    draft.finish(only, context).await
}

struct Draft<'a> {
    job: &'a DatabaseJob,
    objects: &'a [Objects],
    selection: &'a Selection,
    /// The sources whose catalogues cannot be read, and why.
    shut: &'a Shut,
    described: Described,
    expansion: Expansion,
}

impl Draft<'_> {
    fn fail(&mut self, found: &[Found], source: String, target: String, (kind, reason): (ErrorKind, String)) {
        let sources = found.iter().map(TableSource::from).collect();
        self.expansion.failed.push(FailedTable { source, target, kind, reason, sources });
    }

    /// Sources of whose tables nothing is known.
    fn shut(&mut self) {
        let shut = self.shut;
        for (source, error) in shut.iter() {
            let name = all_of(&self.job.sources[source].name);
            self.fail(&[], name, String::new(), (error.kind(), error.full()));
        }
    }

    fn missing(&mut self) {
        for pattern in &self.selection.missing {
            let (name, why) = (pattern.to_string(), unseen(pattern, self.objects));
            if pattern.is_reserved() {
                let reason =
                    "names that begin with `weir_` are those of Weir's own tables, and never taken: rename the table";
                self.fail(&[], name, String::new(), (ErrorKind::Unsupported, reason.into()));
                continue;
            }
            if let Some(fault) = unknown(self.shut) {
                self.fail(&[], name, String::new(), fault);
                continue;
            }
            match self.job.config.rules.table_deleted {
                TableDeleted::Ignore => {
                    self.expansion.warnings.extend(why.map(|why| format!("`{name}` is not seen: {why}")));
                    self.expansion.gone.push(name);
                }
                TableDeleted::Error => {
                    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                    let reason = format!("the source has no such table (rules.tableDeleted is error){why}");
                    self.fail(&[], name, String::new(), (ErrorKind::NotFound, reason));
                }
            }
        }
    }

    /// Patterns that match nothing, and databases that they match and nobody can look into.
    fn idle(&mut self) {
        for pattern in &self.selection.idle {
            let why = unseen(pattern, self.objects).map(|why| format!(" ({why})")).unwrap_or_default();
            self.expansion.warnings.push(format!("`{pattern}` matches no table{why}"));
        }
        let idle = self.selection.idle_excludes.iter();
        self.expansion.warnings.extend(idle.map(|pattern| format!("exclude: `{pattern}` matches no table")));
        let used = |pattern: &&Pattern| !self.selection.idle.iter().any(|idle| idle.to_string() == pattern.to_string());
        for pattern in self.job.patterns.include.iter().filter(|pattern| !pattern.is_name()).filter(used) {
            let closed = closed(std::slice::from_ref(pattern), self.objects);
            let left_out = closed.into_iter().map(|why| format!("`{pattern}` leaves tables out: {why}"));
            self.expansion.warnings.extend(left_out);
        }
        if self.job.patterns.is_whole() {
            let closed: Vec<_> = self.objects.iter().flat_map(|of| &of.closed_schemas).cloned().collect();
            let why = "left out, for the user may not look into them (GRANT USAGE ON SCHEMA): the schemas";
            self.expansion.warnings.extend((!closed.is_empty()).then(|| format!("{why} {}", some_of(closed))));
        }
    }

    fn single(&mut self, found: &Found) {
        let name = &found.object.name;
        let own_words = words::of_table(self.job, found, self.objects);
        let datasource = &self.job.sources[found.source].name;
        let own_target = own_words.as_ref().ok().and_then(|own| own.as_ref()?.target.clone());
        let target = own_target.unwrap_or_else(|| TargetName {
            schema: self.job.schema.name(name, datasource),
            table: self.job.table.name(name, datasource).unwrap_or_else(|| name.table.clone()),
        });
        let found = std::slice::from_ref(found);
        match own_words {
            Ok(own_words) => self.table(found, target, own_words.as_deref(), None),
            Err(fault) => self.fail(found, self.named(found), target.to_string(), (ErrorKind::Schema, fault)),
        }
    }

    fn merge(&mut self, index: usize, tables: &[Found]) {
        let into = self.job.into[index].clone();
        let merge = &self.job.config.objects.merge.as_slice()[index];
        let patterns = &self.job.patterns.merges[index];
        if let Some(fault) = unknown(self.shut) {
            // As an overwrite it would take away the rows that came from there.
            let source = if tables.is_empty() { "merge".into() } else { self.named(tables) };
            return self.fail(tables, source, into.to_string(), fault);
        }
        if tables.is_empty() {
            let why: BTreeSet<_> = patterns.iter().filter_map(|pattern| unseen(pattern, self.objects)).collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({})", Vec::from_iter(why).join("; ")) };
            let reason = format!("no table matches {}{why}", merge.from.as_slice().join(", "));
            return self.fail(&[], "merge".into(), into.to_string(), (ErrorKind::NotFound, reason));
        }
        let closed = closed(patterns, self.objects);
        if !closed.is_empty() {
            // As an overwrite it would take away the rows that came from there.
            let reason = format!("{}: open it, or name it under `exclude`, as database.*.*", closed.join("; "));
            return self.fail(tables, self.named(tables), into.to_string(), (ErrorKind::Denied, reason));
        }
        let text = into.to_string();
        let own_words = words::of_merge(self.job, &text);
        let schema = into.schema.or_else(|| {
            // The namespace that all of them would have by themselves, if it is one.
            let of = |found: &Found| self.job.schema.name(&found.object.name, &self.job.sources[found.source].name);
            let first = of(&tables[0]);
            tables.iter().all(|found| of(found) == first).then_some(first).flatten()
        });
        let target = own_words.and_then(|own| own.target.clone());
        let target = target.unwrap_or(TargetName { schema, table: into.table });
        for of_parts in words::of_parts(self.job, tables, own_words, self.objects) {
            let pattern = &of_parts.pattern;
            let what = format!("say under `{text}` what holds for all of them");
            if own_words.is_none() || pattern.is_name() {
                let reason = format!("`{pattern}` under `tables` is about tables that are merged: {what}");
                return self.fail(tables, self.named(tables), target.to_string(), (ErrorKind::Schema, reason));
            }
            // One that they happen to match gives way to words for the merge.
            let warning =
                format!("`{pattern}` under `tables` does not hold for tables that are merged into {target}: {what}");
            self.expansion.warnings.push(warning);
        }
        self.table(tables, target, own_words, Some(merge));
    }

    /// Source tables as people read them.
    fn named(&self, found: &[Found]) -> String {
        let label = |found: &Found| self.job.label(found.source, &found.object.name);
        match found {
            [] => String::new(),
            [one] => label(one),
            [first, others @ ..] => format!("{} and {} more", label(first), others.len()),
        }
    }

    /// Decides about one table of the target.
    fn table(
        &mut self,
        found: &[Found],
        target: TargetName,
        own_words: Option<&Override>,
        merge: Option<&MergeConfig>,
    ) {
        match self.decide(found, &target, own_words.map(|own| &own.config), merge) {
            Ok(table) => {
                self.expansion.warnings.extend(self.doubled_keys(&table));
                self.expansion.tables.push(table);
            }
            Err(fault) => self.fail(found, self.named(found), target.to_string(), fault),
        }
    }

    /// What to know of a merge whose keys nobody compares, or not with all others.
    fn doubled_keys(&self, table: &TableJob) -> Option<String> {
        let plugin = database_writer(&self.job.target.plugin)?;
        let target = &self.job.target.parameter;
        let seen = table.sources.len() < 2 || (plugin.finds_equal_keys)(target, table.mode);
        let told_apart = table.key.is_empty() || !table.origin.is_empty();
        if told_apart {
            return None;
        }
        if table.is_merge() && table.incremental.is_some() && table.mode == WriteMode::Upsert {
            return Some(format!(
                "{}: it is read by windows, and only rows of one run are compared: a row takes the place of one that another \
                 of the merged tables had with its key ({}) in an earlier run; `origin` tells such rows apart",
                table.target,
                table.key.join(", "),
            ));
        }
        (!seen).then(|| {
            format!(
                "{}: a key ({}) that two of the merged tables have will be there twice, for a target of {} with \
                 these parameters compares none: `origin` tells such rows apart",
                table.target,
                table.key.join(", "),
                plugin.name
            )
        })
    }

    fn decide(
        &self,
        found: &[Found],
        target: &TargetName,
        own_words: Option<&TableConfig>,
        merge: Option<&MergeConfig>,
    ) -> Result<TableJob, (ErrorKind, String)> {
        let none = TableConfig::default();
        let own_words = own_words.unwrap_or(&none);
        let schema = |reason: String| (ErrorKind::Schema, reason);
        let mut described = Vec::with_capacity(found.len());
        for one in found {
            let table = self.described.get(&(one.source, one.object.name.clone()));
            let gone = || (ErrorKind::NotFound, format!("{} was dropped just now", one.object.name));
            described.push(table.ok_or_else(gone)?);
        }
        let named: Vec<_> = found.iter().map(|f| f.object.name.to_string()).zip(described.iter().copied()).collect();
        if let Some(fault) = difference(&named) {
            return Err(schema(fault));
        }
        let model = &united(&described).ok_or_else(|| schema("there is no table to read".into()))?;
        let rules = database_writer(&self.job.target.plugin).map(|plugin| plugin.names);
        let rules = rules.ok_or_else(|| schema("the target takes no whole databases".into()))?;
        let fix = self.job.config.naming.fix;
        let target = fitting(target.clone(), &rules, fix).map_err(schema)?;
        let columns = columns(model, &own_words.columns).map_err(schema)?.into_iter();
        let columns = columns.map(|(from, to)| Ok((from, fitting_column(to, &rules, fix)?)));
        let columns: Vec<_> = columns.collect::<Result<_, _>>().map_err(schema)?;
        let origin = match merge.filter(|merge| merge.origin) {
            None => Vec::new(),
            Some(_) => {
                let tables: Vec<_> =
                    found.iter().map(|one| (&one.object.name, self.job.sources[one.source].name.as_str())).collect();
                origin(&tables, self.job.sources.len() > 1, model).map_err(schema)?
            }
        };
        let columns = apart(columns, &origin, &rules, fix).map_err(schema)?;
        let taken = |name: &str| columns.iter().find(|(from, _)| from == name).map(|(_, to)| to.clone());
        let write = &self.job.config.write;
        let wanted = match own_words.key.is_empty() {
            true => model.key(write.unique_key),
            false => own_words.key.as_slice(),
        };
        let mut key = Vec::with_capacity(wanted.len() + origin.len());
        for name in wanted {
            match taken(name) {
                Some(to) => key.push(to),
                None if own_words.key.is_empty() => {
                    // A key of which a part is left out tells no rows apart.
                    key.clear();
                    break;
                }
                None => return Err(schema(format!("the key column `{name}` is not among the columns that are read"))),
            }
        }
        if !key.is_empty() {
            key.extend(origin.iter().map(|column| column.name.clone()));
        }
        let by_rule = if key.is_empty() { write.unkeyed } else { write.keyed };
        let mode = own_words.write_mode.unwrap_or(by_rule);
        if mode == WriteMode::Upsert && key.is_empty() {
            let hint = "name one as `key` under `tables`, or set write.uniqueKey where a unique key is enough";
            return Err(schema(format!("an upsert needs a key, and the table has no primary key: {hint}")));
        }
        let rule = self.job.config.incremental.as_ref();
        let reader = self.job.sources.first().and_then(|source| database_reader(&source.endpoint.plugin));
        let has_order = |native_type: &str| reader.is_none_or(|reader| (reader.has_order)(native_type));
        let incremental = choose(rule, own_words.incremental.as_ref(), model, has_order, (mode, !key.is_empty()));
        let incremental = incremental.map_err(schema)?;
        let sum = |of: fn(&Found) -> Option<u64>| found.iter().map(of).sum::<Option<u64>>();
        let all_columns = columns.len() == model.columns.len() && columns.iter().all(|(from, to)| from == to);
        let table = TableJob {
            target,
            sources: found.iter().map(TableSource::from).collect(),
            merged: merge.is_some(),
            mode,
            key,
            described: renamed(model, &columns),
            columns,
            all_columns,
            origin,
            condition: own_words.filter.clone(),
            split_key: own_words.split_pk.clone(),
            incremental,
            group: 0,
            rows: sum(|found| found.object.rows),
            bytes: sum(|found| found.object.bytes),
            rules: self.job.config.rules.clone(),
            references: Vec::new(),
            referrers: Vec::new(),
        };
        if found.len() > 1 {
            // What does not go together is the merge's own fault.
            reader_of(self.job, &self.expansion.databases, &table).map_err(|error| (error.kind(), error.full()))?;
        }
        Ok(table)
    }

    /// What only all tables together show: targets taken twice, what was asked for, groups.
    async fn finish(mut self, only: &Only, context: &ConnectorContext) -> Result<Expansion> {
        self.unable(context)?;
        refuse_shared(&mut self.expansion);
        distinct(self.job, &self.expansion.tables, context).await?;
        let read = self.described.keys().map(|(source, name)| TableSource { source: *source, name: name.clone() });
        refuse_own(self.job, &read.collect::<Vec<_>>(), &mut self.expansion, context).await?;
        let unused = words::unused(self.job, self.selection, self.objects);
        let unused = unused.map(|words| format!("tables: `{}` is none of the job's tables", words.pattern));
        self.expansion.warnings.extend(unused);
        refer(&mut self.expansion.tables, self.objects);
        let references = referrers(&self.expansion.tables);
        only.narrow(&mut self.expansion, self.job, self.objects)?;
        left_out(&mut self.expansion.tables, references);
        let mut expansion = self.expansion;
        if expansion.tables.is_empty() && expansion.failed.is_empty() && expansion.gone.is_empty() {
            let why: Vec<_> = std::iter::once(String::new()).chain(expansion.warnings).collect();
            let text = format!(
                "the job selects no table, of {} that the source has: look at `objects`{}",
                expansion.selected.of,
                why.join("; ")
            );
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        expansion.tables.sort_by(|a, b| a.target.cmp(&b.target));
        let bytes: Vec<_> = expansion.tables.iter().map(|table| table.bytes).collect();
        let groups = group(&bytes, &self.job.config.group);
        for (table, group) in expansion.tables.iter_mut().zip(&groups.of) {
            table.group = *group;
        }
        expansion.groups = groups.count;
        let mut rank = vec![0; groups.order.len()];
        groups.order.iter().enumerate().for_each(|(at, table)| rank[*table] = at);
        let mut ranked: Vec<_> = rank.into_iter().zip(expansion.tables).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        expansion.tables = ranked.into_iter().map(|(_, table)| table).collect();
        Ok(expansion)
    }

    /// Puts tables that a connector cannot do among those that fail.
    ///
    /// # Errors
    /// It can do none of them: then something is wrong with the job.
    fn unable(&mut self, context: &ConnectorContext) -> Result<()> {
        let (mut able, mut first) = (Vec::new(), None);
        for table in std::mem::take(&mut self.expansion.tables) {
            let entry = entry(self.job, &self.expansion.databases, &table);
            let Err(error) = entry.and_then(|entry| self.lanes_suffice(&table, &entry, context)) else {
                able.push(table);
                continue;
            };
            self.expansion.failed.push(FailedTable::of(&table, (error.kind(), error.full())));
            first = first.or(Some(error));
        }
        self.expansion.tables = able;
        first.filter(|_| self.expansion.tables.is_empty()).map_or(Ok(()), Err)
    }

    /// Only a merge can need more sessions with one server than every group has.
    fn lanes_suffice(&self, table: &TableJob, entry: &Entry, context: &ConnectorContext) -> Result<()> {
        if table.sources.len() < 2 {
            return Ok(());
        }
        let reader = entry.reader.open_reader(context)?;
        check_kept(reader.snapshot().map_or(0, |snapshot| snapshot.keeps()), &self.job.config.group)
    }
}

/// Which columns are read, and what they are called at the target.
fn columns(
    table: &TableDescription,
    own_words: &BTreeMap<String, ColumnConfig>,
) -> Result<Vec<(String, String)>, String> {
    if let Some(unknown) = own_words.keys().find(|name| table.column(name).is_none()) {
        let near = weir_core::config::nearest(unknown, table.columns.iter().map(|column| column.name.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("the table has no column `{unknown}`, which `tables` names{hint}"));
    }
    let taken = table.columns.iter().filter_map(|column| match own_words.get(&column.name) {
        Some(ColumnConfig::Taken(false)) => None,
        Some(ColumnConfig::Name(name)) => Some((column.name.clone(), name.clone())),
        _ => Some((column.name.clone(), column.name.clone())),
    });
    let taken: Vec<_> = taken.collect();
    if taken.is_empty() {
        return Err(
            if table.columns.is_empty() { "the table has no columns" } else { "no column is left to read" }.into()
        );
    }
    Ok(taken)
}

/// The structure as the target is to have it.
fn renamed(table: &TableDescription, columns: &[(String, String)]) -> TableDescription {
    let mut table = table.clone();
    let to = |name: &String| columns.iter().find(|(from, _)| from == name).map(|(_, to)| to.clone());
    table.columns.retain_mut(|column| match to(&column.name) {
        Some(name) => {
            column.name = name;
            true
        }
        None => false,
    });
    let all = |names: &[String]| names.iter().map(to).collect::<Option<Vec<_>>>();
    table.primary_key = all(&table.primary_key).unwrap_or_default();
    table.unique.retain_mut(|key| all(&key.columns).map(|names| key.columns = names).is_some());
    table.foreign_keys.retain_mut(|key| all(&key.columns).map(|names| key.columns = names).is_some());
    table
}
