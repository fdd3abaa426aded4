//! Mirrors: every table of a database, by itself.

use serde_json::{Value, json};
use weir::{LoadOptions, RunOptions, job};
use weir_plugins_test::servers;

use super::{database_job, rows, run_ok, table};
use crate::orders;
use crate::support::{job_of, load};

/// Two schemas, tables with and without key, an empty one, awkward names.
async fn shop(source: &servers::Database) {
    orders::create(source, "orders").await;
    orders::fill(source, "orders", 1, 3_000, 0).await;
    source
        .execute(
            "CREATE SCHEMA sales; \
             CREATE TABLE sales.items (order_id bigint, line int, what text NOT NULL, price numeric(10,2), \
               PRIMARY KEY (order_id, line)); \
             INSERT INTO sales.items SELECT g / 3, g % 3, 'item ' || g, g * 0.01 FROM generate_series(0, 4999) g; \
             CREATE TABLE sales.\"Odd Näme\" (\"Größe\" int PRIMARY KEY, \"a b\" text); \
             INSERT INTO sales.\"Odd Näme\" VALUES (1, 'x'), (2, NULL); \
             CREATE TABLE log (at timestamp, line text); \
             INSERT INTO log SELECT timestamp '2024-01-01' + g * interval '1 hour', 'line ' || g % 7 FROM generate_series(1, 500) g; \
             CREATE TABLE empty_one (id int PRIMARY KEY, v text); \
             CREATE VIEW v_orders AS SELECT id FROM orders",
        )
        .await;
}

const TABLES: [&str; 5] = ["public.orders", "sales.items", "sales.\"Odd Näme\"", "public.log", "public.empty_one"];

#[tokio::test]
async fn postgresql_to_postgresql_twice() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("mirror").await, server.fresh_database("mirrored").await);
    shop(&source).await;
    let job = database_job(
        ("postgresql", json!({"url": source.url()})),
        ("postgresql", json!({"url": target.url()})),
        json!({}),
    );
    let report = run_ok(&job).await;
    assert_eq!((report.tables.len(), report.rows_written), (5, 8_502));
    assert!(report.tables.iter().all(|table| table.created), "{:#?}", report.tables);
    for name in TABLES {
        assert_eq!(rows(&source, name).await, rows(&target, name).await, "{name}");
    }
    let keys = "SELECT c.conrelid::regclass::text, pg_get_constraintdef(c.oid) FROM pg_constraint c \
                WHERE c.contype = 'p' AND c.conrelid::regclass::text NOT LIKE '%weir%' ORDER BY 1";
    assert_eq!(source.query(keys).await, target.query(keys).await);
    // The second run replaces what the first has brought.
    source.execute("DELETE FROM orders WHERE id > 100; UPDATE sales.items SET price = 7 WHERE line = 1").await;
    let report = run_ok(&job).await;
    assert!(report.tables.iter().all(|table| !table.created));
    for name in TABLES {
        assert_eq!(rows(&source, name).await, rows(&target, name).await, "{name}");
    }
    assert_eq!(target.value("SELECT count(*) FROM information_schema.tables WHERE table_name = 'v_orders'").await, "0");
}

#[tokio::test]
async fn postgresql_to_a_lakehouse() {
    let server = servers::postgresql().await;
    let source = server.fresh_database("tolake").await;
    shop(&source).await;
    let folder = tempfile::tempdir().unwrap();
    let more =
        json!({"objects": {"exclude": ["sales.Odd*"]}, "naming": {"table": "ods_{SOURCE_SCHEMA}_{SOURCE_TABLE}"}});
    let lake = folder.path().join("lake");
    let job = database_job(("postgresql", json!({"url": source.url()})), ("lakehouse", json!({"path": lake})), more);
    let report = run_ok(&job).await;
    assert_eq!(report.tables.len(), 4);
    let back = server.fresh_database("fromlake").await;
    for (from, to) in [
        ("public.orders", "public/ods_public_orders"),
        ("sales.items", "sales/ods_sales_items"),
        ("public.log", "public/ods_public_log"),
    ] {
        let name = from.split('.').nth(1).unwrap();
        let read = json!({"path": lake.join(to)});
        crate::support::run_ok(&job_of("lakehouse", read, "postgresql", json!({"url": back.url(), "table": name})))
            .await;
        assert_eq!(rows(&source, from).await, rows(&back, name).await, "{from}");
    }
}

/// MySQL's database as a folder, with types that only it has.
#[tokio::test]
async fn mariadb_to_a_lakehouse() {
    let server = servers::mariadb().await;
    let source = server.fresh_database("tolake").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 1, 3_000, 0).await;
    source
        .execute(
            "CREATE TABLE items (order_id bigint unsigned, line tinyint, what varchar(20) NOT NULL, price decimal(10,2), sent date, \
               flags enum('new', 'paid'), raw varbinary(9), at datetime(6), PRIMARY KEY (order_id, line)); \
             INSERT INTO items VALUES (18446744073709551615, -128, 'ü 表', -0.01, '2024-02-29', 'paid', x'00ff', '2024-01-02 03:04:05.678901'), \
               (1, 1, '', NULL, NULL, NULL, NULL, NULL); \
             CREATE TABLE nokey (a int, b text); INSERT INTO nokey VALUES (1, NULL), (1, 'x'), (1, 'x'); \
             CREATE TABLE empty_one (id int PRIMARY KEY)",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let more = json!({"naming": {"schema": "{SOURCE_DATABASE}", "table": "ods_{SOURCE_TABLE}_${bizdate}"}});
    let job = database_job(("mysql", json!({"url": source.url()})), ("lakehouse", json!({"path": lake})), more);
    let at = LoadOptions { at: Some("2025-11-02".into()), ..LoadOptions::default() };
    for _ in 0..2 {
        let report = weir::run(&job::load(&job.to_string(), &at).unwrap(), RunOptions::default()).await;
        assert_eq!(
            (report.exit_code(), report.tables.len(), report.rows_written),
            (0, 4, 3_005),
            "{:#?}",
            report.error
        );
        // Back into a MariaDB whose tables are the same, and compared there.
        let back = server.fresh_database("fromlake").await;
        for table in ["orders", "items", "nokey"] {
            let like = format!("CREATE TABLE {table} LIKE {}.{table}", source.quote(source.name()));
            back.execute(&like).await;
            let read = json!({"path": lake.join(source.name()).join(format!("ods_{table}_20251101"))});
            let write = json!({"url": back.url(), "table": table});
            crate::support::run_ok(&job_of("lakehouse", read, "mysql", write)).await;
            assert_eq!(rows(&source, table).await, rows(&back, table).await, "{table}");
        }
        source.execute("UPDATE items SET price = 7 WHERE order_id = 1; DELETE FROM nokey WHERE b IS NULL; INSERT INTO nokey VALUES (2, 'ß')").await;
    }
}

/// Mirrors a table of keys 1 and 2 into a partition for each day of three runs: as it is, then the day after without key 1
/// and with another value of key 2, then once more that day, with key 3. What is in the lakehouse after that.
async fn days(name: &str, keyed: &str, objects: Value) -> Vec<String> {
    let source = servers::postgresql().await.fresh_database(name).await;
    source
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
             CREATE TABLE t_2 (id int PRIMARY KEY, v text)",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let more = json!({
        "objects": objects,
        "partition": {"field": "pt", "value": "${yyyymmdd}"},
        "naming": {"schema": "{TARGET_SCHEMA}"},
        "write": {"keyed": keyed},
    });
    let job = database_job(("postgresql", json!({"url": source.url()})), ("lakehouse", json!({"path": lake})), more);
    for (at, sql) in [
        ("2025-11-01", "SELECT 1"),
        ("2025-11-02", "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'B'"),
        ("2025-11-02", "UPDATE t SET v = 'BB'; INSERT INTO t VALUES (3, 'c')"),
    ] {
        source.execute(sql).await;
        let options = LoadOptions { at: Some(at.into()), ..LoadOptions::default() };
        let job = job::load(&job.to_string(), &options).unwrap();
        let report = weir::run(&job, RunOptions::default()).await;
        assert_eq!(report.exit_code(), 0, "{:#?}", report.error);
    }
    source.execute("CREATE TABLE back (id int, v text, pt text)").await;
    let back = json!({"url": source.url(), "table": "back"});
    crate::support::run_ok(&job_of("lakehouse", json!({"path": lake.join("t")}), "postgresql", back)).await;
    let found = source.query("SELECT concat_ws(' ', id, v, pt) FROM back ORDER BY pt, id").await;
    found.into_iter().flatten().flatten().collect()
}

#[tokio::test]
async fn a_partition_of_a_lakehouse_is_written_by_itself() {
    // The key is one of each partition, whatever the mode.
    let both = ["1 a 20251031", "2 b 20251031", "2 BB 20251101", "3 c 20251101"];
    let merged = json!({"merge": [{"into": "t", "from": ["/t(_2)?/"]}]});
    assert_eq!(days("parts", "overwrite", json!({})).await, both);
    assert_eq!(days("upparts", "upsert", json!({})).await, both);
    assert_eq!(days("mergedparts", "upsert", merged).await, both);
}

#[tokio::test]
async fn mariadb_to_postgresql() {
    let source = servers::mariadb().await.fresh_database("maria").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 1, 5_000, 0).await;
    source
        .execute(
            "CREATE TABLE items (order_id bigint, line int, what varchar(20) NOT NULL, PRIMARY KEY (order_id, line)); \
             INSERT INTO items VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'ü'); \
             CREATE TABLE nokey (a int, b text); INSERT INTO nokey VALUES (1, NULL), (1, 'x'), (1, 'x')",
        )
        .await;
    let target = servers::postgresql().await.fresh_database("pg").await;
    let job =
        database_job(("mysql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})), json!({}));
    let report = run_ok(&job).await;
    // The namespace is the source's database.
    let name = |of: &str| format!("{}.{of}", source.name());
    assert_eq!(table(&report, &name("nokey")).rows_written, 3);
    target.execute(&format!("SET search_path = '{}'", source.name())).await;
    for of in ["items", "nokey"] {
        assert_eq!(rows(&source, of).await, rows(&target, &format!("\"{}\".{of}", source.name())).await, "{of}");
    }
    target.execute(&format!("ALTER TABLE \"{}\".orders SET SCHEMA public", source.name())).await;
    orders::assert_same(&orders::rows(&source, "orders").await, &orders::rows(&target, "orders").await);
}

#[tokio::test]
async fn two_servers_are_told_apart_by_the_names_of_their_data_sources() {
    let (maria, mysql) =
        (servers::mariadb().await.fresh_database("north").await, servers::mysql().await.fresh_database("south").await);
    for (database, of) in [(&maria, "north"), (&mysql, "south")] {
        database
            .execute(&format!(
                "CREATE TABLE items (id int PRIMARY KEY, v varchar(20)); INSERT INTO items VALUES (1, '{of}'), (2, NULL); \
                 CREATE TABLE only_{of} (id int PRIMARY KEY); INSERT INTO only_{of} VALUES (7)"
            ))
            .await;
    }
    let target = servers::postgresql().await.fresh_database("compass").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.datasources.json");
    let place = |database: &servers::Database| json!({"type": "mysql", "parameter": {"url": database.url()}});
    std::fs::write(&file, json!({"north": place(&maria), "south": place(&mysql)}).to_string()).unwrap();
    let more = json!({"naming": {"schema": "{SOURCE_DATASOURCE}", "table": "{SOURCE_TABLE}_of_{SOURCE_DATASOURCE}"}});
    let mut job = database_job(("mysql", json!({})), ("postgresql", json!({"url": target.url()})), more);
    let source = |name: &str| json!({"name": "mysql", "parameter": {"datasource": name}});
    job["source"] = json!([source("north"), source("south")]);
    let options = LoadOptions { datasources: Some(file), ..LoadOptions::default() };
    let job = job::load(&job.to_string(), &options).unwrap();
    for _ in 0..2 {
        let report = weir::run(&job, RunOptions::default()).await;
        assert_eq!((report.exit_code(), report.tables.len()), (0, 4), "{:#?}", report.error);
        for (database, of) in [(&maria, "north"), (&mysql, "south")] {
            for name in ["items", &format!("only_{of}")] {
                let there = format!("{of}.{name}_of_{of}");
                assert_eq!(rows(database, name).await, rows(&target, &there).await, "{there}");
            }
        }
    }
}

#[tokio::test]
async fn sqlite_to_a_folder_of_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let shop = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop/shop.db");
    std::fs::copy(shop, &file).unwrap();
    let out = folder.path().join("out");
    let job = database_job(("sqlite", json!({"path": file})), ("files", json!({"path": out})), json!({}));
    let report = run_ok(&job).await;
    assert!(report.tables.len() >= 2, "{:#?}", report.tables);
    for one in &report.tables {
        let name = one.name.as_deref().unwrap();
        let (schema, of) = name.split_once('.').unwrap();
        assert_eq!(schema, "shop");
        // Back into SQLite beside the original, and compared there.
        let again = format!("again_{of}");
        let read = json!({"path": out.join(schema).join(of), "format": "parquet"});
        let write = json!({"path": file, "table": again});
        let back = crate::support::run_ok(&job_of("files", read, "sqlite", write)).await;
        assert_eq!(back.rows_written, one.rows_written, "{name}");
        let dump = async |table: &str| {
            let query = format!("SELECT * FROM \"{table}\" ORDER BY 1, 2");
            let said =
                tokio::process::Command::new("sqlite3").arg(&file).args(["-quote", &query]).output().await.unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let due = dump(of).await;
        assert!(!due.is_empty() && due == dump(&again).await, "{name}: {due}\n{}", dump(&again).await);
    }
    // A second run replaces the files.
    let again = run_ok(&database_job(
        ("sqlite", json!({"path": file})),
        ("files", json!({"path": out})),
        json!({"objects": {"exclude": ["again_*"]}}),
    ))
    .await;
    assert_eq!(again.rows_written, report.rows_written);
}

/// A folder `field=value` for each day; an overwrite replaces that of its own day.
#[tokio::test]
async fn a_partition_of_a_folder_of_files_is_written_by_itself() {
    let source = servers::postgresql().await.fresh_database("partfiles").await;
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let more = json!({"partition": {"field": "pt", "value": "${yyyymmdd}"}, "naming": {"schema": "{TARGET_SCHEMA}"}});
    let job = database_job(("postgresql", json!({"url": source.url()})), ("files", json!({"path": out})), more);
    for (at, sql) in [
        ("2025-11-01", "SELECT 1"),
        ("2025-11-02", "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'B'"),
        ("2025-11-02", "UPDATE t SET v = 'BB'; INSERT INTO t VALUES (3, 'c')"),
    ] {
        source.execute(sql).await;
        let options = LoadOptions { at: Some(at.into()), ..LoadOptions::default() };
        let report = weir::run(&job::load(&job.to_string(), &options).unwrap(), RunOptions::default()).await;
        assert_eq!(report.exit_code(), 0, "{:#?}", report.error);
    }
    for (day, due) in [("20251031", "1a 2b"), ("20251101", "2BB 3c")] {
        source.execute("DROP TABLE IF EXISTS back; CREATE TABLE back (id int, v text)").await;
        let read = json!({"path": out.join("t").join(format!("pt={day}")), "format": "parquet"});
        crate::support::run_ok(&job_of("files", read, "postgresql", json!({"url": source.url(), "table": "back"})))
            .await;
        assert_eq!(source.value("SELECT string_agg(concat(id, v), ' ' ORDER BY id) FROM back").await, due, "{day}");
    }
}

#[tokio::test]
async fn a_plan_shows_everything_and_writes_nothing() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("plan").await, server.fresh_database("planned").await);
    shop(&source).await;
    let more = json!({"write": {"keyed": "upsert"}, "objects": {"include": ["*.*", "gone_one"]},
        "tables": {"log": {"columns": {"nothing": false}}}});
    let job =
        database_job(("postgresql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})), more);
    let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
    let text = plan.to_string();
    for part in [
        "1 database, 2 schemas, 5 tables",
        "mapped     4; failed: 1; gone: 1",
        "order_id, line",
        "upsert never deletes",
        "`nothing`",
        "gone_one is not at the source",
        "numeric(12,2)",
        "sales.Odd Näme (created)",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["database"]["selected"]["tables"], 5);
    assert_eq!(json["entries"].as_array().unwrap().len(), 4);
    assert_eq!(target.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'sales'").await, "0");
    assert_eq!(target.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'weir%'").await, "0");
}
