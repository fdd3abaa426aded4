//! Deciding everything a run will do.

use std::collections::BTreeSet;

use weir_core::{Error, ErrorKind, Form, OnTypeLoss, PlannedColumn, Result, WriteMode, WritePlan, WriteRequest};
use weir_sql::columns::refuse_own;
use weir_sql::keys::{self, Keys, Referenced};
use weir_sql::statements::{NewColumn, create_table, plain_create, with_table};
use weir_sql::{TableName, WriterConfig, own_name, refuse_long};
use weir_sqlserver::{Kind, QUOTING, Server, Table};

use crate::NAMES;
use crate::carry::{direct, through};
use crate::details::{behind_type, comments, numbered};
use crate::rights::{self, OwnTables};
use crate::state::{Publish, ROW, SPLIT, State, Written};
use crate::types::{KEY_COLLATION, for_existing, for_new, settled};

/// What the server says about the target.
pub(crate) struct Facts {
    pub(crate) name: TableName,
    pub(crate) table: Option<Table>,
    pub(crate) server: Server,
    /// Collations of the source that the server has too, for a table to be created.
    pub(crate) collations: Vec<String>,
    pub(crate) nearest: Option<String>,
    pub(crate) form: Form,
    pub(crate) url_warnings: BTreeSet<String>,
    pub(crate) own: OwnTables,
    /// The schema to make, where it is missing and the job says so.
    pub(crate) create_schema: Option<String>,
    /// What the user lacks to create the target.
    pub(crate) create_missing: Vec<String>,
}

/// The columns of the target as the run will find them.
struct Layout {
    columns: Vec<PlannedColumn>,
    written: Vec<Written>,
    /// The primary key.
    primary: Vec<String>,
    create: Option<String>,
    /// What a new table gets besides.
    details: Vec<String>,
}

pub(crate) fn plan(common: &WriterConfig, request: &WriteRequest, facts: Facts) -> Result<WritePlan> {
    let mode = common.mode();
    let mut warnings: Vec<String> = facts.url_warnings.iter().cloned().collect();
    refuse(&facts, mode)?;
    let layout = match &facts.table {
        Some(table) => existing(table, request)?,
        None if common.creates(facts.form) => fresh(common.key.as_slice(), request, &facts)?,
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
        warnings.push(format!("table `{}` does not exist and is created{near}", facts.name));
    }
    if layout.create.is_some() {
        can_create(&facts)?;
    }
    let keys = match (mode, &facts.table) {
        (WriteMode::Upsert, _) => upsert_keys(common.key.as_slice(), &layout, &facts)?,
        (_, Some(table)) => compared_keys(common, &layout, table)?,
        _ => Vec::new(),
    };
    warnings.extend(keys::not_compared(common, &facts.name, &keys).filter(|_| mode != WriteMode::Upsert));
    let commits = rights::commits(common, request, &facts.name, &facts.own, &mut warnings)?;
    let compares = matches!(mode, WriteMode::Overwrite | WriteMode::Upsert);
    let staged = compares || request.decides_at_end;
    if staged {
        facts.own.stage(mode)?;
        let own: &[&str] = if mode == WriteMode::Overwrite { &[SPLIT] } else { &[SPLIT, ROW] };
        refuse_own(request.columns.iter().map(|c| c.name.as_str()), own).map_err(|e| e.with("table", &facts.name))?;
    }
    let publish = if staged { publish(mode, &keys, &layout, &facts, &mut warnings)? } else { Publish::None };
    let staging = staged.then(|| TableName {
        schema: Some(facts.own.schema.clone()),
        name: own_name(&request.run_id, &facts.name, "_s"),
    });
    let stage = staging.as_ref().map(|s| stage_sql(mode, s, &layout, facts.table.as_ref()));
    let pre = with_table(common.pre_sql.as_slice(), &facts.name, QUOTING);
    let make = facts.create_schema.as_deref().map(schema_creation);
    let create = layout.create.iter().chain(&layout.details).cloned();
    let statements = make.into_iter().chain(create).chain(pre).chain(stage.iter().cloned());
    let statements = statements.collect();
    // After a bulk load that some row made fail, Babelfish's transaction is gone: only what refuses no row takes one.
    let exact = |w: &Written| direct(&w.kind(), w.collation.as_deref(), facts.server.babelfish).is_some();
    let straight = layout.written.iter().all(exact) && (!facts.server.babelfish || mode == WriteMode::Upsert);
    let taken = if staged { taken(common, &layout, facts.table.as_ref()) } else { Vec::new() };
    let state = State {
        table: facts.name.clone(),
        create_schema: facts.create_schema.clone(),
        create: layout.create.clone(),
        details: layout.details,
        staging,
        stage,
        commits,
        taken,
        publish,
        referenced_by: facts.table.iter().flat_map(|t| &t.referenced_by).map(|r| r.table.clone()).collect(),
        identity: layout.written.iter().any(|w| w.identity),
        renumbers: renumbers(&facts),
        columns: layout.written,
        babelfish: facts.server.babelfish,
        straight,
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
        method: method(&state),
        commits_per_split: !staged,
        records_splits: state.commits.is_some(),
        keys: if compares { keys } else { Vec::new() },
        warnings,
        state: serde_json::to_value(&state).map_err(|e| Error::internal("a plan cannot be written down").because(e))?,
    })
}

/// The statement that makes a schema.
pub(crate) fn schema_creation(name: &str) -> String {
    format!("CREATE SCHEMA {}", QUOTING.quote(name))
}

fn method(state: &State) -> String {
    let how = if state.straight { "INSERT BULK" } else { "INSERT BULK by way of a table of the session's own" };
    let with = if state.commits.is_some() { " with its record in weir_commits" } else { "" };
    let published = format!("in one transaction{with}");
    match &state.publish {
        Publish::None => format!("{how}; each split is one transaction{with} and commits by itself"),
        Publish::Insert => format!("{how} into a staging table, then INSERT … SELECT {published}"),
        Publish::Replace => format!("{how} into a staging table, then DELETE and INSERT … SELECT {published}"),
        Publish::Diff(key) => format!(
            "{how} into a staging table, then by ({}) missing rows deleted, the others updated, new ones inserted \
             {published}",
            key.join(", ")
        ),
        Publish::Upsert { .. } => {
            format!("{how} into a staging table, then UPDATE … FROM and INSERT … WHERE NOT EXISTS {published}")
        }
    }
}

/// What this system, or a view, cannot do.
fn refuse(facts: &Facts, mode: WriteMode) -> Result<()> {
    let why = match mode {
        WriteMode::Replace => {
            "replace is MySQL's: use upsert, which updates the columns that are written, or overwrite"
        }
        WriteMode::Ignore => {
            "ignore is not there for SQL Server: use upsert, or create the key WITH (IGNORE_DUP_KEY = ON) and append"
        }
        _ if facts.table.as_ref().is_some_and(|t| t.view) && mode != WriteMode::Append => {
            return Err(Error::new(ErrorKind::Unsupported, format!("a view takes append only, not {}", mode.name())));
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Unsupported, why))
}

fn can_create(facts: &Facts) -> Result<()> {
    if facts.create_missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Denied,
        format!("the table does not exist, and the user lacks {} to create it", facts.create_missing.join(", ")),
    ))
}

/// How staged rows get into the target.
fn publish(
    mode: WriteMode,
    keys: &[String],
    layout: &Layout,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<Publish> {
    let table = facts.table.as_ref();
    if mode == WriteMode::Append {
        return Ok(Publish::Insert);
    }
    if mode == WriteMode::Upsert {
        warnings.extend(keeps_number(layout, keys));
        let nullable = |k: &&String| table.is_some_and(|t| t.column(k).is_none_or(|c| c.nullable));
        return Ok(Publish::Upsert { nullable: keys.iter().filter(nullable).cloned().collect() });
    }
    let Some(table) = table.filter(|t| !t.referenced_by.is_empty()) else { return Ok(Publish::Replace) };
    let columns = table.columns.iter().filter(|c| !c.generated);
    let referenced = Referenced {
        by: table.referenced_by.iter().map(|r| (r.table.as_str(), r.cascades)).collect(),
        unique: table.unique.iter().map(|u| u.columns.as_slice()).collect(),
        columns: columns.map(|c| (c.name.as_str(), c.nullable)).collect(),
        written: layout.columns.iter().map(|c| c.name.as_str()).collect(),
    };
    let (key, more) = referenced.key()?;
    warnings.extend(more);
    warnings.extend(keeps_number(layout, &key).filter(|_| !renumbers(facts)));
    Ok(Publish::Diff(key))
}

/// Whether an overwrite may make a row anew that has another number: not where others' rows would go or change with it.
fn renumbers(facts: &Facts) -> bool {
    facts.table.iter().flat_map(|t| &t.referenced_by).all(|r| !r.cascades)
}

/// What to know where rows that are there keep their numbers.
fn keeps_number(layout: &Layout, key: &[String]) -> Option<String> {
    let both = layout.columns.iter().zip(&layout.written);
    let (column, _) = both.into_iter().find(|(column, written)| written.identity && !key.contains(&column.name))?;
    Some(format!("rows that are there keep their `{}`: SQL Server changes no identity column", column.name))
}

fn existing(table: &Table, request: &WriteRequest) -> Result<Layout> {
    let mut faults = Vec::new();
    let (mut columns, mut written) = (Vec::new(), Vec::new());
    for mapped in &request.columns {
        let Some(column) = table.column(&mapped.name) else {
            faults.push(format!("`{}` does not exist", mapped.name));
            continue;
        };
        if column.generated {
            faults.push(format!("`{}` is computed by the server: leave it out", column.name));
            continue;
        }
        if through(&column.kind, &column.type_text, column.collation.as_deref(), false).is_none() {
            faults.push(format!("`{}` is a {}, which is not written: leave it out", column.name, column.type_text));
            continue;
        }
        let unsaid = u64::from(column.kind.decimals().unwrap_or(6));
        columns.push(PlannedColumn {
            name: column.name.clone(),
            native_type: column.type_text.clone(),
            input: for_existing(mapped, &column.type_text),
            warning: weir_sql::narrow::warning(mapped, &column.type_text, unsaid),
        });
        written.push(Written {
            type_text: column.type_text.clone(),
            collation: column.collation.clone(),
            nullable: column.nullable,
            identity: column.identity,
        });
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
    Ok(Layout { columns, written, primary: table.primary_key().to_vec(), create: None, details: Vec::new() })
}

fn fresh(wanted: &[String], request: &WriteRequest, facts: &Facts) -> Result<Layout> {
    refuse_long(&facts.name, request.columns.iter().map(|c| c.name.as_str()), &NAMES)?;
    let key = keys::of_new(wanted, &request.columns, QUOTING)?;
    let (mut columns, mut written, mut ddl) = (Vec::new(), Vec::new(), Vec::new());
    for mapped in &request.columns {
        let is_key = key.contains(&mapped.name);
        let new = for_new(mapped, is_key, &facts.collations);
        let collation = new.collation.filter(|c| facts.collations.contains(c) || c == KEY_COLLATION);
        let own = Written {
            type_text: new.type_text.clone(),
            // Whether texts lie in a code page, the database's own collation says where the column has none.
            collation: collation.clone().or_else(|| facts.server.collation.clone()),
            nullable: mapped.nullable && !is_key,
            identity: false,
        };
        let text = Kind::parse(&new.type_text).is_text();
        let collate = collation.filter(|_| text).map(|c| format!(" COLLATE {c}")).unwrap_or_default();
        ddl.push(format!("{}{collate}{}", new.type_text, if own.nullable { " NULL" } else { "" }));
        columns.push(PlannedColumn {
            name: mapped.name.clone(),
            input: settled(new.input, &new.type_text).with_name(&mapped.name).with_nullable(true),
            native_type: new.type_text,
            warning: new.warning,
        });
        written.push(own);
    }
    let described = request.described.as_ref();
    let shapes = columns.iter().zip(&written).map(|(c, own)| (c.name.as_str(), c.native_type.as_str(), own.nullable));
    let numbered = numbered(described, shapes);
    for ((column, ddl), own) in columns.iter().zip(&mut ddl).zip(&mut written) {
        match numbered {
            Some((name, identity)) if name == column.name => {
                ddl.push_str(&format!(" IDENTITY(1,{})", identity.increment));
                own.identity = true;
            }
            _ => ddl.push_str(&behind_type(described.and_then(|d| d.column(&column.name)), &column.native_type)),
        }
    }
    let new: Vec<NewColumn<'_>> = (columns.iter().zip(&ddl).zip(&written))
        .map(|((column, ddl), own)| NewColumn { name: &column.name, native_type: ddl, nullable: own.nullable })
        .collect();
    let create = Some(plain_create(&create_table(&facts.name, &new, &key, QUOTING, "")));
    let details = comments(&facts.name, &request.columns, described);
    Ok(Layout { columns, written, primary: key, create, details })
}

fn upsert_keys(wanted: &[String], layout: &Layout, facts: &Facts) -> Result<Vec<String>> {
    let written: Vec<&str> = layout.columns.iter().map(|c| c.name.as_str()).collect();
    let unique: Option<Vec<&[String]>> =
        facts.table.as_ref().map(|t| t.unique.iter().map(|u| u.columns.as_slice()).collect());
    let keys = Keys { table: &facts.name, written: &written, primary: &layout.primary, unique: unique.as_deref() };
    keys.of_upsert(wanted, QUOTING)
}

fn compared_keys(common: &WriterConfig, layout: &Layout, table: &Table) -> Result<Vec<String>> {
    let written: Vec<&str> = layout.columns.iter().map(|c| c.name.as_str()).collect();
    let unique: Vec<&[String]> = table.unique.iter().map(|u| u.columns.as_slice()).collect();
    keys::to_compare(common, &written, &unique, QUOTING)
}

/// The keys by which staged rows of an append are compared with those of the target. Statements of the job may change them
/// first: then the publication finds what clashes.
fn taken(common: &WriterConfig, layout: &Layout, table: Option<&Table>) -> Vec<Vec<String>> {
    if common.mode() != WriteMode::Append || !common.pre_sql.is_empty() {
        return Vec::new();
    }
    let written = |name: &String| layout.columns.iter().any(|c| c.name == *name);
    let keys = table.into_iter().flat_map(|t| &t.unique).map(|u| &u.columns);
    keys.filter(|key| key.iter().all(written)).cloned().collect()
}

fn stage_sql(mode: WriteMode, staging: &TableName, layout: &Layout, table: Option<&Table>) -> String {
    let quoted = staging.quoted(QUOTING);
    let columns = layout.columns.iter().zip(&layout.written);
    let mut lines: Vec<String> = columns.map(|(c, w)| format!("{} {}", QUOTING.quote(&c.name), w.ddl())).collect();
    lines.push(format!("{SPLIT} int NOT NULL"));
    if mode == WriteMode::Upsert {
        // Without keys of the target's, for several rows may have an equal one: the last of them wins.
        lines.push(format!("{ROW} bigint NOT NULL, PRIMARY KEY ({SPLIT}, {ROW})"));
        return format!("CREATE TABLE {quoted} ({})", lines.join(", "));
    }
    if mode == WriteMode::Append {
        lines.push(format!("{ROW} bigint NOT NULL, UNIQUE ({SPLIT}, {ROW})"));
    }
    // With the target's own keys and checks, rows that it would refuse are found while they are written.
    let is_written = |name: &String| layout.columns.iter().any(|c| c.name == *name);
    match table {
        Some(table) => {
            for unique in table.unique.iter().filter(|u| u.columns.iter().all(is_written)) {
                let what = if unique.primary { "PRIMARY KEY" } else { "UNIQUE" };
                lines.push(format!("{what} ({})", QUOTING.quote_all(&unique.columns)));
            }
            let others: Vec<String> = (table.columns.iter().filter(|c| !is_written(&c.name)))
                .map(|c| QUOTING.quote(&c.name).to_lowercase())
                .collect();
            let checks = table.checks.iter().filter(|check| {
                let lower = check.to_lowercase();
                others.iter().all(|name| !lower.contains(name.as_str()))
            });
            lines.extend(checks.map(|check| format!("CHECK ({check})")));
        }
        None if !layout.primary.is_empty() => {
            lines.push(format!("PRIMARY KEY ({})", QUOTING.quote_all(&layout.primary)));
        }
        None => {}
    }
    format!("CREATE TABLE {quoted} ({})", lines.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};
    use weir_core::MappedColumn;
    use weir_sqlserver::{Column, Unique};

    fn column(name: &str, type_text: &str, nullable: bool, key: Option<u32>) -> Column {
        Column {
            name: name.into(),
            type_text: type_text.into(),
            kind: Kind::parse(type_text),
            nullable,
            has_default: false,
            identity: key.is_some(),
            generated: false,
            key,
            collation: type_text.contains("char").then(|| "Latin1_General_CI_AS".into()),
            comment: None,
        }
    }

    fn table() -> Table {
        Table {
            id: 1,
            name: TableName::parse("dbo.t", QUOTING).unwrap(),
            view: false,
            rows: None,
            bytes: None,
            columns: vec![
                column("id", "int", false, Some(1)),
                column("a", "varchar(5)", true, None),
                column("b", "int", true, None),
            ],
            unique: vec![Unique { primary: true, columns: vec!["id".into()] }],
            checks: vec!["([a]<>'x')".into(), "([b]>(0))".into()],
            referenced_by: Vec::new(),
        }
    }

    fn request(names: &[&str]) -> WriteRequest {
        let columns = names.iter().map(|name| MappedColumn {
            name: (*name).into(),
            offers: vec![Field::new(*name, if *name == "a" { DataType::Utf8 } else { DataType::Int32 }, true)],
            source_type: "?".into(),
            nullable: true,
            key: None,
            comment: None,
        });
        let (run_id, source, on_type_loss) = ("r1".into(), "s".into(), OnTypeLoss::Error);
        WriteRequest {
            run_id,
            columns: columns.collect(),
            source,
            on_type_loss,
            described: None,
            decides_at_end: false,
        }
    }

    #[test]
    fn staging_refuses_what_the_target_would() {
        let table = table();
        let layout = existing(&table, &request(&["id", "a"])).unwrap();
        assert!(layout.written[0].identity && !layout.written[1].identity);
        let staging = TableName::parse("dbo.s", QUOTING).unwrap();
        assert_eq!(
            stage_sql(WriteMode::Overwrite, &staging, &layout, Some(&table)),
            "CREATE TABLE [dbo].[s] ([id] int NOT NULL, [a] varchar(5) COLLATE Latin1_General_CI_AS NULL, weir_split int \
             NOT NULL, PRIMARY KEY ([id]), CHECK (([a]<>'x')))"
        );
        let upsert = stage_sql(WriteMode::Upsert, &staging, &layout, Some(&table));
        assert!(upsert.ends_with("weir_row bigint NOT NULL, PRIMARY KEY (weir_split, weir_row))"), "{upsert}");
    }

    #[test]
    fn columns_that_cannot_be_written_are_all_named() {
        let mut table = table();
        table.columns[1] = column("a", "sql_variant", true, None);
        table.columns[2].generated = true;
        let Err(error) = existing(&table, &request(&["b", "a", "z"])) else { panic!("these can be written") };
        let message = error.to_string();
        for part in ["`b` is computed", "`a` is a sql_variant", "`z` does not exist", "`id` gets no value"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
