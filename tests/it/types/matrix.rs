//! Moves every type from a database to a target and back, and says of each value what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{ErrorReport, Quarantine, QuarantineRow, Report, RunOptions, Status};

use super::canon::canonical;
use super::place::{Place, System};
use super::{Class, Type};
use crate::support::{job_of, load};

/// Where types go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Database(System),
    Delta,
    Parquet,
    Arrow,
    Csv,
    JsonLines,
}

impl Target {
    pub const ALL: [Self; 9] = [
        Self::Database(System::PostgreSql),
        Self::Database(System::MariaDb),
        Self::Database(System::MySql),
        Self::Database(System::Sqlite),
        Self::Delta,
        Self::Parquet,
        Self::Arrow,
        Self::Csv,
        Self::JsonLines,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Database(system) => system.name(),
            Self::Delta => "Delta",
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow IPC",
            Self::Csv => "CSV",
            Self::JsonLines => "JSON lines",
        }
    }

    fn format(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            _ => "",
        }
    }

    /// Whether it remembers the source's own types.
    fn remembers(self) -> bool {
        matches!(self, Self::Delta | Self::Parquet | Self::Arrow)
    }
}

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
    pub types: Vec<Type>,
    /// What has to exist in a database before it can have such a table.
    setup: String,
    /// The expression or literal of each value by (row, column).
    values: Vec<(i64, usize, String)>,
}

pub fn column(index: usize) -> String {
    format!("c{index:02}")
}

impl Table {
    /// Creates and fills `src`.
    pub async fn new(place: Place, types: Vec<Type>, setup: &str) -> Self {
        let mut values = Vec::new();
        for (index, Type(_, _, literals)) in types.iter().enumerate() {
            for (i, literal) in literals.iter().enumerate() {
                values.push(((index * 100 + i + 1) as i64, index, (*literal).to_owned()));
            }
        }
        Self::with_values(place, types, setup, values).await
    }

    /// Creates and fills `src` with values of one's own: row, column and literal of each.
    pub async fn with_values(place: Place, types: Vec<Type>, setup: &str, values: Vec<(i64, usize, String)>) -> Self {
        if !setup.is_empty() {
            place.execute(setup).await;
        }
        let table = Self { place, types, setup: setup.to_owned(), values };
        let all: Vec<usize> = (0..table.types.len()).collect();
        table.create("src", &all).await;
        let quote = |name: &str| table.place.quote(name);
        let mut inserts = format!("INSERT INTO {} ({}) VALUES (0)", quote("src"), quote("id"));
        for (id, index, literal) in &table.values {
            let columns = format!("{}, {}", quote("id"), quote(&column(*index)));
            inserts.push_str(&format!("; INSERT INTO {} ({columns}) VALUES ({id}, {literal})", quote("src")));
        }
        table.place.execute(&inserts).await;
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

    fn literal(&self, id: i64) -> String {
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

/// The way of a table to a target and back.
pub async fn cells(table: &Table, target: Target, folder: &Path) -> Vec<Cell> {
    let source = &table.place;
    let label = target.name().to_lowercase().replace(' ', "_");
    let folder: PathBuf = folder.join(format!("{label}_{}", source.system.name().replace(' ', "_")));
    std::fs::create_dir_all(&folder).expect("a folder");
    let there = match target {
        Target::Database(system) => {
            Some(Place::new(system, &format!("{label}_of_{}", source.system.connector()), &folder).await)
        }
        _ => None,
    };
    if let Some(place) = there.as_ref().filter(|p| p.system == source.system && !table.setup.is_empty()) {
        place.execute(&table.setup).await;
    }
    let all: Vec<usize> = (0..table.types.len()).collect();
    let mut cells = vec![Cell::default(); all.len()];
    let names = |columns: &[usize]| -> Vec<String> {
        std::iter::once("id".to_owned()).chain(columns.iter().map(|i| column(*i))).collect()
    };

    let names_of = &names;
    let (folder_of, there_of) = (&folder, &there);
    let gone = pass(&all, &folder, async |columns, name| {
        let mut from = source.parameters("src");
        from["column"] = json!(names_of(columns));
        let (writer, to) = match (target, there_of) {
            (Target::Database(system), Some(place)) => (system.connector(), place.parameters(name)),
            (Target::Delta, _) => ("lakehouse", json!({"path": folder_of.join(name), "writeMode": "overwrite"})),
            _ => ("files", json!({"path": folder_of.join(name), "format": target.format(), "writeMode": "truncate"})),
        };
        job_of(source.system.connector(), from, writer, to)
    })
    .await;
    let name = if gone.refused.is_empty() { "all" } else { "rest" };
    for (index, error) in &gone.refused {
        let text = format!("{}: {}", error.kind.name(), error.message);
        if matches!(error.kind, ErrorKind::Schema | ErrorKind::Unsupported) {
            cells[*index].plan = Some(text);
        } else {
            cells[*index].changed.push(format!("the run failed: {text}"));
        }
    }
    let source_types = source.types("src").await;
    let source_types = &source_types[1..];
    let before = source.values("src", source_types).await;
    let left: BTreeMap<i64, usize> = table.values.iter().map(|(id, index, _)| (*id, *index)).collect();
    for (id, reason) in &gone.dirty {
        match left.get(id) {
            Some(index) => cells[*index].refused.push((table.literal(*id), reason.clone())),
            None => cells[0].changed.push(format!("the row of NULLs was refused: {reason}")),
        }
    }

    // What stands at the target.
    if let Some(place) = &there {
        let types: Vec<_> = place.types(name).await.into_iter().skip(1).collect();
        let after: BTreeMap<i64, Vec<Option<String>>> = place.values(name, &types).await.into_iter().collect();
        let at: BTreeMap<&str, usize> = types.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
        for index in &gone.columns {
            let i = at[column(*index).as_str()];
            cells[*index].target_type = types[i].1.clone();
            let text = ["text", "char", "longtext", "clob"].iter().any(|t| types[i].1.to_lowercase().starts_with(t))
                || types[i].1.to_lowercase().contains("_text");
            cells[*index].text = text && table.types[*index].1 != Class::Text && types[i].1 != source_types[*index].1;
        }
        for (id, values) in &before {
            let Some(row) = after.get(id) else {
                if !gone.dirty.contains_key(id) && left.get(id).is_none_or(|i| gone.columns.contains(i)) {
                    cells[left.get(id).copied().unwrap_or(0)].changed.push(format!("{} is lost", table.literal(*id)));
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
                if *was != is {
                    cells[*index].changed.push(format!("{was} was created as {is}"));
                }
            }
        }
    }

    // And back into a table with the source's types.
    let label = format!("back_{label}");
    let label_of = &label;
    let back = pass(&gone.columns, &folder, async |columns, attempt| {
        let to = format!("{label_of}_{attempt}");
        table.create(&to, columns).await;
        let mut reader = match (target, there_of) {
            (Target::Database(system), Some(place)) => (system.connector(), place.parameters(name)),
            (Target::Delta, _) => ("lakehouse", json!({"path": folder_of.join(name)})),
            _ => ("files", json!({"path": folder_of.join(name), "format": target.format()})),
        };
        reader.1["column"] = match target {
            Target::Csv | Target::JsonLines => text_columns(table, columns, target),
            _ => json!(names_of(columns)),
        };
        job_of(reader.0, reader.1, source.system.connector(), source.parameters(&to))
    })
    .await;
    for (index, error) in &back.refused {
        cells[*index].plan_back = Some(format!("{}: {}", error.kind.name(), error.message));
    }
    for (id, reason) in &back.dirty {
        let index = left.get(id).copied().unwrap_or(0);
        cells[index].refused_back.push((table.literal(*id), reason.clone()));
    }
    let to = format!("{label}_{}", if back.refused.is_empty() { "all" } else { "rest" });
    let missing: BTreeSet<i64> = gone.dirty.keys().chain(back.dirty.keys()).copied().collect();
    let way = Way { table, target, before: &before, source_types };
    way.compare_back(&mut cells, &back.columns, &to, &missing).await;

    // And back into a table that the run creates.
    if target.remembers() {
        let to = format!("{label}_new");
        let reader = match target {
            Target::Delta => ("lakehouse", json!({"path": folder.join(name)})),
            _ => ("files", json!({"path": folder.join(name), "format": target.format()})),
        };
        let job = job_of(reader.0, reader.1, source.system.connector(), source.parameters(&to));
        let (report, dirty) = run(&job, &folder).await;
        if report.status != Status::Succeeded {
            cells[0].changed.push(format!("the way back into a new table failed: {:?}", report.error));
            return cells;
        }
        let types = source.types(&to).await;
        for index in &gone.columns {
            let is = types.iter().find(|(name, _)| *name == column(*index)).map_or("nothing", |(_, text)| text);
            if is != source_types[*index].1 {
                cells[*index].changed.push(format!("{} came back as {is}", source_types[*index].1));
            }
        }
        let missing: BTreeSet<i64> = gone.dirty.keys().chain(dirty.keys()).copied().collect();
        way.compare_back(&mut cells, &gone.columns, &to, &missing).await;
    }
    if let Some(place) = &there {
        place.drop().await;
    }
    cells
}

/// A way there and back, as it is compared at its end.
struct Way<'a> {
    table: &'a Table,
    target: Target,
    before: &'a [(i64, Vec<Option<String>>)],
    source_types: &'a [(String, String)],
}

impl Way<'_> {
    async fn compare_back(&self, cells: &mut [Cell], columns: &[usize], to: &str, missing: &BTreeSet<i64>) {
        let types: Vec<_> = columns.iter().map(|i| self.source_types[*i].clone()).collect();
        let after: BTreeMap<i64, Vec<Option<String>>> = self.table.place.values(to, &types).await.into_iter().collect();
        let left: BTreeMap<i64, usize> = self.table.values.iter().map(|(id, index, _)| (*id, *index)).collect();
        for (id, values) in self.before {
            let own = left.get(id).copied();
            let Some(row) = after.get(id) else {
                if !missing.contains(id) && own.is_none_or(|i| columns.contains(&i)) {
                    let text = format!("{} is lost on the way to {to}", self.table.literal(*id));
                    cells[own.unwrap_or(0)].changed.push(text);
                }
                continue;
            };
            for (i, index) in columns.iter().enumerate() {
                if own == Some(*index) {
                    cells[*index].values += 1;
                }
                let (was, is) = (&values[*index], &row[i]);
                if was != is && !self.equal(*index, was.as_deref(), is.as_deref()) {
                    cells[*index].changed.push(format!("{} came back as {} ({to})", shown(was), shown(is)));
                }
            }
        }
    }

    /// Whether another spelling is the same value: what stood in another database is written as that one writes it.
    fn equal(&self, index: usize, was: Option<&str>, is: Option<&str>) -> bool {
        let (Some(was), Some(is)) = (was, is) else { return false };
        let (system, class, text) = (self.table.place.system, self.table.types[index].1, &self.source_types[index].1);
        let other = matches!(self.target, Target::Database(other) if other.connector() != system.connector()
            || other.is_mysql() && other != system);
        let respelled = match class {
            Class::Number | Class::Json => other,
            Class::Single | Class::Double => matches!(self.target, Target::Database(_)),
            // SQLite has no type for times: their texts are written in one way.
            Class::Date | Class::Time | Class::Timestamp | Class::Instant => system == System::Sqlite,
            _ => false,
        };
        let reached = match self.target {
            Target::Database(other) => other,
            _ => system,
        };
        let [was, is] = [was, is].map(|value| canonical(class, system, text, value));
        respelled
            && was.is_some()
            && (was == is || without_sign_of_zero(system, reached) && unsigned(&was) == unsigned(&is))
    }
}

/// Whether both spell the same value. A char's spaces at the end are its length's, and MariaDB and SQLite, which have
/// no −0.0, hold the 0.0 that is equal to it.
fn same(class: Class, a: (System, &str, &str), b: (System, &str, &str)) -> bool {
    if class == Class::Other {
        // What it means is seen on the way back.
        return true;
    }
    let [a_text, b_text] = [a, b].map(|(system, type_text, text)| canonical(class, system, type_text, text));
    let trimmed = |text: &Option<String>| text.as_ref().map(|t| t.trim_end().to_owned());
    let char = [a, b].iter().any(|s| s.0 == System::PostgreSql && s.1.starts_with("character("));
    a_text.is_some()
        && (a_text == b_text
            || char && trimmed(&a_text) == trimmed(&b_text)
            || without_sign_of_zero(a.0, b.0) && unsigned(&a_text) == unsigned(&b_text))
}

fn without_sign_of_zero(a: System, b: System) -> bool {
    [a, b].iter().any(|s| matches!(s, System::MariaDb | System::Sqlite))
}

/// The bits of a float, of −0.0 those of 0.0.
fn unsigned(bits: &Option<String>) -> Option<&str> {
    bits.as_deref().map(|bits| match bits {
        "80000000" => "00000000",
        "8000000000000000" => "0000000000000000",
        other => other,
    })
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

fn shown(value: &Option<String>) -> String {
    match value {
        None => "NULL".into(),
        Some(text) if text.chars().count() > 120 => {
            format!("{:?}… ({} characters)", text.chars().take(80).collect::<String>(), text.chars().count())
        }
        Some(text) => format!("{text:?}"),
    }
}
