//! `docs/reference/types.md`, written from what the matrix found.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::matrix::{Cell, Table, cells, single_values};
use super::place::{Place, System};
use super::target::Target;
use super::{Type, cases_mysql, cases_postgresql, cases_sqlite, cases_sqlserver};

const PAGE: &str = "docs/reference/types.md";
const RENEW: &str = "WEIR_BLESS=1 cargo test -p weir --test it types";

pub fn types_of(system: System) -> (Vec<Type>, &'static str) {
    match system {
        System::PostgreSql => (cases_postgresql::TYPES.to_vec(), cases_postgresql::SETUP),
        System::MariaDb => ([cases_mysql::COMMON, cases_mysql::MARIADB].concat(), ""),
        System::MySql => ([cases_mysql::COMMON, cases_mysql::MYSQL].concat(), ""),
        System::Sqlite => (cases_sqlite::TYPES.to_vec(), ""),
        System::SqlServer => (cases_sqlserver::TYPES.to_vec(), ""),
    }
}

/// Only these routes, `postgresql:delta`, while somebody works on one.
fn wanted(source: System, target: Target) -> bool {
    let Ok(only) = std::env::var("WEIR_ROUTES") else { return true };
    let route = format!("{}:{}", source.name(), target.name()).to_lowercase();
    only.split(',').any(|part| route.contains(&part.to_lowercase()))
}

#[tokio::test]
async fn every_type_arrives_intact_or_is_refused() {
    tokio::task::LocalSet::new().run_until(all()).await;
}

async fn all() {
    let folder = tempfile::tempdir().unwrap();
    let few = Arc::new(Semaphore::new(4));
    let mut found: BTreeMap<System, BTreeMap<Target, Vec<Cell>>> = BTreeMap::new();
    let mut running = tokio::task::JoinSet::new();
    for source in System::ALL {
        let targets: Vec<Target> = Target::ALL.into_iter().filter(|t| wanted(source, *t)).collect();
        if targets.is_empty() {
            continue;
        }
        let (types, setup) = types_of(source);
        let place = Place::new(source, "types", folder.path()).await;
        place.execute(setup).await;
        let values = single_values(&types);
        // Two channels, so that the order of rows is nobody's.
        let table = Arc::new(Table { channels: 2, ..Table::new(place, "src", types, values).await });
        // A file takes one writer at a time.
        let alone = Arc::new(Semaphore::new(if source == System::Sqlite { 1 } else { 9 }));
        for target in targets {
            let (table, few, alone, folder) = (table.clone(), few.clone(), alone.clone(), folder.path().to_owned());
            running.spawn_local(async move {
                let _alone = alone.acquire().await;
                let _few = few.acquire().await;
                let started = std::time::Instant::now();
                let there = match target {
                    // It has none of the source's own types: the runs make them.
                    Target::Database(system) => {
                        Some(Place::new(system, &format!("of_{}", source.name()), &folder).await)
                    }
                    _ => None,
                };
                let cells = cells(&table, target, there.as_ref(), &folder).await;
                eprintln!("{} → {}: {:.1} s", source.name(), target.name(), started.elapsed().as_secs_f64());
                (source, target, cells)
            });
        }
    }
    let mut faults = String::new();
    while let Some(done) = running.join_next().await {
        match done {
            Ok((source, target, cells)) => _ = found.entry(source).or_default().insert(target, cells),
            // What broke it stands above; the other routes are worth seeing all the same.
            Err(error) => _ = writeln!(faults, "a route broke: {error}"),
        }
    }
    for (source, by_target) in &found {
        let (types, _) = types_of(*source);
        for (target, cells) in by_target {
            for (Type(name, ..), cell) in types.iter().zip(cells) {
                for fault in &cell.changed {
                    let _ = writeln!(faults, "{} → {}: {name}: {fault}", source.name(), target.name());
                }
            }
        }
    }
    if std::env::var_os("WEIR_ROUTES").is_some() {
        eprintln!("{}", page(&found));
    }
    assert!(faults.is_empty(), "what arrived is not what left:\n{faults}");
    if std::env::var_os("WEIR_ROUTES").is_some() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page(&found);
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, page).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "{PAGE} is stale; renew it: {RENEW}");
}

fn page(found: &BTreeMap<System, BTreeMap<Target, Vec<Cell>>>) -> String {
    let mut page = String::from(
        "# Types\n<!-- Generated from the tests of all types on all routes; a test compares. -->\n\n\
         What became of every type, with the values at its edges, on its way to a target that the run created and back into a \
         table\nlike the source's; compared inside the databases, and never silently other.\n\n\
         - **equal**: every value is the same there and back, but for those that the notes name: their rows are dirty rows.\n\
         - **as text**: the target has no type for all values of this one; they arrive in a column of text, in their text form, \
         and come back equal but for the notes.\n- **refused**: the plan refuses the column.\n\n\
         The type in `code` is the one that the target's new column has; Delta, Parquet and Arrow files keep the source's own \
         type\nbeside theirs, so that it is created again on the way out. CSV and JSON lines were read with every column as \
         `string` (bytes\nas `bytes`, JSON lines' JSON as `json`). Between systems numbers are compared as numbers \
         (`1.10` is `1.1`), JSON as\nvalues (MySQL orders keys, keeps the last of equal ones and drops spaces; every digit \
         counts), and −0.0 is the 0.0 that it is\nequal to, for MariaDB and SQLite keep no sign of zero. A note's value is the \
         SQL literal that made it. PostgreSQL's enums,\ndomains, composite and range types of the user were not there before: a \
         run makes them, from the source or from what a file keeps.\nMariaDB's `uuid` takes no value whose 13th \
         digit is 8 to f where its 17th is 0 to 7, as no UUID of RFC 4122 is: those are dirty\nrows too.\n\n",
    );
    for (source, by_target) in found {
        section(&mut page, *source, by_target);
    }
    while page.ends_with("\n\n") {
        page.pop();
    }
    page
}

/// What became of one system's types, a column a target, and the notes below.
pub fn section(page: &mut String, source: System, by_target: &BTreeMap<Target, Vec<Cell>>) {
    let (types, _) = types_of(source);
    let targets: Vec<Target> = by_target.keys().copied().collect();
    let mut notes: Vec<String> = Vec::new();
    let _ = writeln!(page, "## From {}\n", source.name());
    let names: Vec<_> = targets.iter().map(|t| t.name()).collect();
    let _ = writeln!(page, "| type | {} |\n|-{}|", names.join(" | "), "|-".repeat(names.len()));
    for (index, Type(name, ..)) in types.iter().enumerate() {
        let name = if name.is_empty() { "(none)" } else { name };
        let _ = write!(page, "| `{}` |", name.replace('|', "\\|"));
        for target in &targets {
            let _ = write!(page, " {} |", in_words(&by_target[target][index], &mut notes));
        }
        page.push('\n');
    }
    page.push('\n');
    for (i, note) in notes.iter().enumerate() {
        let _ = writeln!(page, "{}. {note}", i + 1);
    }
    page.push('\n');
}

fn in_words(cell: &Cell, notes: &mut Vec<String>) -> String {
    let mut note = |text: String| {
        let at = notes.iter().position(|n| *n == text).unwrap_or_else(|| {
            notes.push(text);
            notes.len() - 1
        });
        at + 1
    };
    if let Some(reason) = &cell.plan {
        return format!("refused [{}]", note(plain(reason)));
    }
    let word = if cell.text { "as text" } else { "equal" };
    let mut out = if cell.target_type.is_empty() { word.to_owned() } else { format!("{word} `{}`", cell.target_type) };
    let mut marks: Vec<usize> = Vec::new();
    for (literal, reason) in &cell.refused {
        marks.push(note(format!("`{}`: {}", short(literal), plain(reason))));
    }
    for (literal, reason) in &cell.refused_back {
        marks.push(note(format!("`{}`, on the way back: {}", short(literal), plain(reason))));
    }
    if let Some(reason) = &cell.plan_back {
        marks.push(note(format!("the way back: {}", plain(reason))));
    }
    if !marks.is_empty() {
        marks.sort_unstable();
        marks.dedup();
        let marks: Vec<_> = marks.iter().map(usize::to_string).collect();
        let _ = write!(out, " [{}]", marks.join(", "));
    }
    out
}

/// A reason without the names of databases and tables, which differ from run to run.
fn plain(reason: &str) -> String {
    let mut text = reason.to_owned();
    while let Some(start) = text.find("`weir_") {
        let end = text[start + 1..].find('`').map_or(text.len(), |end| start + end + 2);
        let end = if text[end..].starts_with('.') { end + 1 } else { end };
        text.replace_range(start..end, "");
    }
    while let Some(start) = text.find("src_") {
        let end =
            text[start..].find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).map_or(text.len(), |n| start + n);
        text.replace_range(start..end, "t");
    }
    short(text.split(" (column c").next().unwrap_or_default())
}

fn short(text: &str) -> String {
    let line = text.replace('\n', " ").replace('|', "\\|");
    if line.chars().count() > 160 { format!("{}…", line.chars().take(160).collect::<String>()) } else { line }
}
