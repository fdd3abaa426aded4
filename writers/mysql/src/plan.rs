//! Deciding everything a run will do.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_core::{Error, ErrorKind, Form, OnTypeLoss, PlannedColumn, Result, WriteMode, WritePlan, WriteRequest};
use weir_mysql::{Column, Constraint, Kind, QUOTING, Server, Table};
use weir_sql::columns::refuse_own;
use weir_sql::config::{DuplicateKeys, WriterConfig};
use weir_sql::keys::{self, Keys, Referenced};
use weir_sql::statements::{NewColumn, create_table, plain_create, with_table};
use weir_sql::{TableName, own_name, refuse_long};

use crate::NAMES;
use crate::config::MySqlWriterConfig;
use crate::details::{behind_type, table_comment};
use crate::rights::{self, Rights};
use crate::state::{Publish, ROW, SPLIT, State};
use crate::ties::{Own, Ties};
use crate::types::{existing_warning, for_existing, for_new, settle};

const OPTIONS: &str = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4";

/// What the server says about the target.
pub(crate) struct Facts {
    pub(crate) name: TableName,
    pub(crate) table: Option<Table>,
    /// Its foreign keys on itself.
    pub(crate) own: Own,
    /// Its CHECK constraints, where staging has to be told of them.
    pub(crate) checks: Vec<Constraint>,
    pub(crate) server: Server,
    pub(crate) collations: Arc<Vec<String>>,
    pub(crate) nearest: Option<String>,
    pub(crate) form: Form,
    pub(crate) url_warnings: BTreeSet<String>,
    pub(crate) rights: Rights,
    /// The table's database, if it is missing and is to be made.
    pub(crate) create_database: Option<String>,
}

/// The columns of the target as the run will find them.
struct Layout {
    columns: Vec<PlannedColumn>,
    /// `type [NOT NULL]` of each, for staging.
    ddl: Vec<String>,
    /// The primary key.
    primary: Vec<String>,
    create: Option<String>,
    /// See [`State::created_as`].
    created_as: Option<TableName>,
}

pub(crate) fn plan(config: &MySqlWriterConfig, request: &WriteRequest, facts: Facts) -> Result<WritePlan> {
    let common = &config.common;
    let mode = common.mode();
    let mut warnings: Vec<String> = facts.url_warnings.iter().cloned().collect();
    let layout = match &facts.table {
        Some(table) => existing(table, request)?,
        None if common.creates(facts.form) => fresh(common, request, &facts)?,
        None => {
            let near = facts.nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no such table: `{}`{near}; create it, or set `createTable` to true", facts.name),
            ));
        }
    };
    // A whole-database job means to create its tables.
    if layout.create.is_some() && request.described.is_none() {
        let near = facts.nearest.as_ref().map(|n| format!("; the nearest existing table is `{n}`")).unwrap_or_default();
        let warning = format!("table `{}` does not exist and is created{near}", facts.name);
        warnings.push(warning);
    }
    if let Some(table) = &facts.table {
        refuse(table, mode, &mut warnings)?;
    }
    let keys = match (mode, &facts.table) {
        (WriteMode::Upsert, _) => upsert_keys(common.key.as_slice(), &layout, &facts)?,
        (_, Some(table)) => compared_keys(common, &layout, table)?,
        _ => Vec::new(),
    };
    warnings.extend(keys::not_compared(common, &facts.name, &keys).filter(|_| mode != WriteMode::Upsert));
    let commits = rights::commits(common, request, &facts, mode, &mut warnings)?;
    let direct =
        mode == WriteMode::Upsert && commits.is_none() && !request.decides_at_end && facts.rights.stage(mode).is_err();
    let compares = matches!(mode, WriteMode::Overwrite | WriteMode::Upsert);
    let ties = ties(&keys, &layout, &facts);
    let tied = mode == WriteMode::Append
        && ties.added_by().is_some()
        && facts.rights.updates(&facts.name)
        && facts.rights.stage(mode).is_ok();
    let staged = (compares || request.decides_at_end || tied) && !direct;
    if staged {
        facts.rights.stage(mode)?;
        let there = facts.table.iter().flat_map(|table| &table.columns).map(|c| c.name.as_str());
        let names = layout.columns.iter().map(|c| c.name.as_str()).chain(there);
        let own: &[&str] = if mode == WriteMode::Overwrite { &[SPLIT] } else { &[SPLIT, ROW] };
        refuse_own(names, own).map_err(|e| e.with("table", &facts.name))?;
    }
    if layout.create.is_some() {
        facts.rights.create(&facts.name)?;
    }
    let publish = match ties.added_by().filter(|_| tied) {
        Some(key) => Publish::InsertTied(key.clone()),
        None if staged => publish(mode, (&keys, &ties), &layout, &facts, &mut warnings)?,
        None => Publish::None,
    };
    warnings.extend(ties.warning(publish.unties()));
    if direct {
        unstaged(common.duplicate_keys, &facts, &mut warnings)?;
    }
    let staging = staged.then(|| TableName {
        schema: Some(facts.rights.database.clone()),
        name: own_name(&request.run_id, &facts.name, "_s"),
    });
    let stage = staging.as_ref().map(|s| stage_sql(mode, s, &facts, &layout)).unwrap_or_default();
    let pre = with_table(common.pre_sql.as_slice(), &facts.name, QUOTING);
    let row_by_row = facts.table.as_ref().is_some_and(|t| !t.transactional);
    let load = config.load_data.unwrap_or(true)
        && facts.server.local_infile
        && mode != WriteMode::Ignore
        && !direct
        && !row_by_row;
    if config.load_data == Some(true) && !facts.server.local_infile {
        warnings.push("`loadData` is on, but local_infile is off on the server: batches go as INSERTs".into());
    }
    let same = layout
        .columns
        .iter()
        .map(|c| c.name.clone())
        .find(|n| layout.primary.contains(n))
        .or_else(|| layout.columns.first().map(|c| c.name.clone()))
        .ok_or_else(|| Error::config("no column is written"))?;
    let make = facts.create_database.as_deref().map(database_creation);
    let rename = layout.created_as.as_ref().map(|created_as| renaming(created_as, &facts.name));
    let make = make.into_iter().chain(layout.create.iter().cloned()).chain(rename);
    let statements = make.chain(pre).chain(stage.iter().cloned()).collect();
    let state = State {
        table: facts.name.clone(),
        create_database: facts.create_database.clone(),
        create: layout.create.clone(),
        created_as: layout.created_as.clone(),
        staging,
        stage,
        commits,
        taken: taken(common, (mode, staged), &layout, &facts),
        ties: if publish.unties() { ties.columns } else { Vec::new() },
        publish,
        referenced_by: facts.table.iter().flat_map(|t| &t.referenced_by).map(|r| r.table.clone()).collect(),
        alters: !common.pre_sql.is_empty(),
        // MariaDB's JSON is a text, and keeps every digit.
        types: layout
            .columns
            .iter()
            .map(|c| match Kind::parse(&c.native_type) {
                Kind::Json if facts.server.mariadb => "longtext".into(),
                _ => c.native_type.clone(),
            })
            .collect(),
        load,
        row_by_row,
        max_packet: facts.server.max_packet,
        same,
        cast: request.on_type_loss == OnTypeLoss::Cast,
        duplicate_keys: common.duplicate_keys,
        on_empty: common.on_empty,
    };
    Ok(WritePlan {
        run_id: request.run_id.clone(),
        table: facts.name.to_string(),
        mode,
        columns: layout.columns,
        creates: layout.create.is_some(),
        statements,
        method: method(mode, &state),
        commits_per_split: !staged,
        records_splits: state.commits.is_some(),
        keys: if compares { keys } else { Vec::new() },
        warnings,
        state: serde_json::to_value(&state).map_err(|e| Error::internal("a plan cannot be written down").because(e))?,
    })
}

/// The statement that makes a database.
pub(crate) fn database_creation(name: &str) -> String {
    format!("CREATE DATABASE IF NOT EXISTS {} DEFAULT CHARACTER SET utf8mb4", QUOTING.quote(name))
}

/// The statement that gives a table that was created under a name of the run's own its name. The server refuses it where the
/// name is taken.
pub(crate) fn renaming(created_as: &TableName, table: &TableName) -> String {
    format!("RENAME TABLE {} TO {}", created_as.quoted(QUOTING), table.quoted(QUOTING))
}

/// The name under which an entry of a run creates its target.
pub(crate) fn created_as(run_id: &str, table: &TableName) -> TableName {
    table.sibling(own_name(run_id, table, "_n"))
}

fn method(mode: WriteMode, state: &State) -> String {
    let how = if state.load { "LOAD DATA LOCAL" } else { "INSERT" };
    if state.row_by_row {
        return format!("{how}, row by row, for the engine cannot take a statement back");
    }
    let with = if state.commits.is_some() { " with its record in weir_commits" } else { "" };
    let alone = format!("each split is one transaction{with} and commits by itself");
    let published = format!("in one transaction{with}");
    match (&state.publish, mode) {
        (Publish::None, WriteMode::Replace) => format!("{how}, REPLACE; {alone}"),
        (Publish::None, WriteMode::Ignore) => format!("{how}, equal keys skipped; {alone}"),
        (Publish::None, WriteMode::Upsert) => format!("{how} … ON DUPLICATE KEY UPDATE; {alone}"),
        (Publish::None, _) => format!("{how}; {alone}"),
        (Publish::Insert, _) => format!("{how} into a staging table, then INSERT … SELECT {published}"),
        (Publish::InsertTied(key), _) => format!(
            "{how} into a staging table, for the table refers to itself, then INSERT … SELECT, and by ({}) UPDATE … JOIN of what \
             ties rows to each other, {published}",
            key.join(", ")
        ),
        (Publish::InsertMissing, _) => {
            format!("{how} into a staging table, then INSERT … SELECT, equal keys skipped, {published}")
        }
        (Publish::ReplaceEqual, _) => format!("{how} into a staging table, then REPLACE … SELECT {published}"),
        (Publish::Replace, _) => format!("{how} into a staging table, then DELETE and INSERT … SELECT {published}"),
        (Publish::Diff(key), _) => format!(
            "{how} into a staging table, then by ({}) missing rows deleted, changed ones updated, new ones inserted \
             {published}",
            key.join(", ")
        ),
        (Publish::OnDuplicate, _) => {
            format!("{how} into a staging table, then INSERT … ON DUPLICATE KEY UPDATE {published}")
        }
        (Publish::Join { .. }, _) => format!(
            "{how} into a staging table, then UPDATE … JOIN and INSERT of the rows without a partner {published}"
        ),
    }
}

fn refuse(table: &Table, mode: WriteMode, warnings: &mut Vec<String>) -> Result<()> {
    if table.view && mode != WriteMode::Append {
        return Err(Error::new(ErrorKind::Unsupported, format!("a view takes append only, not {}", mode.name())));
    }
    let cascading: Vec<&str> = table.referenced_by.iter().filter(|r| r.cascades()).map(|r| r.table.as_str()).collect();
    if mode == WriteMode::Replace && !cascading.is_empty() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "replace deletes a row before it inserts the new one, and by their foreign keys rows of {} would go or \
                 change with it: use upsert",
                cascading.join(", ")
            ),
        ));
    }
    if mode == WriteMode::Replace && !table.referenced_by.is_empty() {
        let others: Vec<&str> = table.referenced_by.iter().map(|r| r.table.as_str()).collect();
        warnings.push(format!(
            "replace deletes a row before it inserts the new one: rows that {} refer to are refused as dirty",
            others.join(", ")
        ));
    }
    Ok(())
}

/// How staged rows get into the target.
fn publish(
    mode: WriteMode,
    (keys, ties): (&[String], &Ties),
    layout: &Layout,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<Publish> {
    match mode {
        WriteMode::Append => return Ok(Publish::Insert),
        WriteMode::Ignore => return Ok(Publish::InsertMissing),
        WriteMode::Replace => return Ok(Publish::ReplaceEqual),
        WriteMode::Overwrite | WriteMode::Upsert => {}
    }
    let Some(table) = &facts.table else {
        return Ok(if mode == WriteMode::Upsert { Publish::OnDuplicate } else { Publish::Replace });
    };
    if mode == WriteMode::Upsert {
        // MySQL would update the row with any equal key, not only with this one.
        return Ok(if table.unique.len() <= 1 && !(ties.is_written() && facts.rights.reads(&facts.name)) {
            Publish::OnDuplicate
        } else {
            let nullable = |k: &&String| table.column(k).is_none_or(|c| c.nullable);
            Publish::Join { nullable: keys.iter().filter(nullable).cloned().collect() }
        });
    }
    let database = facts.name.schema.as_deref().unwrap_or_default();
    let hidden = table.referenced_by.is_empty() && !facts.rights.sees_all(database);
    if table.referenced_by.is_empty() && !hidden {
        return Ok(Publish::Replace);
    }
    let columns = table.columns.iter().filter(|c| !c.generated);
    let referenced = Referenced {
        by: table.referenced_by.iter().map(|r| (r.table.as_str(), r.cascades())).collect(),
        unique: table.unique.iter().map(|(_, columns)| columns.as_slice()).collect(),
        columns: columns.map(|c| (c.name.as_str(), c.nullable)).collect(),
        written: layout.columns.iter().map(|c| c.name.as_str()).collect(),
    };
    match referenced.key() {
        Ok((key, more)) => {
            warnings.extend(more);
            Ok(Publish::Diff(key))
        }
        Err(_) if hidden => {
            warnings.push(format!(
                "the user sees only some tables of `{database}`: should another one refer to this table by a foreign key \
                 that cascades, its rows would go with those that are replaced; a right on all tables of the database, or \
                 a primary key, would tell"
            ));
            Ok(Publish::Replace)
        }
        Err(error) => Err(error),
    }
}

/// An upsert of a user who may create no table: each split by itself.
fn unstaged(duplicates: DuplicateKeys, facts: &Facts, warnings: &mut Vec<String>) -> Result<()> {
    if facts.table.as_ref().is_some_and(|t| t.unique.len() > 1) || duplicates == DuplicateKeys::Error {
        let denied = facts.rights.stage(WriteMode::Upsert).err().unwrap_or_else(|| Error::internal("it may stage"));
        let message = match duplicates {
            DuplicateKeys::Error => {
                format!(
                    "{}; only `duplicateKeys`: last, under which one of two rows of a key goes, does without",
                    denied.message()
                )
            }
            DuplicateKeys::Last => return Err(denied),
        };
        return Err(Error::new(denied.kind(), message));
    }
    warnings.push(
        "rows are not staged, for the user may create no tables: each split is visible as soon as it is finished, and of \
         equal keys in several splits any may win"
            .into(),
    );
    Ok(())
}

fn existing(table: &Table, request: &WriteRequest) -> Result<Layout> {
    let mut faults = Vec::new();
    let (mut columns, mut ddl) = (Vec::new(), Vec::new());
    for mapped in &request.columns {
        let Some(column) = table.column(&mapped.name) else {
            faults.push(format!("`{}` does not exist", mapped.name));
            continue;
        };
        if column.generated {
            faults.push(format!("`{}` is computed by the server: leave it out", column.name));
            continue;
        }
        columns.push(PlannedColumn {
            name: column.name.clone(),
            native_type: column.type_text.clone(),
            input: for_existing(mapped, &column.type_text),
            warning: weir_sql::narrow::warning(mapped, &column.type_text, 0)
                .or_else(|| existing_warning(mapped, &column.kind)),
        });
        ddl.push(staged_type(column));
    }
    for column in &table.columns {
        let written = request.columns.iter().any(|m| m.name == column.name);
        if !written && !column.nullable && !column.has_default {
            faults.push(format!("`{}` gets no value, and can be neither NULL nor left to a default", column.name));
        }
    }
    if !faults.is_empty() {
        return Err(Error::new(ErrorKind::Schema, format!("columns cannot be written: {}", faults.join("; "))));
    }
    Ok(Layout { columns, ddl, primary: table.primary_key().to_vec(), create: None, created_as: None })
}

fn staged_type(column: &Column) -> String {
    let mut text = column.type_text.clone();
    if column.kind.is_text() {
        if let Some(charset) = &column.charset {
            text.push_str(&format!(" CHARACTER SET {charset}"));
        }
        if let Some(collation) = &column.collation {
            text.push_str(&format!(" COLLATE {collation}"));
        }
    }
    // Said aloud, for a timestamp without either word gets a default of its own on older servers.
    text.push_str(if column.nullable { " NULL" } else { " NOT NULL" });
    text
}

fn fresh(common: &WriterConfig, request: &WriteRequest, facts: &Facts) -> Result<Layout> {
    refuse_long(&facts.name, request.columns.iter().map(|c| c.name.as_str()), &NAMES)?;
    let key = keys::of_new(common.key.as_slice(), &request.columns, QUOTING)?;
    // What was created under which name is told apart by the record.
    let renames = common.exactly_once != Some(false) && facts.rights.rename(&facts.name);
    let created_as = renames.then(|| created_as(&request.run_id, &facts.name));
    let (mut columns, mut ddl) = (Vec::new(), Vec::new());
    for mapped in &request.columns {
        let is_key = key.contains(&mapped.name);
        let new = for_new(mapped, is_key, &facts.server, &facts.collations);
        let null = if is_key || !mapped.nullable { " NOT NULL" } else { " NULL" };
        ddl.push(format!("{}{null}", new.ddl));
        // Without the word a timestamp is NOT NULL on older servers.
        let word = if null == " NULL" && new.type_text.starts_with("timestamp") { null } else { "" };
        let numbered = key.first() == Some(&mapped.name);
        let more = behind_type(mapped, request.described.as_ref(), &new.type_text, numbered, &facts.server);
        columns.push((
            format!("{}{word}{more}", new.ddl),
            PlannedColumn {
                name: mapped.name.clone(),
                input: settle(new.input, &new.type_text).with_name(&mapped.name).with_nullable(true),
                native_type: new.type_text,
                warning: new.warning,
            },
        ));
    }
    let new: Vec<NewColumn<'_>> = columns
        .iter()
        .zip(&request.columns)
        .map(|((ddl, column), mapped)| NewColumn {
            name: &column.name,
            native_type: ddl,
            nullable: mapped.nullable && !key.contains(&mapped.name),
        })
        .collect();
    let options = format!("{OPTIONS}{}", table_comment(request.described.as_ref()));
    let create = create_table(created_as.as_ref().unwrap_or(&facts.name), &new, &key, QUOTING, &options);
    let (columns, create) = (columns.into_iter().map(|(_, c)| c).collect(), Some(plain_create(&create)));
    Ok(Layout { columns, ddl, primary: key, create, created_as })
}

/// What ties rows of the target to each other.
fn ties(keys: &[String], layout: &Layout, facts: &Facts) -> Ties {
    let written: Vec<&str> = layout.columns.iter().map(|c| c.name.as_str()).collect();
    facts.table.as_ref().map(|table| Ties::of(&facts.own, table, keys, &written)).unwrap_or_default()
}

fn upsert_keys(wanted: &[String], layout: &Layout, facts: &Facts) -> Result<Vec<String>> {
    let written: Vec<&str> = layout.columns.iter().map(|c| c.name.as_str()).collect();
    let unique: Option<Vec<&[String]>> =
        facts.table.as_ref().map(|t| t.unique.iter().map(|(_, columns)| columns.as_slice()).collect());
    let keys = Keys { table: &facts.name, written: &written, primary: &layout.primary, unique: unique.as_deref() };
    keys.of_upsert(wanted, QUOTING)
}

fn compared_keys(common: &WriterConfig, layout: &Layout, table: &Table) -> Result<Vec<String>> {
    let written: Vec<&str> = layout.columns.iter().map(|c| c.name.as_str()).collect();
    let unique: Vec<&[String]> = table.unique.iter().map(|(_, columns)| columns.as_slice()).collect();
    keys::to_compare(common, &written, &unique, QUOTING)
}

/// Whether a staging table can be made like the target: not like a view, nor like what may not be looked at.
fn is_like(facts: &Facts) -> bool {
    !facts.table.as_ref().is_some_and(|table| table.view || !facts.rights.reads(&facts.name))
}

/// The keys by which staged rows of an append are compared with those of the target. Statements of the job may change them
/// first: then the publication finds what clashes.
fn taken(common: &WriterConfig, (mode, staged): (WriteMode, bool), layout: &Layout, facts: &Facts) -> Vec<Vec<String>> {
    let Some(table) = facts.table.as_ref().filter(|_| staged && mode == WriteMode::Append && is_like(facts)) else {
        return Vec::new();
    };
    let written = |name: &String| layout.columns.iter().any(|c| c.name == *name);
    let keys = table.unique.iter().map(|(_, columns)| columns).filter(|key| key.iter().all(written));
    keys.filter(|_| common.pre_sql.is_empty()).cloned().collect()
}

fn stage_sql(mode: WriteMode, staging: &TableName, facts: &Facts, layout: &Layout) -> Vec<String> {
    let quoted = staging.quoted(QUOTING);
    if mode == WriteMode::Overwrite || (mode != WriteMode::Upsert && is_like(facts)) {
        let numbers = match mode {
            WriteMode::Overwrite => format!("ADD KEY ({SPLIT})"),
            _ => format!("ADD COLUMN {ROW} BIGINT UNSIGNED NOT NULL DEFAULT 0, ADD KEY ({SPLIT}, {ROW})"),
        };
        // A table like one with a history has one too, and is altered only by who says that it does no harm.
        let versioned = facts.table.as_ref().is_some_and(|table| table.versioned);
        let harmless = if versioned { "SET STATEMENT system_versioning_alter_history = KEEP FOR " } else { "" };
        // With the target's own keys and checks, rows that it would refuse are found while they are written.
        return vec![
            format!("CREATE TABLE IF NOT EXISTS {quoted} LIKE {}", facts.name.quoted(QUOTING)),
            format!("{harmless}ALTER TABLE {quoted} ADD COLUMN {SPLIT} INT UNSIGNED NOT NULL DEFAULT 0, {numbers}"),
        ];
    }
    // Without keys, for several rows may have an equal one; in the order they came, for the last one wins.
    let columns = layout.columns.iter().zip(&layout.ddl).map(|(c, ddl)| format!("{} {ddl}", QUOTING.quote(&c.name)));
    vec![format!(
        "CREATE TABLE IF NOT EXISTS {quoted} ({}, {SPLIT} INT UNSIGNED NOT NULL, {ROW} BIGINT UNSIGNED NOT NULL, \
         PRIMARY KEY ({SPLIT}, {ROW}){}){OPTIONS}",
        columns.collect::<Vec<_>>().join(", "),
        checks(facts, layout)
    )]
}

/// Those checks of the target that staged rows can be held to: what is not written is not known here.
fn checks(facts: &Facts, layout: &Layout) -> String {
    let written: BTreeSet<String> = layout.columns.iter().map(|c| c.name.to_lowercase()).collect();
    let known = |check: &&Constraint| check.columns.iter().all(|name| written.contains(&name.to_lowercase()));
    facts.checks.iter().filter(known).map(|check| format!(", CHECK {}", check.expression)).collect()
}
