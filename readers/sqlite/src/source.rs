//! What one table, view or query of the job gives: its columns, their forms and its size.

use std::time::{Duration, Instant};

use arrow::datatypes::DataType;
use weir_core::field::{self, TEXT, with_native_type};
use weir_core::{Result, ResultExt, SourceColumn};
use weir_sql::{Object, ReaderConfig, Selected, resolve_source_columns, statements};
use weir_sqlite::catalog::{self, SMALL_FILE, Table};
use weir_sqlite::types::{self, Form};
use weir_sqlite::{Database, QUOTING, SYSTEM, Value};

use crate::split::Select;

/// The most rows whose values decide about a column without a telling declaration, and the longest they may take.
const SAMPLE_ROWS: usize = 1000;
const SAMPLE_TIME: Duration = Duration::from_secs(2);

/// A source as the file has it.
#[derive(Debug, Clone)]
pub struct Described {
    /// The name in reports.
    pub name: String,
    /// The columns.
    pub columns: Vec<SourceColumn>,
    /// How to select them; `None` for a query.
    pub select: Option<Select>,
    /// The table, if it is one.
    pub table: Option<Table>,
    /// Rows, without regard to `where`.
    pub rows: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Whether `rows` was counted.
    pub counted: bool,
}

/// Looks at one source.
pub fn describe(
    database: &Database<'_>,
    name: &str,
    object: &Object,
    config: &ReaderConfig,
    file_bytes: u64,
) -> Result<Described> {
    match object {
        Object::Table(written) => of_table(database, name, written, config, file_bytes).context("table", written),
        Object::Query(sql) => {
            let columns = columns(database, sql, None, &[]).context("query", name)?;
            Ok(Described {
                name: name.to_owned(),
                columns,
                select: None,
                table: None,
                rows: None,
                bytes: None,
                counted: false,
            })
        }
    }
}

fn of_table(
    database: &Database<'_>,
    name: &str,
    written: &str,
    config: &ReaderConfig,
    file_bytes: u64,
) -> Result<Described> {
    let table = catalog::find_table(database, written)?;
    let own = QUOTING.quote(&table.name.name);
    let selected = resolve_source_columns(config.column.as_slice(), &table.column_names(), QUOTING)?;
    let select = Select {
        // With the table's name before it: a bare quoted name that is gone would be a text constant to SQLite.
        columns: selected
            .iter()
            .map(|s| if s.column.is_some() { format!("{own}.{}", s.sql) } else { s.sql.clone() })
            .collect(),
        from: table.name.quoted(QUOTING),
        conditions: config.filter().map(str::to_owned).into_iter().collect(),
    };
    let sql = sql_of(&select, None);
    let columns = columns(database, &sql, Some(&table), &selected)?;
    let rows = catalog::rows(database, &table, file_bytes)?;
    let bytes = catalog::bytes(database, &table, file_bytes, rows)?;
    let counted = file_bytes <= SMALL_FILE;
    Ok(Described { name: name.to_owned(), columns, select: Some(select), table: Some(table), rows, bytes, counted })
}

/// The SELECT for some of the columns, or for all.
pub fn sql_of(select: &Select, wanted: Option<&[usize]>) -> String {
    let columns: Vec<&str> = match wanted {
        // A task may want no column at all, but still each row.
        Some([]) => vec!["NULL"],
        Some(wanted) => wanted.iter().filter_map(|i| select.columns.get(*i)).map(String::as_str).collect(),
        None => select.columns.iter().map(String::as_str).collect(),
    };
    let conditions: Vec<&str> = select.conditions.iter().map(String::as_str).collect();
    statements::select(&columns, &select.from, &conditions)
}

fn columns(
    database: &Database<'_>,
    sql: &str,
    table: Option<&Table>,
    selected: &[Selected],
) -> Result<Vec<SourceColumn>> {
    let results = database.prepare(sql)?.columns();
    if results.is_empty() {
        return Err(weir_core::Error::config("the statement gives no columns: `querySql` must be a SELECT"));
    }
    let declared: Vec<String> = results
        .iter()
        .enumerate()
        .map(|(i, result)| {
            let column = table.zip(selected.get(i)).and_then(|(table, s)| s.column.map(|c| &table.columns[c]));
            column.map(|c| c.declared.clone()).or_else(|| result.declared.clone()).unwrap_or_default()
        })
        .collect();
    let mut forms: Vec<Option<Form>> = declared.iter().map(|d| types::form_of(d)).collect();
    if forms.iter().any(Option::is_none) {
        let seen = sample(database, sql, forms.len())?;
        for (form, seen) in forms.iter_mut().zip(seen) {
            form.get_or_insert_with(|| seen.form());
        }
    }
    let described = results.into_iter().enumerate().map(|(i, result)| {
        let form = forms[i].take().unwrap_or((DataType::Utf8, None));
        let column = table.zip(selected.get(i)).and_then(|(table, s)| s.column.map(|c| &table.columns[c]));
        let name = selected.get(i).map_or(result.name, |s| s.name.clone());
        let nullable = column.is_none_or(|c| c.nullable);
        let native = |field| with_native_type(field, SYSTEM, &declared[i]);
        let mut canonical = native(types::field(&name, &form, nullable));
        let mut text = native(types::field(&name, &(DataType::Utf8, Some(TEXT)), nullable));
        let key = column.and_then(|c| c.key);
        if let Some(key) = key {
            canonical = field::with_metadata(canonical, field::KEY, &key.to_string());
            text = field::with_metadata(text, field::KEY, &key.to_string());
        }
        SourceColumn {
            name,
            native_type: if declared[i].is_empty() { "(none)".into() } else { declared[i].clone() },
            nullable,
            key,
            representations: vec![canonical, text],
            comment: None,
        }
    });
    Ok(described.collect())
}

/// The storage classes that the first rows have in a column.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    integer: bool,
    real: bool,
    text: bool,
    blob: bool,
}

impl Seen {
    fn form(self) -> Form {
        let data_type = match self {
            Self { text: false, blob: false, real: false, integer: true } => DataType::Int64,
            Self { text: false, blob: false, real: true, .. } => DataType::Float64,
            Self { text: false, blob: true, real: false, integer: false } => DataType::Binary,
            _ => DataType::Utf8,
        };
        (data_type, None)
    }
}

fn sample(database: &Database<'_>, sql: &str, columns: usize) -> Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); columns];
    let start = Instant::now();
    let mut statement = database.prepare(sql)?;
    let mut more = database.patiently(|| statement.start(&[]))?;
    let mut rows = 0;
    while more && rows < SAMPLE_ROWS && start.elapsed() < SAMPLE_TIME {
        for (i, seen) in seen.iter_mut().enumerate() {
            match statement.value(i) {
                Value::Null => {}
                Value::Integer(_) => seen.integer = true,
                Value::Real(_) => seen.real = true,
                Value::Text(_) => seen.text = true,
                Value::Blob(_) => seen.blob = true,
            }
        }
        rows += 1;
        more = statement.step()?;
    }
    Ok(seen)
}
