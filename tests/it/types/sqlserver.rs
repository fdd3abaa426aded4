//! The types of SQL Server on its routes, where somebody provides a server, and the part of its page that tells of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use weir_plugins_test::servers;

use super::Type;
use super::matrix::{Table, cells, single_values};
use super::page::{section, types_of};
use super::place::{Place, System};
use super::target::Target;

const PAGE: &str = "docs/reference/sqlserver.md";
const RENEW: &str = "WEIR_BLESS=1 cargo test -p weir --test it types::sqlserver, with WEIR_TEST_SQLSERVER";
/// The page's last part, which this test writes.
const TYPES: &str = "<!-- Written by the test of types from here on. -->\n";

const ROUTES: &[(System, &[Target])] = &[
    (
        System::SqlServer,
        &[
            Target::Database(System::PostgreSql),
            Target::Database(System::MariaDb),
            Target::Database(System::SqlServer),
            Target::Delta,
            Target::Parquet,
        ],
    ),
    (System::PostgreSql, &[Target::Database(System::SqlServer)]),
    (System::MariaDb, &[Target::Database(System::SqlServer)]),
];

/// Only these routes, `sql server:delta`, while somebody works on one.
fn wanted(source: System, target: Target) -> bool {
    let Ok(only) = std::env::var("WEIR_ROUTES") else { return true };
    let route = format!("{}:{}", source.name(), target.name()).to_lowercase();
    only.split(',').any(|part| route.contains(&part.to_lowercase()))
}

#[tokio::test]
async fn every_type_arrives_intact_or_is_refused() {
    if servers::sqlserver().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut text, mut faults) = (String::new(), String::new());
    for (source, targets) in ROUTES {
        let targets: Vec<Target> = targets.iter().copied().filter(|t| wanted(*source, *t)).collect();
        if targets.is_empty() {
            continue;
        }
        let (types, setup) = types_of(*source);
        let place = Place::new(*source, "types", folder.path()).await;
        place.execute(setup).await;
        let values = single_values(&types);
        // Two channels, so that the order of rows is nobody's.
        let table = Arc::new(Table { channels: 2, ..Table::new(place, "src", types.clone(), values).await });
        let mut by_target = BTreeMap::new();
        for target in targets {
            let started = std::time::Instant::now();
            let there = match target {
                Target::Database(system) => {
                    let place = Place::new(system, &format!("of_{}", source.connector()), folder.path()).await;
                    if system == *source {
                        place.execute(setup).await;
                    }
                    Some(place)
                }
                _ => None,
            };
            let found = cells(&table, target, there.as_ref(), folder.path()).await;
            eprintln!("{} → {}: {:.1} s", source.name(), target.name(), started.elapsed().as_secs_f64());
            for (Type(name, ..), cell) in types.iter().zip(&found) {
                for fault in &cell.changed {
                    let _ = writeln!(faults, "{} → {}: {name}: {fault}", source.name(), target.name());
                }
            }
            by_target.insert(target, found);
        }
        section(&mut text, *source, &by_target);
    }
    let server = server_name(folder.path()).await;
    let page = format!("{TYPES}## Types, on {server}\n\n{}", text.replace("\n## ", "\n### ").trim_end());
    let page = page.replacen("\n\n## From", "\n\n### From", 1) + "\n";
    if std::env::var_os("WEIR_ROUTES").is_some() {
        eprintln!("{page}");
    }
    assert!(faults.is_empty(), "what arrived is not what left:\n{faults}");
    if std::env::var_os("WEIR_ROUTES").is_none() {
        compare(&page, &server);
    }
}

/// The page tells of one server; on another one only faults count.
fn compare(page: &str, server: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let (before, after) = committed.split_at(committed.find(TYPES).unwrap_or(committed.len()));
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{page}")).unwrap();
    } else if after.contains(&format!("## Types, on {server}\n")) {
        assert!(after == page, "{PAGE} is stale; renew it: {RENEW}");
    } else {
        eprintln!("{PAGE} tells of another server than {server}: not compared");
    }
}

/// What the server calls itself, without its build.
async fn server_name(folder: &Path) -> String {
    let place = Place::new(System::SqlServer, "version", folder).await;
    let text = place.query("SELECT CAST(@@VERSION AS nvarchar(max))").await.remove(0).remove(0).unwrap_or_default();
    let babelfish = text.split_once("(Babelfish ").and_then(|(_, rest)| rest.split_once(')'));
    match babelfish {
        Some((version, _)) => format!("Babelfish {version}"),
        None => text.split(" - ").next().unwrap_or(&text).trim().to_owned(),
    }
}
