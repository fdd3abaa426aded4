//! The catalogues of source and target are read for all tables at once: many times as many tables take no statement more.

use std::sync::Arc;

use serde_json::json;
use weir::RunOptions;
use weir_plugins_test::servers::{self, Database, Family, OwnServer, Server};

use super::{database_job, run_ok};
use crate::support::load;

/// A server that counts statements, and how to ask it for those on its catalogue, that apart which looks whether a table that was
/// read is still the same: it is part of reading it.
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
             AND argument LIKE '%information_schema.%' AND argument NOT LIKE '%mysql.general_log%' \
             AND argument NOT LIKE '% AS made %'",
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

/// The statements that ask a target about its tables, those apart that look once more at one within the transaction that makes it or
/// its staging table, or publishes it: they are part of its work.
fn questions(family: Family) -> &'static str {
    match family {
        Family::PostgreSql => {
            "SELECT coalesce(sum(calls), 0)::text FROM pg_stat_statements WHERE query ~ 'pg_catalog\\.|to_reg|current_schema' \
             AND query !~ 'pg_stat_statements|pg_settings|CREATE EXTENSION| AS staged| AS as_planned| AS unmade'"
        }
        _ => {
            "SELECT CAST(COUNT(*) AS CHAR) FROM mysql.general_log WHERE command_type IN ('Query', 'Prepare') \
             AND (argument LIKE '%information_schema.%' OR argument LIKE 'SHOW %') \
             AND argument NOT LIKE '%mysql.general_log%' AND argument NOT LIKE '% AS as_planned%'"
        }
    }
}

/// What is asked of a target, that many tables being moved there: by a plan and a run that make them, and by a plan and a run
/// that find them.
async fn asked_at_target(
    server: &OwnServer,
    from: &Arc<Server>,
    family: Family,
    mode: &str,
    tables: usize,
) -> Vec<u64> {
    let connector = if family == Family::PostgreSql { "postgresql" } else { "mysql" };
    let source = from.fresh_database(&format!("asking{tables}")).await;
    let target = server.server().fresh_database(&format!("{mode}{tables}")).await;
    if family == Family::PostgreSql {
        target.execute("CREATE EXTENSION pg_stat_statements").await;
    }
    for table in 0..tables {
        let columns = "id int PRIMARY KEY, name varchar(20) UNIQUE, at timestamp NULL, parent int";
        let key = if table > 0 { ", FOREIGN KEY (parent) REFERENCES t0 (id)" } else { "" };
        source.execute(&format!("CREATE TABLE t{table} ({columns}{key})")).await;
        source.execute(&format!("INSERT INTO t{table} (id, name, parent) VALUES (0, 'one', 0), (-1, 'two', -1)")).await;
    }
    let (read, write) = (json!({"url": source.url()}), json!({"url": target.url()}));
    let job = database_job((connector, read), (connector, write), json!({"write": {"keyed": mode}}));
    let (mut counts, mut before) = (Vec::new(), number(&target, questions(family)).await);
    for _ in 0..2 {
        let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
        assert_eq!(plan.database.unwrap().mapped, tables);
        let planned = number(&target, questions(family)).await;
        let report = run_ok(&job).await;
        assert_eq!((report.rows_written, report.warnings.len()), (2 * tables as u64, 0), "{:#?}", report.warnings);
        let run = number(&target, questions(family)).await;
        counts.extend([planned - before, run - planned]);
        before = run;
    }
    counts
}

async fn no_question_more(family: Family, from: &Arc<Server>, modes: &[&str]) {
    let (server, _) = counting(family);
    for mode in modes {
        let few = asked_at_target(&server, from, family, mode, 4).await;
        let many = asked_at_target(&server, from, family, mode, 16).await;
        assert!(few.iter().all(|count| *count > 2), "it counts: {few:?}");
        assert_eq!(few, many, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_targets_in_postgresql_are_asked_about_like_four() {
    no_question_more(Family::PostgreSql, &servers::postgresql().await, &["overwrite", "upsert"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_targets_in_mariadb_are_asked_about_like_four() {
    no_question_more(Family::MariaDb, &servers::mariadb().await, &["overwrite", "upsert"]).await;
}
