//! What a run will do at the target, decided beforehand and written down as SQL.

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};
use weir_core::field::{DECIMAL, JSON, NATIVE, TEXT, extension, with_extension};
use weir_core::{Error, ErrorKind, MappedColumn, OnEmpty, PlannedColumn, Result, WriteMode, WritePlan, WriteRequest};
use weir_sql::keys::{not_compared, to_compare};
use weir_sql::statements::{NewColumn, create_table, plain_create, with_table};
use weir_sql::{Commits, DuplicateKeys, TableName, WriterConfig, find_name};
use weir_sqlite::QUOTING;
use weir_sqlite::catalog::Table;
use weir_sqlite::types::{self, Affinity};

use crate::evolve::default_sql;
use crate::known::{Found, Known};
use crate::staging;

/// The writer's own part of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The table.
    pub table: TableName,
    /// What SQLite does to the values of each column.
    pub affinities: Vec<Affinity>,
    /// The record of finished splits; `None` when the job does without.
    pub commits: Option<Commits>,
    /// The columns (by index) that must not be NULL because they are the key of an upsert.
    pub keys: Vec<usize>,
    /// The columns (by index) where SQLite would put a value of its own in place of a NULL.
    pub filled: Vec<usize>,
    /// The statement for each row.
    pub insert: String,
    /// Whether it has a last parameter for the split's number.
    pub numbered: bool,
    /// Whether a row that changed nothing was skipped on purpose.
    pub counts_skipped: bool,
    /// Why a row is refused that changed nothing: a staged append leaves out what the target has the key of.
    #[serde(default)]
    pub taken: Option<String>,
    /// The staging table, if there is one.
    pub stage: Option<String>,
    /// Whether the staged rows may refer to each other, which foreign keys of a staging table cannot see.
    pub refers_to_itself: bool,
    /// Creates the table, which was missing.
    pub create: Option<String>,
    /// Run after that.
    pub pre: Vec<String>,
    /// Make an empty staging table, in one transaction.
    pub make_stage: Vec<String>,
    /// Finds keys that the input has twice, where that is an error.
    pub twice: Option<String>,
    /// Run by `commit` in one transaction.
    pub publish: Vec<String>,
    /// Run after that.
    pub post: Vec<String>,
    /// What an overwrite does with an empty source.
    pub on_empty: OnEmpty,
}

impl State {
    /// SQLite's message with the table's name where it names the staging table.
    pub fn in_words(&self, message: &str) -> String {
        match &self.stage {
            Some(stage) => message.replace(stage.as_str(), &self.table.name),
            None => message.to_owned(),
        }
    }
}

/// Makes the plan.
pub(crate) fn plan(target: &Known, config: &WriterConfig, creates: bool, request: &WriteRequest) -> Result<WritePlan> {
    let mode = config.mode();
    let present = target.table();
    if present.is_none() && !creates {
        let near = target.nearest.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no table `{}`{near} Create it, or set `createTable` to true", target.name),
        ));
    }
    let columns = match present {
        Some(table) => existing_columns(table, &request.columns)?,
        None => request.columns.iter().map(new_column).collect(),
    };
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let keys = keys(target, config, mode, request, &names)?;
    let numbered = is_numbered(&keys, &columns, request);
    let unique: Vec<&[String]> = target.unique().iter().map(Vec::as_slice).collect();
    let compared = match present {
        Some(_) => to_compare(config, &names, &unique, QUOTING)?,
        None => Vec::new(),
    };
    let affinities = columns
        .iter()
        .map(|c| {
            let existing = present.and_then(|t| Some((t, t.columns.iter().find(|x| x.name == c.name)?)));
            existing.map_or_else(|| Affinity::of(&c.native_type), |(table, column)| table.affinity(column))
        })
        .collect();

    let mut warnings: Vec<String> = not_compared(config, &target.name, &compared).into_iter().collect();
    let create = |name: &TableName| {
        let text = |column: &PlannedColumn| match numbered && keys.contains(&column.name) {
            true => format!("{INTEGER} PRIMARY KEY AUTOINCREMENT"),
            false => with_default(column, request),
        };
        let texts: Vec<String> = columns.iter().map(text).collect();
        let new: Vec<NewColumn<'_>> = request
            .columns
            .iter()
            .zip(columns.iter().zip(&texts))
            .map(|(asked, (planned, text))| NewColumn {
                name: &planned.name,
                native_type: text,
                nullable: asked.nullable && !keys.contains(&planned.name),
            })
            .collect();
        let keys = if numbered { &[] } else { keys.as_slice() };
        create_table(name, &new, keys, QUOTING, "")
    };
    let create_target = present.is_none().then(|| plain_create(&create(&target.name)));
    // A whole-database job means to create its tables.
    if create_target.is_some() && request.described.is_none() {
        let near = target.nearest.as_ref().map_or_else(String::new, |near| format!("; the nearest one is `{near}`"));
        warnings.push(format!("there is no table `{}` yet: it will be created{near}", target.name));
    }
    let pre = with_table(config.pre_sql.as_slice(), &target.name, QUOTING);

    let quoted = target.name.quoted(QUOTING);
    let list = QUOTING.quote_all(&names);
    let marks = vec!["?"; names.len()].join(", ");
    let compares = matches!(mode, WriteMode::Overwrite | WriteMode::Upsert);
    let staged = compares || request.decides_at_end;
    let stage = staging::name(&request.run_id, &target.name);
    let stage_quoted = stage.quoted(QUOTING);
    let drop = format!("DROP TABLE {stage_quoted}");
    let mut make_stage = Vec::new();
    let free = |name: &str| free_name(name, &names, present);
    let (split, twice) = (free("weir_split"), free("weir_twice"));
    let rejects = mode == WriteMode::Upsert && config.duplicate_keys == DuplicateKeys::Error;
    if staged {
        make_stage.push(format!("DROP TABLE IF EXISTS {stage_quoted}"));
        match &target.found {
            Some(found) => make_stage.extend(staging::statements(found, &stage)),
            None => make_stage.push(create(&stage)),
        }
        if mode == WriteMode::Upsert {
            make_stage.push(format!("ALTER TABLE {stage_quoted} ADD COLUMN {split} INTEGER"));
        }
        if rejects {
            make_stage.push(format!("ALTER TABLE {stage_quoted} ADD COLUMN {twice} INTEGER"));
        }
    }
    // OR ABORT overrules what a table's own definition may say of conflicts (ON CONFLICT IGNORE, REPLACE), by which rows
    // would be lost or altered unseen.
    let into = |table: &str| format!("INSERT OR ABORT INTO {table} ({list}) VALUES ({marks})");
    let written = if staged { &stage_quoted } else { &quoted };
    let taken = match present {
        // Statements of the job may change the keys first: then the publication finds what clashes.
        Some(_) if staged && mode == WriteMode::Append && pre.is_empty() => taken(target, &names),
        _ => None,
    };
    let insert = match mode {
        WriteMode::Append | WriteMode::Overwrite => match &taken {
            Some((_, free)) => {
                let values: Vec<_> = (1..=names.len()).map(|i| format!("?{i}")).collect();
                format!("INSERT OR ABORT INTO {written} ({list}) SELECT {} WHERE {free}", values.join(", "))
            }
            None => into(written),
        },
        // Not OR IGNORE, which would also swallow NULLs and failed checks.
        WriteMode::Ignore => format!("{} ON CONFLICT DO NOTHING", into(written)),
        WriteMode::Replace => format!("INSERT OR REPLACE INTO {written} ({list}) VALUES ({marks})"),
        WriteMode::Upsert => {
            let last = if rejects {
                format!("ON CONFLICT ({}) DO UPDATE SET {twice} = 1", QUOTING.quote_all(&keys))
            } else {
                // The splits come in any order, and the last in their own order wins.
                match on_conflict(&keys, &names) {
                    nothing if nothing.ends_with("NOTHING") => nothing,
                    update => format!("{update}, {split} = excluded.{split} WHERE excluded.{split} >= {split}"),
                }
            };
            format!("INSERT OR ABORT INTO {stage_quoted} ({list}, {split}) VALUES ({marks}, ?) {last}")
        }
    };
    let publish = match mode {
        WriteMode::Overwrite => vec![
            format!("DELETE FROM {quoted}"),
            format!("INSERT OR ABORT INTO {quoted} ({list}) SELECT {list} FROM {stage_quoted}"),
            drop,
        ],
        // Without WHERE the grammar takes ON for a join.
        WriteMode::Upsert => vec![
            format!(
                "INSERT OR ABORT INTO {quoted} ({list}) SELECT {list} FROM {stage_quoted} WHERE true {}",
                on_conflict(&keys, &names)
            ),
            drop,
        ],
        _ if !staged => Vec::new(),
        _ => {
            let verb = if mode == WriteMode::Replace { "REPLACE" } else { "ABORT" };
            let skip = if mode == WriteMode::Ignore { " WHERE true ON CONFLICT DO NOTHING" } else { "" };
            vec![format!("INSERT OR {verb} INTO {quoted} ({list}) SELECT {list} FROM {stage_quoted}{skip}"), drop]
        }
    };
    let commits = config.exactly_once.unwrap_or(true).then(|| Commits::new(&request.run_id, &target.name, None));
    let upsert_keys = if mode == WriteMode::Upsert { keys.clone() } else { Vec::new() };
    let statements: Vec<String> = create_target.iter().chain(&pre).chain(&make_stage).cloned().collect();
    let records_splits = commits.is_some();
    if !records_splits {
        warnings.push(
            "exactlyOnce is false: a split whose commit broke off is not tried again, and a run that died starts anew"
                .into(),
        );
    }
    // The target's own key finds equal ones while rows are staged, an upsert marks them, others are looked for.
    let twice = match (rejects, compared.is_empty() || !compares) {
        (true, _) => Some(format!("{twice} = 1")),
        (false, true) => None,
        (false, false) => {
            let list = QUOTING.quote_all(&compared);
            let there: Vec<_> = compared.iter().map(|k| format!("{} IS NOT NULL", QUOTING.quote(k))).collect();
            Some(format!("{} GROUP BY {list} HAVING COUNT(*) > 1", there.join(" AND ")))
        }
    };
    let shown_keys = if compared.is_empty() { &keys } else { &compared };
    let shown_keys = shown_keys
        .iter()
        .map(|k| format!("CAST({} AS TEXT)", QUOTING.quote(k)))
        .collect::<Vec<_>>()
        .join(" || ', ' || ");
    let state = State {
        table: target.name.clone(),
        commits,
        filled: filled(target, mode, &keys, &columns),
        numbered: mode == WriteMode::Upsert,
        refers_to_itself: target.found.as_ref().is_some_and(Found::refers_to_itself),
        create: create_target,
        pre,
        make_stage,
        twice: twice.map(|those| format!("SELECT {shown_keys} FROM {stage_quoted} WHERE {those} LIMIT 1")),
        affinities,
        keys: upsert_keys.iter().filter_map(|k| names.iter().position(|n| n == k)).collect(),
        insert,
        counts_skipped: mode == WriteMode::Ignore,
        taken: taken.map(|(reason, _)| reason),
        stage: staged.then(|| stage.name.clone()),
        publish,
        post: with_table(config.post_sql.as_slice(), &target.name, QUOTING),
        on_empty: config.on_empty,
    };
    let method = match mode {
        WriteMode::Overwrite => "staged in the same file, then the rows are replaced in one transaction",
        WriteMode::Upsert => "staged in the same file, then merged by key in one transaction",
        _ if staged => {
            "staged in the same file, for a share of dirty rows decides at the end, then inserted in one transaction"
        }
        _ => "each split is one transaction and shows when it is finished",
    };
    Ok(WritePlan {
        run_id: request.run_id.clone(),
        table: target.name.to_string(),
        mode,
        columns,
        creates: present.is_none(),
        statements,
        method: method.into(),
        commits_per_split: !staged,
        records_splits,
        keys: if mode == WriteMode::Overwrite { compared } else { upsert_keys },
        warnings,
        state: serde_json::to_value(state)
            .map_err(|error| Error::internal("the plan could not be written down").because(error))?,
    })
}

/// The type that makes a key the row id.
const INTEGER: &str = "INTEGER";

/// Whether the key of a new table becomes a row id of which no number comes twice: it numbers its rows at the source. Keys of
/// other widths keep these, as all columns do, and number nothing.
fn is_numbered(keys: &[String], columns: &[PlannedColumn], request: &WriteRequest) -> bool {
    let [key] = keys else { return false };
    let described = request.described.as_ref().and_then(|table| table.column(key));
    let identity = described.and_then(|column| column.identity.as_ref());
    identity.is_some_and(|identity| identity.increment > 0)
        && columns.iter().any(|column| column.name == *key && column.native_type == INTEGER)
}

/// The keys that a row of the target may have already: why such a row is refused, and the condition under which it is not.
///
/// None where a collation is written down: that of a key need not be the column's, by which the condition would compare. The
/// publication finds such rows.
fn taken(target: &Known, names: &[&str]) -> Option<(String, String)> {
    let found = target.found.as_ref()?;
    if found.definition.iter().chain(&found.indexes).any(|sql| sql.to_ascii_uppercase().contains("COLLATE")) {
        return None;
    }
    let position = |column: &String| names.iter().position(|name| name == column).map(|i| i + 1);
    let table = target.name.quoted(QUOTING);
    let free = |key: &Vec<String>| {
        let equal = key.iter().map(|column| Some(format!("{} = ?{}", QUOTING.quote(column), position(column)?)));
        let equal: Vec<_> = equal.collect::<Option<_>>()?;
        Some((key.join(", "), format!("NOT EXISTS (SELECT 1 FROM {table} WHERE {})", equal.join(" AND "))))
    };
    let (keys, free): (Vec<_>, Vec<_>) = target.unique().iter().filter_map(free).unzip();
    let reason = format!("a row of the target has the same {}", keys.join(" or "));
    (!free.is_empty()).then(|| (reason, free.join(" AND ")))
}

/// A new column's type with the default that it takes over from its source.
fn with_default(column: &PlannedColumn, request: &WriteRequest) -> String {
    let described = request.described.as_ref().and_then(|table| table.column(&column.name));
    let default = described.filter(|d| d.identity.is_none()).and_then(|d| d.default.as_ref());
    match default.and_then(|default| default_sql(default, &column.native_type)) {
        Some(sql) => format!("{} DEFAULT {sql}", column.native_type),
        None => column.native_type.clone(),
    }
}

/// A column name for the staging table that the table itself does not have, quoted.
fn free_name(wanted: &str, names: &[&str], table: Option<&Table>) -> String {
    let taken = |name: &str| {
        let of_table = table.into_iter().flat_map(|t| t.column_names());
        of_table.chain(names.iter().copied()).any(|n| n.eq_ignore_ascii_case(name))
    };
    let mut name = wanted.to_owned();
    while taken(&name) {
        name.push('_');
    }
    QUOTING.quote(&name)
}

/// Where SQLite does not refuse a NULL but puts another value in its place: numbers in a row id, and with OR REPLACE the
/// default of a NOT NULL column.
fn filled(target: &Known, mode: WriteMode, keys: &[String], columns: &[PlannedColumn]) -> Vec<usize> {
    let is_filled = |planned: &PlannedColumn| match target.table() {
        None => keys == [planned.name.clone()] && planned.native_type.eq_ignore_ascii_case("integer"),
        Some(table) => table.columns.iter().any(|c| {
            let row_id = c.key.is_some() && !c.nullable && c.has_default;
            c.name == planned.name && !c.nullable && c.has_default && (row_id || mode == WriteMode::Replace)
        }),
    };
    (0..columns.len()).filter(|i| is_filled(&columns[*i])).collect()
}

fn on_conflict(keys: &[String], names: &[&str]) -> String {
    let sets: Vec<String> = names
        .iter()
        .filter(|n| !keys.iter().any(|k| k == *n))
        .map(|n| format!("{0} = excluded.{0}", QUOTING.quote(n)))
        .collect();
    let action = if sets.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", sets.join(", ")) };
    format!("ON CONFLICT ({}) DO {action}", QUOTING.quote_all(keys))
}

/// The key: as the job says, else the primary key; for a new table else the source's.
fn keys(
    target: &Known,
    config: &WriterConfig,
    mode: WriteMode,
    request: &WriteRequest,
    names: &[&str],
) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for written in config.key.as_slice() {
        let index = find_name("column", &QUOTING.unquote(written), names.iter().copied())
            .map_err(|error| error.with("parameter", "key"))?;
        keys.push(names[index].to_owned());
    }
    if let Some(table) = target.table() {
        if keys.is_empty() {
            keys = table.key();
        }
    } else if keys.is_empty() {
        let mut of_source: Vec<_> = request.columns.iter().filter_map(|c| Some((c.key?, c.name.clone()))).collect();
        of_source.sort();
        keys = of_source.into_iter().map(|(_, name)| name).collect();
    }
    if mode != WriteMode::Upsert {
        return Ok(keys);
    }
    if keys.is_empty() {
        let message =
            format!("an upsert needs a key, and `{}` has no primary key: name its columns in `key`", target.name);
        return Err(Error::config(message));
    }
    if let Some(missing) = keys.iter().find(|key| !names.contains(&key.as_str())) {
        let message = format!("an upsert needs the key column `{missing}` among the columns that are written");
        return Err(Error::new(ErrorKind::Schema, message));
    }
    let is_key = |set: &Vec<String>| set.len() == keys.len() && set.iter().all(|c| keys.contains(c));
    if target.table().is_some() && !target.unique().iter().any(is_key) {
        let list = keys.join(", ");
        return Err(Error::config(format!(
            "SQLite does not know that ({list}) is unique in `{0}`, which an upsert needs: \
             CREATE UNIQUE INDEX … ON {0} ({list})",
            target.name
        )));
    }
    Ok(keys)
}

fn existing_columns(table: &Table, asked: &[MappedColumn]) -> Result<Vec<PlannedColumn>> {
    let mut planned = Vec::with_capacity(asked.len());
    let mut faults = Vec::new();
    for column in asked {
        let known = match find_name("column", &column.name, table.column_names().into_iter()) {
            Ok(index) => &table.columns[index],
            Err(error) => {
                faults.push(error.message().to_owned());
                continue;
            }
        };
        if known.generated {
            faults.push(format!("column `{}` is generated and cannot be written: leave it out", known.name));
            continue;
        }
        let input = wanted(column, &known.declared).with_name(&known.name);
        let native_type = if known.declared.is_empty() { "(none)".into() } else { known.declared.clone() };
        planned.push(PlannedColumn { name: known.name.clone(), native_type, input, warning: None });
    }
    if faults.is_empty() { Ok(planned) } else { Err(Error::new(ErrorKind::Schema, faults.join("\n"))) }
}

/// The form for a column that has a declared type: one that fits it whole, else the type's own.
fn wanted(column: &MappedColumn, declared: &str) -> Field {
    let Some(form) = types::form_of(declared) else {
        return PlannedColumn::choose(column, natural, Field::new("", DataType::Utf8, true));
    };
    let own = types::field("", &form, true);
    let accepts = |field: &Field| match (&form, field.data_type()) {
        _ if extension(field) == Some(NATIVE) => false,
        ((DataType::Int64, _), t) => t.is_integer() && *t != DataType::UInt64,
        ((DataType::Float64, _), t) => matches!(t, DataType::Float32 | DataType::Float64),
        ((DataType::Decimal128(p, s) | DataType::Decimal256(p, s), _), DataType::Decimal128(q, r)) => {
            *r >= 0 && r <= s && i16::from(*q) - i16::from(*r) <= i16::from(*p) - i16::from(*s)
        }
        ((DataType::Utf8, Some(DECIMAL)), DataType::Decimal128(_, s) | DataType::Decimal256(_, s)) => *s >= 0,
        ((DataType::Utf8, None), DataType::Utf8) => true,
        ((DataType::Utf8, Some(JSON)), DataType::Utf8) => extension(field) == Some(JSON),
        _ => weir_core::field::same_representation(&own, field),
    };
    PlannedColumn::choose(column, accepts, own.clone())
}

/// Whether values of the field can be stored as they are, where no declared type says how.
fn natural(field: &Field) -> bool {
    extension(field) != Some(NATIVE) && types::declared_for(field).is_some()
}

/// A column of a table to be created.
pub(crate) fn new_column(column: &MappedColumn) -> PlannedColumn {
    let natural_form = column.offers.iter().find(|field| natural(field));
    let input = natural_form
        .cloned()
        .or_else(|| column.offers.iter().find_map(near))
        .unwrap_or_else(|| Field::new(&column.name, DataType::Utf8, true));
    // A text form is the last resort: a type that is near and holds every value goes first.
    let input = match extension(&input) {
        // Lists and the like have no place in a column but as JSON, which SQLite's own functions take apart.
        _ if natural_form.is_none_or(|f| extension(f) == Some(TEXT)) && column.offers.iter().any(is_nested) => {
            with_extension(Field::new(&column.name, DataType::Utf8, true), JSON)
        }
        Some(TEXT) => column.offers.iter().find_map(near).unwrap_or(input),
        _ => input,
    };
    let native_type = types::declared_for(&input).unwrap_or_else(|| "TEXT".into());
    let input = input.with_name(&column.name).with_nullable(true);
    PlannedColumn { name: column.name.clone(), native_type, input, warning: None }
}

fn is_nested(field: &Field) -> bool {
    extension(field).is_none() && field.data_type().is_nested()
}

/// The nearest form that SQLite's columns have and that holds every value of the field.
fn near(field: &Field) -> Option<Field> {
    if extension(field).is_some() {
        return None;
    }
    let micros = |zone: &Option<std::sync::Arc<str>>| DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
    let data_type = match field.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Timestamp(_, zone) => micros(zone),
        DataType::Date64 => micros(&None),
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Duration(TimeUnit::Second | TimeUnit::Millisecond) => DataType::Duration(TimeUnit::Microsecond),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            return Some(with_extension(Field::new(field.name(), DataType::Utf8, true), DECIMAL));
        }
        _ => return None,
    };
    Some(Field::new(field.name(), data_type, true))
}
