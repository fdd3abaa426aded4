//! Servers that say no.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir::LoadOptions;
use weir::core::CheckOutcome;
use weir_plugins_test::servers::{self, Database};

use super::{Case, case, reading, run_all};
use crate::support::job_of;

async fn tables(database: &Database) {
    database.execute("CREATE TABLE t (id int NOT NULL, name varchar(5), amount numeric(5,2), PRIMARY KEY (id))").await;
    database.execute("CREATE TABLE keyless (id int NOT NULL, name varchar(5))").await;
    database.execute("CREATE TABLE wide (id bigint NOT NULL, name varchar(50), amount numeric(12,2))").await;
    database.execute("INSERT INTO wide VALUES (1, 'one', 1.25), (2, 'much too long', 2.25)").await;
    database.execute("CREATE TABLE big (id bigint NOT NULL)").await;
    database.execute("INSERT INTO big VALUES (1), (3000000000)").await;
    database.execute("CREATE TABLE twice (id int NOT NULL)").await;
    database.execute("INSERT INTO twice VALUES (1), (2), (2)").await;
}

fn server_cases(plugin: &'static str, database: &Database, scheme: &str) -> Vec<Case> {
    let url = database.url();
    let wrong_password = database.url_with(database.user(), "wrong");
    let (host, port, name) = (database.host(), database.port(), database.name());
    let elsewhere = url.replace(&format!("/{name}"), "/no_such_database");
    let nobody = format!("{scheme}://weir:x@127.0.0.1:1/x");
    let nowhere = format!("{scheme}://weir:x@no-such-host.invalid:{port}/{name}");
    let from = |p: Value| job_of(plugin, p, "files", json!({"path": "out/x.csv", "writeMode": "truncate"}));
    let table = |t: &str| json!({"url": url, "table": t});
    let to = |source: &str, column: Value, p: Value| {
        let mut parameter = p;
        parameter["url"] = url.clone().into();
        job_of(plugin, json!({"url": url, "table": source, "column": column}), plugin, parameter)
    };
    assert!(!host.is_empty());
    vec![
        case("wrong password", from(json!({"url": wrong_password, "table": "t"})), 1, &["password"]),
        case("nobody listens", from(json!({"url": nobody, "table": "t"})), 1, &["127.0.0.1"]),
        case("no such host", from(json!({"url": nowhere, "table": "t"})), 1, &["no-such-host.invalid"]),
        case("no such database", from(json!({"url": elsewhere, "table": "t"})), 1, &["no_such_database"]),
        case("no such table", from(table("wid")), 1, &["wid"]),
        case("a bad condition", from(json!({"url": url, "table": "wide", "where": "id >"})), 1, &["wide"]),
        case("a bad statement", from(json!({"url": url, "querySql": "selct 1"})), 1, &["selct"]),
        case(
            "a bad expression",
            from(json!({"url": url, "table": "wide", "column": ["nothere + 1"]})),
            1,
            &["nothere"],
        ),
        case(
            "a writer's column",
            to("wide", json!(["id"]), json!({"table": "t", "column": ["idd"]})),
            1,
            &["column/0", "`id`"],
        ),
        case("counts", to("wide", json!(["id", "name"]), json!({"table": "t", "column": ["id"]})), 1, &["2", "1"]),
        case(
            "a column that is needed",
            to("wide", json!(["name"]), json!({"table": "t", "column": ["name"]})),
            1,
            &["id"],
        ),
        case(
            "a text too long",
            to("wide", json!(["id", "name"]), json!({"table": "t", "column": ["id", "name"]})),
            1,
            &["name", "errorLimit"],
        ),
        case(
            "a number too large",
            to("big", json!(["id"]), json!({"table": "t", "column": ["id"]})),
            1,
            &["3000000000", "errorLimit"],
        ),
        case("a key twice", to("twice", json!(["id"]), json!({"table": "t", "column": ["id"]})), 1, &["errorLimit"]),
        case(
            "an upsert without a key",
            to("twice", json!(["id"]), json!({"table": "keyless", "column": ["id"], "writeMode": "upsert"})),
            1,
            &["keyless", "key"],
        ),
        case(
            "a bad preSql",
            to("twice", json!(["id"]), json!({"table": "keyless", "column": ["id"], "preSql": ["delet from x"]})),
            1,
            &["delet from x"],
        ),
        case(
            "no table, none to be made",
            to("twice", json!(["id"]), json!({"table": "nothere", "createTable": false})),
            1,
            &["nothere", "createTable"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_say_no() {
    let folder = tempfile::tempdir().unwrap();
    let postgresql = servers::postgresql().await.fresh_database("bad").await;
    tables(&postgresql).await;
    let mut cases = server_cases("postgresql", &postgresql, "postgresql");
    let url = postgresql.url();
    let nul = json!({"path": "nul.csv", "column": [{"index": 0, "type": "string"}], "header": false});
    std::fs::write(folder.path().join("nul.csv"), b"a\0b\n").unwrap();
    cases.extend([
        case("a NUL", job_of("files", nul, "postgresql", json!({"url": url, "table": "nul", "column": ["x"], "preSql": ["create table if not exists nul (x text)"], "createTable": false})), 1, &["nul"]),
        case("TLS where there is none", reading("postgresql", json!({"url": format!("{url}?sslmode=require"), "table": "t"})), 1, &["TLS"]),
        case("bytes into a number", job_of("postgresql", json!({"url": url, "querySql": "select '\\x00'::bytea as id"}), "postgresql", json!({"url": url, "table": "keyless", "column": ["id"]})), 1, &["bytea", "id"]),
    ]);
    run_all(folder.path(), cases);
    for table in ["t", "keyless"] {
        assert_eq!(postgresql.value(&format!("SELECT count(*) FROM {table}")).await, "0", "{table}");
    }
    for server in [servers::mariadb().await, servers::mysql().await] {
        let database = server.fresh_database("bad").await;
        tables(&database).await;
        run_all(folder.path(), server_cases("mysql", &database, "mysql"));
        for table in ["t", "keyless"] {
            assert_eq!(database.value(&format!("SELECT count(*) FROM {table}")).await, "0", "{table}");
        }
    }
}

/// What `weir check --datasource` says of each end.
async fn looked_at(kind: &str, url: &str) -> Vec<weir::EndCheck> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sources.json");
    std::fs::write(&file, json!({"shop": {"type": kind, "url": url}}).to_string()).unwrap();
    let options = LoadOptions { datasources: Some(file), ..LoadOptions::default() };
    weir::check_data_source("shop", &options, CancellationToken::new())
        .await
        .unwrap_or_else(|faults| panic!("{faults}"))
}

#[tokio::test]
async fn a_data_source_is_checked_for_what_its_login_may_read_and_write() {
    let mut databases = vec![("postgresql", servers::postgresql().await.fresh_database("rights").await)];
    for server in [servers::mariadb().await, servers::mysql().await] {
        databases.push(("mysql", server.fresh_database("rights").await));
    }
    for (kind, database) in databases {
        let reader = format!("reader_{}", std::process::id());
        database.execute("CREATE TABLE orders (id int PRIMARY KEY)").await;
        match kind {
            "postgresql" => {
                database.execute(&format!("CREATE ROLE {reader} LOGIN PASSWORD 'may-read'")).await;
                database.execute(&format!("GRANT SELECT ON orders TO {reader}")).await;
            }
            _ => {
                database.execute(&format!("CREATE USER {reader} IDENTIFIED BY 'may-read'")).await;
                database.execute(&format!("GRANT SELECT ON {}.orders TO {reader}", database.name())).await;
            }
        }
        let with = |ends: &[weir::EndCheck], outcome: CheckOutcome, what: &str| {
            let found = ends.iter().flat_map(|end| &end.checks);
            let lines: Vec<_> = found.clone().map(|c| format!("{} {:?}: {}", c.what, c.outcome, c.detail)).collect();
            let all_said = found.clone().all(|check| !check.detail.is_empty());
            assert!(all_said, "{kind}: {lines:#?}");
            let fits = |check: &weir::core::Check| check.outcome == outcome && check.what.contains(what);
            assert!(found.clone().any(fits), "{kind}: no {outcome:?} {what} in {lines:#?}");
        };
        let owner = looked_at(kind, &database.url()).await;
        assert_eq!(owner.iter().map(|end| end.end).collect::<Vec<_>>(), ["source", "target"]);
        for what in ["connect", "login", "tables", "SELECT on", "INSERT", "CREATE"] {
            with(&owner, CheckOutcome::Ok, what);
        }
        // Most sources are only read: that this one may not be written is worth knowing, and no fault.
        let reads = looked_at(kind, &database.url_with(&reader, "may-read")).await;
        with(&reads, CheckOutcome::Ok, "SELECT on");
        with(&reads, CheckOutcome::Warning, "INSERT");
        with(&reads, CheckOutcome::Warning, "CREATE");
        assert!(reads.iter().flat_map(|end| &end.checks).all(|check| check.outcome != CheckOutcome::Fault));
        let wrong = looked_at(kind, &database.url_with(&reader, "wrong")).await;
        with(&wrong, CheckOutcome::Fault, "connect");
        assert_eq!(wrong.len(), 1);
    }
}
