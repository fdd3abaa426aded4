//! What a run will do, decided beforehand.

use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, MappedColumn, OnEmpty, PlannedColumn, Result, WriteMode, WritePlan, WriteRequest};
use weir_postgresql::catalog::{self, Table, unique_keys};
use weir_postgresql::copy::encode::Format;
use weir_postgresql::{PgType, Session};
use weir_sql::statements::{NewColumn, create_table, with_table};
use weir_sql::{Quoting, TableName, find_name};

use crate::columns::{created_type, inputs};
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
    /// The statement that creates the target.
    pub create: Option<String>,
    /// Key columns of an upsert that may be NULL: such rows conflict with none.
    pub nullable_keys: Vec<String>,
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
    let found = catalog::find_table(session, wanted).await?;
    let mut warnings = writer.endpoint.warnings();
    if mode != WriteMode::Overwrite && config.on_empty != OnEmpty::Overwrite {
        warnings.push("`onEmpty` has a meaning for overwrite only".into());
    }
    let mut create = None;
    let (table, types) = match &found {
        Some(table) => (table.name.clone(), existing_types(table, &request.columns)?),
        None => {
            if !config.creates(writer.context.form) {
                return Err(catalog::require_table(session, wanted).await.err().map_or_else(
                    || Error::new(ErrorKind::Conflict, "the table was created meanwhile: run again"),
                    |e| Error::new(e.kind(), format!("{}; or let the job create it with createTable", e.message())),
                ));
            }
            let mut types = Vec::with_capacity(request.columns.len());
            for column in &request.columns {
                types.push(created_type(session, column).await?);
            }
            let near = catalog::nearest_table(session, wanted).await?;
            let near = near.map_or_else(String::new, |n| format!("; the nearest existing table is `{n}`"));
            warnings.push(format!("table `{wanted}` does not exist and will be created{near}"));
            create = Some(creation(wanted, &request.columns, &types, config.key.as_slice(), mode)?);
            (wanted.clone(), types)
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
            warning: None,
        })
        .collect();
    let keys = match mode {
        WriteMode::Upsert => keys(session, found.as_ref(), config.key.as_slice(), &request.columns).await?,
        _ => Vec::new(),
    };
    let staged = matches!(mode, WriteMode::Overwrite | WriteMode::Upsert);
    let stage = staged.then(|| table.sibling(stage_name(&request.run_id, &table)));
    let column = |name: &str| found.as_ref().and_then(|t| t.column(name));
    let state = State {
        identities: columns
            .iter()
            .filter(|c| column(&c.name).is_some_and(|f| f.identity_always))
            .map(|c| c.name.clone())
            .collect(),
        nullable_keys: keys.iter().filter(|k| column(k).is_some_and(|f| f.nullable)).cloned().collect(),
        types,
        format,
        stage,
        create,
        on_empty: config.on_empty,
        table,
    };
    let (statements, method) =
        described(&state, mode, &columns, &keys, config.pre_sql.as_slice(), config.post_sql.as_slice());
    Ok(WritePlan {
        run_id: request.run_id.clone(),
        table: state.table.to_string(),
        mode,
        columns,
        creates: state.create.is_some(),
        statements,
        method,
        commits_per_split: matches!(mode, WriteMode::Append | WriteMode::Replace | WriteMode::Ignore),
        records_splits: false,
        keys,
        warnings,
        state: serde_json::to_value(&state).map_err(|e| Error::internal("the plan cannot be written").because(e))?,
    })
}

fn existing_types(table: &Table, columns: &[MappedColumn]) -> Result<Vec<PgType>> {
    let mut faults = Vec::new();
    let mut types = Vec::with_capacity(columns.len());
    if table.kind == 'm' {
        faults.push("it is a materialized view, which cannot be written".to_owned());
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
    columns: &[MappedColumn],
    types: &[PgType],
    key: &[String],
    mode: WriteMode,
) -> Result<String> {
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
    let columns: Vec<_> = columns
        .iter()
        .zip(types)
        .map(|(c, t)| NewColumn { name: &c.name, native_type: &t.text, nullable: c.nullable && !key.contains(&c.name) })
        .collect();
    Ok(create_table(table, &columns, &key, Q, ""))
}

fn no_key() -> Error {
    Error::new(ErrorKind::Schema, "an upsert needs a key: the table has no primary key, so name the columns as `key`")
}

async fn keys(
    session: &mut Session,
    found: Option<&Table>,
    key: &[String],
    columns: &[MappedColumn],
) -> Result<Vec<String>> {
    let Some(table) = found else {
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
    if !unique_keys(session, table).await?.iter().any(same) {
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
    // FNV-1a over what the shortened name may have lost.
    let hash = format!("{run_id}/{table}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("weir_{}_{hash:016x}", run.to_lowercase())
}

fn described(
    state: &State,
    mode: WriteMode,
    columns: &[PlannedColumn],
    keys: &[String],
    pre: &[String],
    post: &[String],
) -> (Vec<String>, String) {
    let names = Q.quote_all(columns.iter().map(|c| &c.name));
    let table = state.table.quoted(Q);
    let mut statements: Vec<String> = state.create.iter().cloned().collect();
    statements.extend(with_table(pre, &state.table, Q));
    let into = state.stage.as_ref().map_or_else(|| table.clone(), |s| s.quoted(Q));
    if state.stage.is_some() {
        statements.push(format!("CREATE TABLE {into} (LIKE {table} INCLUDING CONSTRAINTS)"));
    }
    statements.push(format!("COPY {into} ({names}) FROM STDIN"));
    let method = match mode {
        WriteMode::Overwrite => {
            statements.push(format!(
                "DELETE FROM {table}; INSERT INTO {table} ({names}) SELECT {names} FROM {into}; DROP TABLE {into}"
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
