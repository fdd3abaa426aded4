//! Moves every type from a database to a target and back, and says of each value what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{ErrorReport, Quarantine, QuarantineRow, Report, RunOptions, Status};

use super::compare::{Way, same, shown};
use super::place::{Place, System};
use super::target::Target;
use super::{Class, Type};
use crate::support::{job_of, load, with_channels};

/// What became of a type.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// The type at the target, where the target has types of its own.
    pub target_type: String,
    /// The values that were refused on the way there, and why; all of them where the plan refused the type.
    pub refused: Vec<(String, String)>,
    /// The values that were refused on the way back only.
    pub refused_back: Vec<(String, String)>,
    /// Why the plan refused the type.
    pub plan: Option<String>,
    /// Why the plan refused the way back.
    pub plan_back: Option<String>,
    /// Faults: what arrived otherwise than it left.
    pub changed: Vec<String>,
    /// Values that were compared.
    pub values: usize,
    /// Whether the values are texts at the target and none at the source.
    pub text: bool,
}

/// A table with a column for each type, in which each value has a row of its own: one that is refused takes no other along.
pub struct Table {
    pub place: Place,
    /// Its own name, and the beginning of those of the tables that it becomes.
    pub name: String,
    pub types: Vec<Type>,
    /// The expression or literal of each value by (row, column); all columns but these are NULL.
    pub values: Vec<(i64, usize, String)>,
    /// How many channels move it.
    pub channels: usize,
}

/// From this row on a row has values in all columns: one that is refused takes the others along.
pub const FULL: i64 = 1_000_000;

pub fn column(index: usize) -> String {
    format!("c{index:02}")
}

/// One row for each value.
pub fn single_values(types: &[Type]) -> Vec<(i64, usize, String)> {
    let mut values = Vec::new();
    for (index, Type(_, _, literals)) in types.iter().enumerate() {
        for (i, literal) in literals.iter().enumerate() {
            values.push(((index * 100 + i + 1) as i64, index, (*literal).to_owned()));
        }
    }
    values
}

impl Table {
    /// Creates and fills the table in a place that has the types it needs; row 0 is all NULL.
    pub async fn new(place: Place, name: &str, types: Vec<Type>, values: Vec<(i64, usize, String)>) -> Self {
        let table = Self { place, name: name.to_owned(), types, values, channels: 1 };
        let all: Vec<usize> = (0..table.types.len()).collect();
        table.create(name, &all).await;
        let quote = |name: &str| table.place.quote(name);
        let mut rows: BTreeMap<i64, (String, String)> = BTreeMap::from([(0, Default::default())]);
        for (id, index, literal) in &table.values {
            let (columns, literals) = rows.entry(*id).or_default();
            columns.push_str(&format!(", {}", quote(&column(*index))));
            literals.push_str(&format!(", {literal}"));
        }
        // "BEGIN" alone opens a block in SQL Server.
        let begin = if table.place.system == System::SqlServer { "BEGIN TRANSACTION" } else { "BEGIN" };
        let mut inserts = String::from(begin);
        for (id, (columns, literals)) in rows {
            let (name, key) = (quote(name), quote("id"));
            inserts.push_str(&format!("; INSERT INTO {name} ({key}{columns}) VALUES ({id}{literals})"));
        }
        table.place.execute(&format!("{inserts}; COMMIT")).await;
        table
    }

    /// Creates an empty table with the source's types.
    async fn create(&self, name: &str, columns: &[usize]) {
        let quote = |name: &str| self.place.quote(name);
        let null = if self.place.system.is_mysql() { " NULL" } else { "" };
        let id = if self.place.system == System::Sqlite { "INTEGER" } else { "bigint" };
        let columns: Vec<_> =
            columns.iter().map(|i| format!("{} {}{null}", quote(&column(*i)), self.types[*i].0)).collect();
        let options =
            if self.place.system.is_mysql() { " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC" } else { "" };
        let list = if columns.is_empty() { String::new() } else { format!(", {}", columns.join(", ")) };
        let sql = format!("CREATE TABLE {} ({} {id} PRIMARY KEY{list}){options}", quote(name), quote("id"));
        self.place.execute(&sql).await;
    }

    /// The column of each row with one value.
    pub fn owners(&self) -> BTreeMap<i64, usize> {
        self.values.iter().filter(|v| v.0 < FULL).map(|(id, index, _)| (*id, *index)).collect()
    }

    pub fn literal(&self, id: i64) -> String {
        if id >= FULL {
            return format!("row {id}");
        }
        self.values.iter().find(|v| v.0 == id).map_or_else(|| "NULL".into(), |v| v.2.clone())
    }
}

/// A run's end and its dirty rows: row id, column and reason.
pub async fn run(job: &Value, folder: &Path) -> (Report, BTreeMap<i64, String>) {
    let mut job = job.clone();
    job["job"]["setting"]["errorLimit"]["record"] = "unlimited".into();
    let file = tempfile::Builder::new().prefix("dirty").tempdir_in(folder).expect("a folder").keep().join("rows.jsonl");
    let options = RunOptions { quarantine: Quarantine::Path(file.clone()), ..RunOptions::default() };
    let report = weir::run(&load(&job), options).await;
    let mut dirty = BTreeMap::new();
    for line in std::fs::read_to_string(&file).unwrap_or_default().lines() {
        let row: QuarantineRow = serde_json::from_str(line).expect("a line of the quarantine");
        let id = row.values.get("id").and_then(|v| v.as_i64().or_else(|| v.as_str()?.parse().ok()));
        dirty.insert(id.unwrap_or_else(|| panic!("a dirty row without id: {line}")), row.reason);
    }
    (report, dirty)
}

/// What remains of a job over many columns after those that it refuses are left out.
struct Passed {
    columns: Vec<usize>,
    refused: BTreeMap<usize, ErrorReport>,
    dirty: BTreeMap<i64, String>,
}

/// Runs a job over all columns; if it is refused, over each alone to find out which, and over the rest together.
async fn pass(columns: &[usize], folder: &Path, job: impl AsyncFn(&[usize], &str) -> Value) -> Passed {
    let (report, dirty) = run(&job(columns, "all").await, folder).await;
    if report.status == Status::Succeeded {
        return Passed { columns: columns.to_vec(), refused: BTreeMap::new(), dirty };
    }
    let first = report.error.expect("an error");
    let mut refused = BTreeMap::new();
    for index in columns {
        let (report, _) = run(&job(&[*index], &format!("one{index}")).await, folder).await;
        if report.status != Status::Succeeded {
            refused.insert(*index, report.error.expect("an error"));
        }
    }
    let rest: Vec<usize> = columns.iter().copied().filter(|i| !refused.contains_key(i)).collect();
    let (report, dirty) = run(&job(&rest, "rest").await, folder).await;
    assert_eq!(report.status, Status::Succeeded, "{:?}\nat first: {first:?}; alone: {refused:?}", report.error);
    Passed { columns: rest, refused, dirty }
}

/// The way of a table to a target and back. `there` is a database of the target's system.
pub async fn cells(table: &Table, target: Target, there: Option<&Place>, folder: &Path) -> Vec<Cell> {
    let source = &table.place;
    let prefix = format!("{}_{}", table.name, target.name().to_lowercase().replace(' ', "_"));
    let folder: PathBuf = folder.join(format!("{prefix}_{}", source.system.name().replace(' ', "_")));
    std::fs::create_dir_all(&folder).expect("a folder");
    let all: Vec<usize> = (0..table.types.len()).collect();
    let mut cells = vec![Cell::default(); all.len()];
    let names = |columns: &[usize]| -> Vec<String> {
        std::iter::once("id".to_owned()).chain(columns.iter().map(|i| column(*i))).collect()
    };

    let (names_of, folder_of, prefix_of) = (&names, &folder, &prefix);
    let gone = pass(&all, &folder, async |columns, attempt| {
        let mut from = source.parameters(&table.name);
        from["column"] = json!(names_of(columns));
        if table.channels > 1 {
            from["splitPk"] = "id".into();
        }
        let name = format!("{prefix_of}_{attempt}");
        let (writer, to) = match (target, there) {
            (Target::Database(system), Some(place)) => (system.connector(), place.parameters(&name)),
            (Target::Delta, _) => ("lakehouse", json!({"path": folder_of.join(name), "writeMode": "overwrite"})),
            _ => ("files", json!({"path": folder_of.join(name), "format": target.format(), "writeMode": "truncate"})),
        };
        with_channels(job_of(source.system.connector(), from, writer, to), table.channels)
    })
    .await;
    let name = format!("{prefix}_{}", if gone.refused.is_empty() { "all" } else { "rest" });
    for (index, error) in &gone.refused {
        let text = format!("{}: {}", error.kind.name(), error.message);
        if matches!(error.kind, ErrorKind::Schema | ErrorKind::Unsupported) {
            cells[*index].plan = Some(text);
        } else {
            cells[*index].changed.push(format!("the run failed: {text}"));
        }
    }
    let source_types = source.types(&table.name).await;
    let source_types = &source_types[1..];
    let before = source.values(&table.name, source_types).await;
    let owners = table.owners();
    for (id, reason) in &gone.dirty {
        match owners.get(id) {
            Some(index) => cells[*index].refused.push((table.literal(*id), reason.clone())),
            None if *id >= FULL => {}
            None => cells[0].changed.push(format!("the row of NULLs was refused: {reason}")),
        }
    }

    // What stands at the target.
    if let Some(place) = there {
        let types: Vec<_> = place.types(&name).await.into_iter().skip(1).collect();
        let after: BTreeMap<i64, Vec<Option<String>>> = place.values(&name, &types).await.into_iter().collect();
        let at: BTreeMap<&str, usize> = types.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
        for index in &gone.columns {
            let i = at[column(*index).as_str()];
            cells[*index].target_type = types[i].1.clone();
            cells[*index].text = is_text(place.system, &types[i].1)
                && table.types[*index].1 != Class::Text
                && types[i].1 != source_types[*index].1;
        }
        for (id, values) in &before {
            let Some(row) = after.get(id) else {
                if !gone.dirty.contains_key(id) && owners.get(id).is_none_or(|i| gone.columns.contains(i)) {
                    cells[owners.get(id).copied().unwrap_or(0)].changed.push(format!("{} is lost", table.literal(*id)));
                }
                continue;
            };
            for index in &gone.columns {
                let (was, is) = (&values[*index], &row[at[column(*index).as_str()]]);
                let (from, to) = (&source_types[*index].1, &cells[*index].target_type);
                let equal = match (was, is) {
                    (None, None) => true,
                    (Some(was), Some(is)) => {
                        was == is && place.system.connector() == source.system.connector()
                            || same(table.types[*index].1, (source.system, from, was), (place.system, to, is))
                    }
                    _ => false,
                };
                if !equal {
                    let text = format!("{} is {} there as {to}", shown(was), shown(is));
                    cells[*index].changed.push(text);
                }
            }
        }
        if place.system == source.system {
            for index in &gone.columns {
                let (was, is) = (&source_types[*index].1, cells[*index].target_type.clone());
                if *was != is && !renewed(source.system, was, &is) {
                    cells[*index].changed.push(format!("{was} was created as {is}"));
                }
            }
        }
        let extra = after.keys().filter(|id| !before.iter().any(|(known, _)| known == *id)).count();
        if extra > 0 || place.count(&name).await != after.len() {
            cells[0].changed.push("rows are there that never left".into());
        }
    }

    // And back into a table with the source's types.
    let back_prefix = format!("{prefix}_back");
    let label_of = &back_prefix;
    let name_of = &name;
    let back = pass(&gone.columns, &folder, async |columns, attempt| {
        let to = format!("{label_of}_{attempt}");
        table.create(&to, columns).await;
        let mut reader = match (target, there) {
            (Target::Database(system), Some(place)) => (system.connector(), place.parameters(name_of)),
            (Target::Delta, _) => ("lakehouse", json!({"path": folder_of.join(name_of)})),
            _ => ("files", json!({"path": folder_of.join(name_of), "format": target.format()})),
        };
        reader.1["column"] = match target {
            Target::Csv | Target::JsonLines => text_columns(table, columns, target),
            _ => json!(names_of(columns)),
        };
        if table.channels > 1 && there.is_some() {
            reader.1["splitPk"] = "id".into();
        }
        let job = job_of(reader.0, reader.1, source.system.connector(), source.parameters(&to));
        with_channels(job, table.channels)
    })
    .await;
    for (index, error) in &back.refused {
        cells[*index].plan_back = Some(format!("{}: {}", error.kind.name(), error.message));
    }
    for (id, reason) in &back.dirty {
        if let Some(index) = owners.get(id) {
            cells[*index].refused_back.push((table.literal(*id), reason.clone()));
        } else if *id < FULL {
            cells[0].changed.push(format!("the row of NULLs was refused on the way back: {reason}"));
        }
    }
    let to = format!("{back_prefix}_{}", if back.refused.is_empty() { "all" } else { "rest" });
    let missing: BTreeSet<i64> = gone.dirty.keys().chain(back.dirty.keys()).copied().collect();
    let way = Way { table, target, before: &before, source_types };
    way.compare_back(&mut cells, &back.columns, &to, &missing).await;

    // And back into a table that the run creates.
    if target.remembers() {
        let to = format!("{back_prefix}_new");
        let reader = match target {
            Target::Delta => ("lakehouse", json!({"path": folder.join(&name)})),
            _ => ("files", json!({"path": folder.join(&name), "format": target.format()})),
        };
        let job = job_of(reader.0, reader.1, source.system.connector(), source.parameters(&to));
        let (report, dirty) = run(&with_channels(job, table.channels), &folder).await;
        if report.status != Status::Succeeded {
            cells[0].changed.push(format!("the way back into a new table failed: {:?}", report.error));
            return cells;
        }
        let types = source.types(&to).await;
        for index in &gone.columns {
            let is = types.iter().find(|(name, _)| *name == column(*index)).map_or("nothing", |(_, text)| text);
            if is != source_types[*index].1 && !renewed(source.system, &source_types[*index].1, is) {
                cells[*index].changed.push(format!("{} came back as {is}", source_types[*index].1));
            }
        }
        let missing: BTreeSet<i64> = gone.dirty.keys().chain(dirty.keys()).copied().collect();
        way.compare_back(&mut cells, &gone.columns, &to, &missing).await;
    }
    cells
}

/// Whether a type was created by its new name.
fn renewed(system: System, was: &str, is: &str) -> bool {
    let old = [("text", "varchar(max)"), ("ntext", "nvarchar(max)"), ("image", "varbinary(max)")];
    system == System::SqlServer && old.contains(&(was, is))
}

/// Whether a type holds plain text: values of another type stand in it in their text form.
fn is_text(system: System, type_text: &str) -> bool {
    let lower = type_text.to_lowercase();
    match system {
        System::PostgreSql => {
            ["text", "character", "\"char\"", "name"].iter().any(|t| lower.starts_with(t)) && !lower.ends_with("[]")
        }
        // MariaDB's JSON is a longtext with a check, but JSON all the same.
        System::MariaDb | System::MySql => {
            lower.contains("text") && !lower.ends_with(" json") || lower.contains("char(")
        }
        System::Sqlite | System::SqlServer => {
            lower.contains("text") || lower.contains("char") || lower.contains("clob")
        }
    }
}

/// How a file without types is read: every column as text, and bytes as what they are.
fn text_columns(table: &Table, columns: &[usize], target: Target) -> Value {
    let mut out = vec![json!({"name": "id", "type": "long"})];
    for index in columns {
        let kind = match table.types[*index].1 {
            Class::Bytes => "bytes",
            Class::Json if target == Target::JsonLines => "json",
            _ => "string",
        };
        out.push(json!({"name": column(*index), "type": kind}));
    }
    out.into()
}
