//! A source's catalogue is read for all tables at once: ten times as many tables take no statement more.

use serde_json::json;
use weir::RunOptions;
use weir_plugins_test::servers::{Database, Family, OwnServer};

use super::{database_job, run_ok};
use crate::support::load;

/// A server that counts statements, and how to ask it for those on its catalogue.
fn counting(family: Family) -> (OwnServer, &'static str) {
    let (arguments, counted): (&[&str], _) = match family {
        Family::PostgreSql => (
            &["-c", "shared_preload_libraries=pg_stat_statements", "-c", "pg_stat_statements.max=10000"],
            "SELECT coalesce(sum(calls), 0)::text FROM pg_stat_statements WHERE query LIKE '%pg_catalog.%' \
             AND query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%pg_settings%'",
        ),
        _ => (
            &["--general-log", "--log-output=TABLE"],
            "SELECT CAST(COUNT(*) AS CHAR) FROM mysql.general_log WHERE command_type IN ('Query', 'Prepare') \
             AND argument LIKE '%information_schema.%' AND argument NOT LIKE '%mysql.general_log%'",
        ),
    };
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let server = tokio::task::block_in_place(|| OwnServer::start_with(family, &arguments));
    (server.unwrap_or_else(|error| panic!("{error}")), counted)
}

async fn number(database: &Database, sql: &str) -> u64 {
    database.value(sql).await.parse().unwrap()
}

/// The statements on the catalogue that a plan and a run of so many tables take.
async fn asked(server: &OwnServer, connector: &str, counted: &str, tables: usize) -> (u64, u64) {
    let source = server.server().fresh_database(&format!("asked{tables}")).await;
    if connector == "postgresql" {
        source.execute("CREATE EXTENSION pg_stat_statements").await;
    }
    for table in 0..tables {
        let columns = "id int PRIMARY KEY, name varchar(20) UNIQUE, at timestamp NULL";
        source.execute(&format!("CREATE TABLE t{table} ({columns})")).await;
        source.execute(&format!("INSERT INTO t{table} (id, name) VALUES ({table}, 'one'), (-1, 'two')")).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = ("files", json!({"path": folder.path()}));
    let job = database_job((connector, json!({"url": source.url()})), to, json!({}));
    let before = number(&source, counted).await;
    let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
    assert_eq!(plan.database.unwrap().mapped, tables);
    let planned = number(&source, counted).await;
    assert_eq!(run_ok(&job).await.rows_written, 2 * tables as u64);
    (planned - before, number(&source, counted).await - planned)
}

async fn no_statement_more(connector: &str, family: Family) {
    let (server, counted) = counting(family);
    let (few, many) = (asked(&server, connector, counted, 5).await, asked(&server, connector, counted, 50).await);
    assert!(few.0 > 3 && few.1 > 3, "it counts: {few:?}");
    assert_eq!(few, many);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_tables_of_mariadb_are_described_like_five() {
    no_statement_more("mysql", Family::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_tables_of_postgresql_are_described_like_five() {
    no_statement_more("postgresql", Family::PostgreSql).await;
}
