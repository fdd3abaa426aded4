//! What a run will do, decided beforehand.

use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, MappedColumn, OnEmpty, PlannedColumn, Result, WriteMode, WritePlan, WriteRequest};
use weir_postgresql::catalog::Table;
use weir_postgresql::copy::encode::Format;
use weir_postgresql::find::{nearest_table, require_table};
use weir_postgresql::{PgType, Session};
use weir_sql::columns::refuse_own;
use weir_sql::commits::MAX_RUN_ID;
use weir_sql::config::{DuplicateKeys, WITHOUT_A_SHARE};
use weir_sql::keys::{not_compared, to_compare};
use weir_sql::statements::{NewColumn, create_table, with_table};
use weir_sql::{Commits, Quoting, TableName, find_name, narrow, refuse_long};

use crate::NAMES;
use crate::columns::inputs;
use crate::created::{NewType, created_type};
use crate::details::{behind_type, comments};
use crate::known::Found;
use crate::record::{self, Rights};
use crate::stage::{Layout, ROW, SPLIT};
use crate::writer::PostgresqlWriter;

pub(crate) const Q: Quoting = Quoting::DOUBLE;

/// The writer's own words in a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    /// The target, with its schema where it exists.
    pub table: TableName,
    /// The target's types, in the order of the plan's columns.
    pub types: Vec<PgType>,
    /// The columns that are identities generated always.
    pub identities: Vec<String>,
    /// COPY's format.
    pub format: Format,
    /// Where rows wait to be published.
    pub stage: Option<TableName>,
    /// What the staging table is made from, where the target was there when the run was planned.
    #[serde(default)]
    pub layout: Option<Layout>,
    /// Where finished splits are recorded.
    pub records: Option<Commits>,
    /// Types to create before the target.
    pub new_types: Vec<NewType>,
    /// The schema to create before anything else.
    #[serde(default)]
    pub create_schema: Option<String>,
    /// The statement that creates the target.
    pub create: Option<String>,
    /// The statements that give a new table its comments.
    #[serde(default)]
    pub comments: Vec<String>,
    /// The primary key of a target that is created.
    #[serde(default)]
    pub created_key: Vec<String>,
    /// Key columns of an upsert that may be NULL: such rows conflict with none.
    pub nullable_keys: Vec<String>,
    /// What an upsert does with rows of equal keys.
    pub duplicate_keys: DuplicateKeys,
    /// What an overwrite does when nothing came.
    pub on_empty: OnEmpty,
}

impl State {
    pub fn of(plan: &WritePlan) -> Result<Self> {
        Self::deserialize(&plan.state).map_err(|e| Error::internal("the plan's state cannot be read").because(e))
    }
}

pub(crate) async fn plan(
    writer: &PostgresqlWriter,
    session: &mut Session,
    request: &WriteRequest,
) -> Result<WritePlan> {
    let config = &writer.config.common;
    let mode = config.mode();
    if mode == WriteMode::Replace {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "writeMode `replace` is MySQL's (it deletes rows that clash on any unique key): use upsert, with `key`",
        ));
    }
    let wanted = &writer.table;
    let known = match writer.seen.take() {
        Some(known) => known,
        None => writer.ask(session).await?,
    };
    let mut rights = known.rights;
    let found = known.found.as_ref().map(|found| &found.table);
    let mut warnings = writer.endpoint.warnings();
    if request.run_id.len() > MAX_RUN_ID {
        return Err(Error::config(format!("the run id is longer than {MAX_RUN_ID} bytes: choose a shorter one")));
    }
    if mode != WriteMode::Overwrite && config.on_empty != OnEmpty::Overwrite {
        warnings.push("`onEmpty` has a meaning for overwrite only".into());
    }
    let mut create = None;
    let mut created_key = Vec::new();
    let mut new_types = Vec::new();
    let mut texts = Vec::new();
    let mut identities = Vec::new();
    let (table, types) = match found {
        Some(table) => (table.name.clone(), existing_types(table, &request.columns, mode)?),
        None => {
            refuse_long(&wanted.name, request.columns.iter().map(|c| c.name.as_str()), &NAMES)?;
            if !config.creates(writer.context.form) {
                return Err(require_table(session, wanted).await.err().map_or_else(
                    || Error::new(ErrorKind::Conflict, "the table was created meanwhile: run again"),
                    |e| Error::new(e.kind(), format!("{}; or let the job create it with createTable", e.message())),
                ));
            }
            let mut table = wanted.name.clone();
            if table.schema.is_none() {
                // Staging and records must be found again whatever a later session's search path is.
                table.schema.clone_from(&known.schema);
                if table.schema.is_none() {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("no schema of the search_path exists: write the table as schema.{wanted}"),
                    ));
                }
            }
            let mut types = Vec::with_capacity(request.columns.len());
            for column in &request.columns {
                let created = created_type(session, column, (&table, &[]), &mut new_types).await?;
                // A whole-database job sees to the types of its tables, which several of them may share.
                match created.lacks.filter(|_| request.described.is_some()) {
                    Some(lacks) if new_types.contains(&lacks) => {}
                    Some(lacks) => new_types.push(lacks),
                    None => warnings.extend(created.warning),
                }
                types.push(created.pg);
            }
            // A whole-database job means to create its tables.
            if request.described.is_none() {
                let near = nearest_table(session, wanted).await?;
                let near = near.map_or_else(String::new, |n| format!("; the nearest existing table is `{n}`"));
                warnings.push(format!("table `{wanted}` does not exist and will be created{near}"));
            }
            let created = creation(&table, request, &types, config.key.as_slice(), mode)?;
            (create, created_key) = (Some(created.0), created.1);
            texts = comments(&table, &request.columns, request.described.as_ref());
            identities = always_numbered(request, &types, config.key.as_slice(), mode);
            (table, types)
        }
    };
    let pairs: Vec<_> = request.columns.iter().zip(&types).collect();
    let (inputs, format) = inputs(&pairs);
    if format == Format::Text {
        warnings.push("a column's type has no binary form here: rows are sent as text, which is slower".into());
    }
    let columns: Vec<PlannedColumn> = pairs
        .iter()
        .zip(inputs)
        .map(|((column, target), input)| PlannedColumn {
            name: column.name.clone(),
            native_type: target.text.clone(),
            input,
            warning: found.and_then(|_| narrow::warning(column, &target.text, 6)),
        })
        .collect();
    let keys = match mode {
        WriteMode::Upsert => keys(known.found.as_ref(), config.key.as_slice(), &request.columns)?,
        _ => Vec::new(),
    };
    let compared = match &known.found {
        Some(found) if config.duplicate_keys == DuplicateKeys::Error => {
            let unique: Vec<&[String]> = found.unique.iter().map(Vec::as_slice).collect();
            to_compare(config, &columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), &unique, Q)?
        }
        _ => Vec::new(),
    };
    warnings.extend(not_compared(config, &table, &compared));
    let matched = match &known.found {
        Some(found) => publication(found, (mode, &keys), &columns, &mut warnings)?,
        None => None,
    };
    let staged = matches!(mode, WriteMode::Overwrite | WriteMode::Upsert) || request.decides_at_end;
    if staged {
        let there = found.into_iter().flat_map(Table::names);
        let names = columns.iter().map(|c| c.name.as_str()).chain(there);
        refuse_own(names, &[SPLIT, ROW]).map_err(|e| e.with("table", &table))?;
    }
    let ledger = config.ledger.schema.as_deref().map(|s| Q.unquote(s));
    let commits = Commits::new(&request.run_id, &table, ledger.as_deref());
    let mut create_schema = None;
    if let (false, None, Some(true), Some(schema)) = (rights.schema, &found, config.create_schema, &table.schema)
        && commits.table.schema.as_ref() == Some(schema)
    {
        if !rights.schemas {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "there is no schema `{schema}`, and this login may not create it: GRANT CREATE ON DATABASE … TO it"
                ),
            ));
        }
        rights = Rights { schema: true, create: true, commits: None, ..rights };
        create_schema = Some(schema.clone());
    }
    // The rows of an unlogged table do not outlive a crash of the server; a record of them would.
    let lasting = staged || found.is_none_or(|table| !table.unlogged);
    let exactly_once = config.exactly_once.unwrap_or(true);
    guarantee(&rights, &commits, (mode, staged), exactly_once, lasting, &mut warnings)
        .map_err(|e| e.with("table", &table))?;
    let stage = staged.then(|| commits.table.sibling(stage_name(&request.run_id, &table)));
    let column = |name: &str| found.and_then(|t| t.column(name));
    identities
        .extend(columns.iter().filter(|c| column(&c.name).is_some_and(|f| f.identity_always)).map(|c| c.name.clone()));
    let state = State {
        identities,
        nullable_keys: keys.iter().filter(|k| column(k).is_some_and(|f| f.nullable)).cloned().collect(),
        types,
        format,
        // Statements of the job may make another table of it meanwhile.
        layout: known.found.as_ref().filter(|_| config.pre_sql.is_empty()).map(|found| Layout::of(found, &columns)),
        stage,
        records: exactly_once.then_some(commits),
        new_types,
        create_schema,
        create,
        comments: texts,
        created_key,
        duplicate_keys: config.duplicate_keys,
        on_empty: config.on_empty,
        table,
    };
    let (pre, post) = (config.pre_sql.as_slice(), config.post_sql.as_slice());
    let by = matched.as_deref().unwrap_or(&keys);
    let ordinary = found.is_none_or(|table| table.kind == 'r');
    let (statements, method) = described(&state, mode, &columns, (by, ordinary), (pre, post), rights.commits.is_none());
    Ok(WritePlan {
        run_id: request.run_id.clone(),
        table: if found.is_some() { state.table.to_string() } else { wanted.to_string() },
        mode,
        columns,
        creates: state.create.is_some(),
        statements,
        method,
        commits_per_split: !staged,
        records_splits: state.records.is_some(),
        keys: if mode == WriteMode::Overwrite { compared } else { keys },
        warnings,
        state: serde_json::to_value(&state).map_err(|e| Error::internal("the plan cannot be written").because(e))?,
    })
}

/// The statement that makes a schema.
pub(crate) fn schema_creation(schema: &str) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS {}", Q.quote(schema))
}

/// Which promise holds for this login, and how to get the others.
fn guarantee(
    rights: &Rights,
    commits: &Commits,
    (mode, staged): (WriteMode, bool),
    exactly_once: bool,
    lasting: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let schema = commits.table.schema.as_deref().unwrap_or_default();
    if !rights.schema {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no schema `{schema}`: create it, or correct the name (see `ledger`)"),
        ));
    }
    if staged && !rights.create {
        let without = match mode {
            WriteMode::Overwrite | WriteMode::Upsert => "only append does without",
            _ => WITHOUT_A_SHARE,
        };
        return Err(Error::new(
            ErrorKind::Denied,
            format!(
                "{} gathers the rows in a table of its own, to publish them all at once, and this login may not create \
                 tables in schema `{schema}`: GRANT CREATE ON SCHEMA {} TO this login, or name a schema where it may as \
                 `ledger`: {{\"schema\": …}}; {without}",
                mode.name(),
                Q.quote(schema)
            ),
        ));
    }
    const FALLS: &str = "finished splits are not recorded: a split whose commit got no answer is not tried again, and a \
                         run that dies cannot be resumed without doubling rows";
    if !exactly_once {
        warnings.push(format!("exactlyOnce is false: {FALLS}"));
    } else if !lasting {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "exactly once cannot be promised: the table is unlogged, so that a crash of the server empties it, and a record of \
             finished splits would say that their rows are there: ALTER TABLE … SET LOGGED, write it with `writeMode`: \
             overwrite or upsert, or go on without the promise with `exactlyOnce`: false",
        ));
    } else if !rights.records() {
        let missing = match rights.commits {
            Some(_) => format!(
                "may not read, write and clean {0}: GRANT SELECT, INSERT, DELETE ON {0} TO this login",
                commits.table
            ),
            None => format!(
                "may not create tables in schema `{schema}`: GRANT CREATE ON SCHEMA {} TO this login",
                Q.quote(schema)
            ),
        };
        return Err(Error::new(
            ErrorKind::Denied,
            format!(
                "exactly once cannot be promised: finished splits are recorded in {}, and this login {missing}, name \
                 another schema as `ledger`: {{\"schema\": …}}, or go on without the promise with `exactlyOnce`: false",
                commits.table
            ),
        ));
    }
    Ok(())
}

/// The key by which an overwrite compares rows, as it must where other rows refer to them. Finds what would fail, or silently
/// do something else, only when everything is staged.
fn publication(
    Found { table, referring, .. }: &Found,
    (mode, keys): (WriteMode, &[String]),
    columns: &[PlannedColumn],
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<String>>> {
    let written = |name: &str| columns.iter().any(|c| c.name == name);
    let fixed = table.columns.iter().find(|c| c.identity_always && written(&c.name) && !keys.contains(&c.name));
    if let (WriteMode::Upsert, Some(column)) = (mode, fixed) {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "column `{}` is an identity that is generated always, which an upsert can insert but never update: leave it \
                 out, make it the key, or ALTER it to GENERATED BY DEFAULT",
                column.name
            ),
        )
        .with("table", &table.name));
    }
    if mode != WriteMode::Overwrite {
        return Ok(None);
    }
    let key: Vec<String> = table.key().iter().map(|c| c.name.clone()).collect();
    let matched = !key.is_empty() && key.iter().all(|name| written(name));
    if !matched && referring.iter().any(|by| !by.itself) {
        return Err(Error::new(
            ErrorKind::Schema,
            "other tables have foreign keys to it, so an overwrite must match old rows and new ones by primary key: \
             map columns onto its primary key, or drop the foreign keys",
        )
        .with("table", &table.name));
    }
    let mut cascading: Vec<&str> = referring.iter().filter(|by| by.cascades).map(|by| by.table.as_str()).collect();
    cascading.dedup();
    warnings.extend(weir_sql::keys::cascades(&cascading));
    Ok((matched && !referring.is_empty()).then_some(key))
}

fn existing_types(table: &Table, columns: &[MappedColumn], mode: WriteMode) -> Result<Vec<PgType>> {
    let mut faults = Vec::new();
    let mut types = Vec::with_capacity(columns.len());
    if table.kind == 'm' {
        faults.push("it is a materialized view, which cannot be written".to_owned());
    } else if !matches!(table.kind, 'r' | 'p') && matches!(mode, WriteMode::Overwrite | WriteMode::Upsert) {
        // What lies behind it would lose rows that it does not show, and has keys that nobody sees from here.
        let what = if table.kind == 'v' { "view" } else { "foreign table" };
        faults.push(format!(
            "it is a {what}, which takes no {}, only append: write the table behind it, or name another target",
            mode.name()
        ));
    }
    for column in columns {
        match table.column(&column.name) {
            Some(found) if found.generated => {
                faults.push(format!("column `{}` is generated by the server: leave it out", found.name));
            }
            Some(found) => types.push(found.pg.clone()),
            None => match find_name("column", &column.name, table.names().into_iter()) {
                Err(error) => faults.push(error.message().to_owned()),
                Ok(index) => {
                    faults.push(format!("column `{}` is written `{}` here", column.name, table.names()[index]))
                }
            },
        }
    }
    if faults.is_empty() {
        return Ok(types);
    }
    Err(Error::new(ErrorKind::Schema, faults.join("; ")).with("table", &table.name))
}

fn creation(
    table: &TableName,
    request: &WriteRequest,
    types: &[PgType],
    key: &[String],
    mode: WriteMode,
) -> Result<(String, Vec<String>)> {
    let columns = &request.columns;
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    // The job's own key says by what rows are told apart; without one the source's key goes along.
    let key: Vec<String> = if key.is_empty() {
        let mut key: Vec<_> = columns.iter().filter(|c| c.key.is_some()).collect();
        key.sort_by_key(|c| c.key);
        key.iter().map(|c| c.name.clone()).collect()
    } else {
        key.iter()
            .map(|k| find_name("key column", &Q.unquote(k), names.iter().copied()).map(|i| names[i].to_owned()))
            .collect::<Result<_>>()?
    };
    if mode == WriteMode::Upsert && key.is_empty() {
        return Err(no_key());
    }
    let texts: Vec<_> = columns
        .iter()
        .zip(types)
        .map(|(c, t)| {
            let described = request.described.as_ref().and_then(|d| d.column(&c.name));
            format!("{}{}", t.text, behind_type(described, t, may_be_always(&c.name, &key, mode)))
        })
        .collect();
    let columns: Vec<_> = columns
        .iter()
        .zip(&texts)
        .map(|(c, text)| NewColumn { name: &c.name, native_type: text, nullable: c.nullable && !key.contains(&c.name) })
        .collect();
    Ok((create_table(table, &columns, &key, Q, ""), key))
}

/// Whether a column may be an identity that is generated always: an upsert can insert its numbers but never update them.
fn may_be_always(name: &str, key: &[String], mode: WriteMode) -> bool {
    mode != WriteMode::Upsert || key.iter().any(|k| k == name)
}

/// The columns of a new table that are identities generated always.
fn always_numbered(request: &WriteRequest, types: &[PgType], key: &[String], mode: WriteMode) -> Vec<String> {
    let described = |name: &str| request.described.as_ref().and_then(|d| d.column(name));
    let source: Vec<String> = request.columns.iter().filter(|c| c.key.is_some()).map(|c| c.name.clone()).collect();
    let key = if key.is_empty() { source } else { key.iter().map(|k| Q.unquote(k)).collect() };
    let always = |(column, pg): &(&MappedColumn, &PgType)| {
        behind_type(described(&column.name), pg, may_be_always(&column.name, &key, mode)).contains(" ALWAYS ")
    };
    request.columns.iter().zip(types).filter(always).map(|(column, _)| column.name.clone()).collect()
}

fn no_key() -> Error {
    Error::new(ErrorKind::Schema, "an upsert needs a key: the table has no primary key, so name the columns as `key`")
}

fn keys(found: Option<&Found>, key: &[String], columns: &[MappedColumn]) -> Result<Vec<String>> {
    let Some(Found { table, unique, .. }) = found else {
        if !key.is_empty() {
            return Ok(key.iter().map(|k| Q.unquote(k)).collect());
        }
        let mut key: Vec<_> = columns.iter().filter(|c| c.key.is_some()).collect();
        key.sort_by_key(|c| c.key);
        return Ok(key.iter().map(|c| c.name.clone()).collect());
    };
    let keys: Vec<String> = if key.is_empty() {
        table.key().iter().map(|c| c.name.clone()).collect()
    } else {
        let names = table.names();
        key.iter()
            .map(|k| find_name("key column", &Q.unquote(k), names.iter().copied()).map(|i| names[i].to_owned()))
            .collect::<Result<_>>()?
    };
    if keys.is_empty() {
        return Err(no_key().with("table", &table.name));
    }
    let missing: Vec<_> = keys.iter().filter(|k| !columns.iter().any(|c| c.name == **k)).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(Error::new(
            ErrorKind::Schema,
            format!("an upsert writes its key: map a column onto {}", missing.join(", ")),
        )
        .with("table", &table.name));
    }
    let same = |unique: &Vec<String>| unique.len() == keys.len() && unique.iter().all(|c| keys.contains(c));
    if !unique.iter().any(same) {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "an upsert by ({0}) needs a unique index on exactly these columns: CREATE UNIQUE INDEX ON {1} ({0})",
                Q.quote_all(&keys),
                table.name.quoted(Q)
            ),
        )
        .with("table", &table.name));
    }
    Ok(keys)
}

/// Tells runs and targets apart, and fits PostgreSQL's 63 bytes.
fn stage_name(run_id: &str, table: &TableName) -> String {
    let run: String = run_id.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    // Over what the shortened name may have lost.
    let hash = record::hash(&format!("{run_id}/{table}"));
    format!("weir_{}_{hash:016x}", run.to_lowercase())
}

fn described(
    state: &State,
    mode: WriteMode,
    columns: &[PlannedColumn],
    (keys, ordinary): (&[String], bool),
    (pre, post): (&[String], &[String]),
    makes_record: bool,
) -> (Vec<String>, String) {
    let names = Q.quote_all(columns.iter().map(|c| &c.name));
    let table = state.table.quoted(Q);
    // The rows of tables that inherit from it stay.
    let own = if ordinary { format!("ONLY {table}") } else { table.clone() };
    let mut statements: Vec<String> = Vec::new();
    statements.extend(state.create_schema.iter().map(|schema| schema_creation(schema)));
    statements.extend(state.records.iter().filter(|_| makes_record).map(record::creation));
    statements.extend(state.new_types.iter().map(NewType::sql));
    statements.extend(state.create.iter().cloned());
    statements.extend(state.comments.iter().cloned());
    statements.extend(with_table(pre, &state.table, Q));
    let into = state.stage.as_ref().map_or_else(|| table.clone(), |s| s.quoted(Q));
    if state.stage.is_some() {
        statements.push(format!("CREATE TABLE {into} (LIKE {table} INCLUDING CONSTRAINTS)"));
    }
    statements.push(format!("COPY {into} ({names}) FROM STDIN"));
    let method = match mode {
        WriteMode::Overwrite if !keys.is_empty() => {
            let keys = Q.quote_all(keys);
            statements.push(format!(
                "DELETE FROM {own} … rows without a partner by ({keys}) in {into}; UPDATE {own} … rows that differ; \
                 INSERT INTO {table} ({names}) … the others; DROP TABLE {into}"
            ));
            format!(
                "staged, then in one transaction by ({keys}) missing rows deleted, changed ones updated and new ones inserted, \
                 for foreign keys refer to the table"
            )
        }
        WriteMode::Overwrite => {
            statements.push(format!(
                "DELETE FROM {own}; INSERT INTO {table} ({names}) SELECT {names} FROM {into}; DROP TABLE {into}"
            ));
            "staged, then published in one transaction that deletes the old rows and inserts the new ones".to_owned()
        }
        WriteMode::Upsert => {
            statements.push(format!(
                "INSERT INTO {table} ({names}) SELECT … FROM {into} ON CONFLICT ({}) DO UPDATE …; DROP TABLE {into}",
                Q.quote_all(keys)
            ));
            "staged, then merged by key in one transaction".into()
        }
        WriteMode::Append | WriteMode::Ignore if state.stage.is_some() => {
            let (skip, how) = match mode {
                WriteMode::Ignore => (" ON CONFLICT DO NOTHING", "; rows whose key exists are skipped and counted"),
                _ => ("", ""),
            };
            statements
                .push(format!("INSERT INTO {table} ({names}) SELECT {names} FROM {into}{skip}; DROP TABLE {into}"));
            format!("staged, for a share of dirty rows decides at the end, then inserted in one transaction{how}")
        }
        WriteMode::Ignore => "each split commits by itself; rows whose key exists are skipped and counted".into(),
        _ => "each split commits by itself".into(),
    };
    statements.extend(with_table(post, &state.table, Q));
    (statements, method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_names_fit_and_differ() {
        let table = TableName::bare("t");
        let a = stage_name("0198f3a2-1111-7000-8000-000000000001", &table);
        assert!(a.starts_with("weir_") && a.len() <= 63, "{a}");
        assert_ne!(a, stage_name("0198f3a2-1111-7000-8000-000000000002", &table));
        assert_ne!(a, stage_name("0198f3a2-1111-7000-8000-000000000001", &TableName::bare("u")));
    }
}
