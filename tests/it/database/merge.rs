//! Shards that become one table.

use serde_json::{Value, json};
use weir::{ErrorReport, RunOptions, Status};
use weir_plugins_test::servers::{self, Database};

use super::{database_job, run, run_ok, table};
use crate::support::load;

/// `shop_0..shop_3`, each with `orders_00..orders_15` of ten rows whose keys differ everywhere.
async fn shards() -> (Vec<Database>, String) {
    let server = servers::mariadb().await;
    let mut shops = Vec::new();
    for shop in 0..4u32 {
        let database = server.fresh_database(&format!("shop_{shop}")).await;
        let mut sql = String::new();
        for part in 0..16u32 {
            let table = format!("orders_{part:02}");
            sql += &format!("CREATE TABLE {table} (id bigint PRIMARY KEY, shop int, v varchar(30)) ENGINE=InnoDB;\n");
            let row = |n: u32| format!("({}, {shop}, 'v{n} of {part}')", (shop * 16 + part) * 10 + n);
            sql += &format!("INSERT INTO {table} VALUES {};\n", (0..10).map(row).collect::<Vec<_>>().join(", "));
        }
        database.execute(&(sql + "CREATE TABLE other (id int PRIMARY KEY)")).await;
        shops.push(database);
    }
    let pattern = format!("/weir_shop_[0-9]_{}_[0-9]+/./orders_[0-9]+/", std::process::id());
    (shops, pattern)
}

async fn everything(shops: &[Database]) -> Vec<Vec<Option<String>>> {
    let mut all = Vec::new();
    for shop in shops {
        for part in 0..16 {
            all.extend(shop.query(&format!("SELECT id, shop, v FROM orders_{part:02}")).await);
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn shards_are_upserted_into_one_table_twice_without_doubles() {
    let (shops, pattern) = shards().await;
    let target = servers::postgresql().await.fresh_database("merged").await;
    let more = json!({
        "objects": {"merge": [{"into": "orders", "from": [pattern]}]},
        "naming": {"schema": "{TARGET_SCHEMA}"},
        "write": {"keyed": "upsert"},
    });
    let job =
        database_job(("mysql", json!({"url": shops[0].url()})), ("postgresql", json!({"url": target.url()})), more);
    for run in 0..2 {
        let report = run_ok(&job).await;
        assert_eq!((report.tables.len(), report.rows_read), (64, 640 + run), "run {run}");
        let mut found = target.query("SELECT id, shop, v FROM orders").await;
        found.sort();
        assert_eq!(found, everything(&shops).await, "run {run}");
        // Before the second run a row changes, one goes and one comes.
        if run == 0 {
            shops[2]
                .execute(
                    "UPDATE orders_07 SET v = 'changed' WHERE id = 391; INSERT INTO orders_07 VALUES (10000, 2, 'new')",
                )
                .await;
        }
    }
    assert_eq!(target.value("SELECT count(*) FROM orders").await, "641");
    assert_eq!(target.value("SELECT v FROM orders WHERE id = 391").await, "changed");
    // Nothing but the merge was asked for.
    assert_eq!(target.value("SELECT count(*) FROM pg_class WHERE relname = 'other'").await, "0");
}

#[tokio::test]
async fn origin_columns_tell_equal_keys_apart() {
    let server = servers::mariadb().await;
    let (a, b) = (server.fresh_database("left").await, server.fresh_database("right").await);
    for (database, v) in [(&a, "a"), (&b, "b")] {
        database
            .execute(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, '{v}'), (2, '{v}{v}')"
            ))
            .await;
    }
    let target = servers::postgresql().await.fresh_database("origin").await;
    let merge = |origin: bool| {
        json!({
            "objects": {"merge": [{"into": "public.t", "from": [format!("{}.t", a.name()), format!("{}.t", b.name())], "origin": origin}]},
            "write": {"keyed": "upsert"},
        })
    };
    let ends = |more: Value| {
        database_job(("mysql", json!({"url": a.url()})), ("postgresql", json!({"url": target.url()})), more)
    };
    for _ in 0..2 {
        run_ok(&ends(merge(true))).await;
        let found =
            target.query("SELECT id, v, source_database, source_table FROM t ORDER BY source_database, id").await;
        let texts: Vec<String> =
            found.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
        let row = |id: i32, v: &str, database: &Database| format!("{id} {v} {} t", database.name());
        assert_eq!(texts, [row(1, "a", &a), row(2, "aa", &a), row(1, "b", &b), row(2, "bb", &b)]);
    }
    // Without them the clash is found, and nothing is lost by it.
    target.execute("DROP TABLE t").await;
    let report = run(&ends(merge(false)), RunOptions::default()).await;
    assert_eq!(report.status, Status::Failed);
    let error: &ErrorReport = table(&report, "public.t").error.as_ref().unwrap();
    assert!(error.message.contains("key"), "{error:?}");
    let overwrite = json!({"objects": merge(false)["objects"], "write": {"keyed": "overwrite"}});
    let report = run(&ends(overwrite), RunOptions::default()).await;
    assert_eq!(report.status, Status::Failed, "{:#?}", report.tables);
    assert_eq!(report.rows_written, 0);
}

#[tokio::test]
async fn shards_on_two_servers_are_one_table() {
    let (maria, mysql) =
        (servers::mariadb().await.fresh_database("one").await, servers::mysql().await.fresh_database("two").await);
    for (database, first) in [(&maria, 1), (&mysql, 100)] {
        database
            .execute(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, v varchar(9)); INSERT INTO t VALUES ({first}, 'x'), ({}, 'y')",
                first + 1
            ))
            .await;
    }
    let target = servers::postgresql().await.fresh_database("both").await;
    let mut job = database_job(
        ("mysql", json!({})),
        ("postgresql", json!({"url": target.url()})),
        json!({"objects": {"merge": [{"into": "public.t", "from": ["*.t"], "origin": true}]}}),
    );
    job["source"] = json!([
        {"name": "mysql", "parameter": {"url": maria.url()}},
        {"name": "mysql", "parameter": {"url": mysql.url()}},
    ]);
    // Of all databases of the servers only these two.
    job["objects"]["merge"][0]["from"] = json!([format!("{}.t", maria.name()), format!("{}.t", mysql.name())]);
    run_ok(&job).await;
    let found = target.query("SELECT id, source_datasource FROM t ORDER BY id").await;
    let texts: Vec<String> =
        found.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(texts, ["1 mysql", "2 mysql", "100 mysql2", "101 mysql2"]);
}

#[tokio::test]
async fn tables_that_are_not_alike_are_not_merged_and_the_differences_are_listed() {
    let source = servers::postgresql().await.fresh_database("unlike").await;
    source
        .execute(
            "CREATE TABLE t_1 (id int PRIMARY KEY, v text); CREATE TABLE t_2 (id bigint PRIMARY KEY, w text); \
             CREATE TABLE fine (id int PRIMARY KEY); INSERT INTO fine VALUES (1)",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let more = json!({"objects": {"include": ["fine"], "merge": [{"into": "t", "from": ["/t_[0-9]/"]}]}});
    let job =
        database_job(("postgresql", json!({"url": source.url()})), ("files", json!({"path": folder.path()})), more);
    let report = run(&job, RunOptions::default()).await;
    assert_eq!((report.status, report.exit_code()), (Status::PartiallyFailed, 1));
    assert_eq!(table(&report, "public.fine").status, Status::Succeeded);
    let error = table(&report, "public.t").error.as_ref().unwrap();
    for part in ["t_2 has `id` as bigint instead of integer", "no column `v`", "column `w` more"] {
        assert!(error.message.contains(part), "{}", error.message);
    }
}

#[tokio::test]
async fn a_key_in_two_shards_is_refused_or_told_of() {
    let source = servers::postgresql().await.fresh_database("doubled").await;
    source
        .execute(
            "CREATE TABLE t_1 (id int PRIMARY KEY, v text); CREATE TABLE t_2 (id int PRIMARY KEY, v text); \
             INSERT INTO t_1 VALUES (1, 'a'); INSERT INTO t_2 VALUES (1, 'b')",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let job = |target: &str, origin: bool, keyed: &str| {
        let path = folder.path().join(format!("{target} {origin} {keyed}"));
        let (target, format) = target.split_once(' ').unwrap_or((target, ""));
        let more = json!({
            "objects": {"merge": [{"into": "t", "from": ["/t_[0-9]/"], "origin": origin}]},
            "write": {"keyed": keyed},
        });
        let mut parameters = json!({"path": path});
        if !format.is_empty() {
            parameters["format"] = format.into();
        }
        database_job(("postgresql", json!({"url": source.url()})), (target, parameters), more)
    };
    let told = |warnings: &[String]| warnings.iter().filter(|w| w.contains("will be there twice")).count();
    let blind = ["files csv", "files jsonl"];
    let looking = ["lakehouse", "files", "files parquet", "files arrow"];
    let both = |target: &&str| [(target.to_string(), "overwrite"), (target.to_string(), "append")];
    for (target, mode) in blind.iter().chain(&looking).flat_map(both) {
        for origin in [false, true] {
            let expected = usize::from(!origin);
            if !origin && looking.contains(&target.as_str()) {
                continue;
            }
            let job = job(&target, origin, mode);
            let planned = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
            assert_eq!(told(&planned.warnings), expected, "{target} {origin}: {:?}", planned.warnings);
            let report = run_ok(&job).await;
            assert_eq!(told(&report.warnings), expected, "{target} {origin}: {:?}", report.warnings);
            assert_eq!(report.rows_written, 2, "no row takes another one's place");
        }
    }
    // Others look at the rows, and refuse them.
    for (target, mode) in looking.iter().flat_map(both).chain([("lakehouse".to_owned(), "upsert")]) {
        let job = job(&target, false, mode);
        let planned = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
        assert_eq!(told(&planned.warnings), 0, "{target} {mode}: {:?}", planned.warnings);
        let report = run(&job, RunOptions::default()).await;
        assert_eq!((report.status, told(&report.warnings)), (Status::Failed, 0), "{:#?}", report.tables);
        let error = table(&report, "public.t").error.as_ref().unwrap();
        assert!(error.message.contains("more than once"), "{target} {mode}: {error:?}");
        assert_eq!(report.rows_written, 0);
    }
    // Mended, they are written after all.
    source.execute("UPDATE t_2 SET id = 2").await;
    for target in ["files", "files arrow"] {
        let report = run_ok(&job(target, false, "overwrite")).await;
        assert_eq!((report.rows_written, told(&report.warnings)), (2, 0), "{target}");
    }
    source.execute("UPDATE t_2 SET id = 1").await;
    // A table with a key refuses them by itself.
    let file = folder.path().join("t.db");
    let mut other = job("sqlite", false, "overwrite");
    other["target"]["parameter"]["path"] = json!(file);
    let report = run(&other, RunOptions::default()).await;
    assert_eq!((report.status, told(&report.warnings)), (Status::Failed, 0), "{:#?}", report.tables);
}

#[tokio::test]
async fn words_for_a_part_of_a_merge_are_refused_and_not_ignored() {
    let source = servers::postgresql().await.fresh_database("parted").await;
    source
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE t_1 (id int PRIMARY KEY, v text); \
             CREATE TABLE alone (id int PRIMARY KEY, secret text); \
             INSERT INTO t VALUES (1, 'a'), (2, 'b'); INSERT INTO t_1 VALUES (3, 'c')",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let job = |tables: Value| {
        let more = json!({"objects": {"include": ["alone"], "merge": [{"into": "t", "from": ["/t(_[0-9])?/"]}]},
            "tables": tables});
        database_job(("postgresql", json!({"url": source.url()})), ("files", json!({"path": folder.path()})), more)
    };
    for (words, text) in [
        (json!({"t_1": {"where": "id > 9"}}), "t_1"),
        (json!({"t_?": {"where": "id > 9"}}), "t_?"),
        (json!({"t": {"where": "id > 1"}, "t_1": {"where": "id > 9"}}), "t_1"),
    ] {
        let report = run(&job(words), RunOptions::default()).await;
        assert_eq!((report.status, report.exit_code()), (Status::PartiallyFailed, 1));
        let failed = report.tables.iter().find(|table| table.status != Status::Succeeded).unwrap();
        let error = &failed.error.as_ref().unwrap().message;
        assert!(error.contains(&format!("`{text}` under `tables`")) && error.contains("say under `t`"), "{error}");
        assert!(!report.warnings.iter().any(|warning| warning.contains("none of the job's")), "{:?}", report.warnings);
    }
    // A pattern gives way to what is said of the merge; what nothing matches is still told.
    let words = json!({"t": {"where": "id > 1"}, "*": {"columns": {"secret": false}}, "nobody": {"where": "true"}});
    let report = run_ok(&job(words)).await;
    assert_eq!(report.rows_written, 2, "{:#?}", report.tables);
    let told: Vec<_> = report.warnings.iter().filter(|warning| warning.contains("none of the job's")).collect();
    assert!(matches!(&told[..], [text] if text.contains("`nobody`")), "{told:?}");
    let gives_way = |warning: &&String| warning.contains("`*` under `tables` does not hold for tables that are merged");
    assert_eq!(report.warnings.iter().filter(gives_way).count(), 1, "{:?}", report.warnings);
    // A table that failed to map is the job's all the same.
    let report = run(&job(json!({"alone": {"columns": {"sekret": false}}})), RunOptions::default()).await;
    assert_eq!(report.status, Status::PartiallyFailed);
    assert!(!report.warnings.iter().any(|warning| warning.contains("none of the job's")), "{:?}", report.warnings);
}

#[tokio::test]
async fn servers_that_are_read_in_other_ways_are_not_merged() {
    let server = servers::postgresql().await;
    let (a, b) = (server.fresh_database("way").await, server.fresh_database("otherway").await);
    for (database, id) in [(&a, 1), (&b, 2)] {
        let sql =
            format!("CREATE TABLE t (id int PRIMARY KEY, at timestamp); INSERT INTO t VALUES ({id}, '2024-01-01')");
        database.execute(&(sql + "; CREATE TABLE alone (id int PRIMARY KEY)")).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let job = |of_a: Value, of_b: Value| {
        let more = json!({
            "objects": {"include": ["alone"], "merge": [{"into": "t", "from": ["t"]}]},
            "naming": {"schema": "{SOURCE_DATASOURCE}"},
        });
        let mut job = database_job(("postgresql", json!({})), ("files", json!({"path": folder.path()})), more);
        let source = |database: &Database, more: Value| {
            let mut parameter = json!({"url": database.url()});
            parameter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"name": "postgresql", "parameter": parameter})
        };
        job["source"] = json!([source(&a, of_a), source(&b, of_b)]);
        job
    };
    for (of_a, of_b, text) in [
        (json!({"timeZone": "Europe/Berlin"}), json!({}), "(Europe/Berlin and none)"),
        (json!({}), json!({"session": ["SET statement_timeout = 0"]}), "differ in `session`"),
    ] {
        let job = job(of_a, of_b);
        let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap().database.unwrap();
        let reasons: Vec<_> = plan.failed.iter().map(|table| table.reason.as_str()).collect();
        assert!(matches!(&reasons[..], [reason] if reason.contains(text)), "{reasons:?}");
        assert!(reasons[0].contains("postgresql and postgresql2"), "{reasons:?}");
        // The others go on.
        let report = run(&job, RunOptions::default()).await;
        assert_eq!((report.status, report.tables.len()), (Status::PartiallyFailed, 3), "{:#?}", report.tables);
    }
    let alike = || json!({"timeZone": "Europe/Berlin", "session": ["SET statement_timeout = 0"]});
    assert_eq!(run_ok(&job(alike(), alike())).await.rows_written, 2);
}

#[tokio::test]
async fn what_is_null_in_one_shard_may_be_null_in_the_merge() {
    let source = servers::postgresql().await.fresh_database("nullable").await;
    source
        .execute(
            "CREATE TABLE t_1 (id int PRIMARY KEY, v text NOT NULL); CREATE TABLE t_2 (id int PRIMARY KEY, v text); \
             INSERT INTO t_1 VALUES (1, 'a'); INSERT INTO t_2 VALUES (2, NULL)",
        )
        .await;
    for (name, server) in [("postgresql", servers::postgresql().await), ("mysql", servers::mariadb().await)] {
        let target = server.fresh_database("nulled").await;
        let more = json!({"objects": {"merge": [{"into": "t", "from": ["/t_[0-9]/"]}]},
            "naming": {"schema": "{TARGET_SCHEMA}"}});
        let job =
            database_job(("postgresql", json!({"url": source.url()})), (name, json!({"url": target.url()})), more);
        let report = run_ok(&job).await;
        assert_eq!((report.rows_written, report.rows_dirty), (2, 0), "{name}");
        assert_eq!(target.value("SELECT count(*) FROM t WHERE v IS NULL").await, "1", "{name}");
    }
}

#[tokio::test]
async fn a_key_in_two_shards_is_seen_without_a_key_of_the_target_too() {
    let source = servers::postgresql().await.fresh_database("seen").await;
    source
        .execute(
            "CREATE TABLE t_1 (id int PRIMARY KEY, v text); CREATE TABLE t_2 (id int PRIMARY KEY, v text); \
             INSERT INTO t_1 VALUES (1, 'a'); INSERT INTO t_2 VALUES (1, 'b')",
        )
        .await;
    for (name, server) in [("postgresql", servers::postgresql().await), ("mysql", servers::mariadb().await)] {
        let target = server.fresh_database("keyless").await;
        target.execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (7, 'old')").await;
        let job = |keyed: &str| {
            let more = json!({"objects": {"merge": [{"into": "t", "from": ["/t_[0-9]/"]}]},
                "naming": {"schema": "{TARGET_SCHEMA}"}, "write": {"keyed": keyed}});
            database_job(("postgresql", json!({"url": source.url()})), (name, json!({"url": target.url()})), more)
        };
        let report = run(&job("overwrite"), RunOptions::default()).await;
        let error = table(&report, "t").error.clone().unwrap();
        assert!(error.message.contains("duplicateKeys"), "{name}: {error:?}");
        assert_eq!(target.query("SELECT id FROM t").await, [[Some("7".to_owned())]], "{name}: the old rows stay");
        // What is appended is seen at once, so that nobody can compare: this is said.
        let plan = weir::plan(&load(&job("append")), &RunOptions::default()).await.unwrap();
        let warnings = &plan.entries[0].warnings;
        assert!(warnings.iter().any(|w| w.contains("no unique key over (id)")), "{name}: {warnings:?}");
        let report = run_ok(&job("append")).await;
        assert!(report.warnings.iter().any(|w| w.contains("no unique key over (id)")), "{:?}", report.warnings);
        // With such a key nothing needs to be said or compared.
        target.execute("DELETE FROM t; CREATE UNIQUE INDEX t_id ON t (id)").await;
        let plan = weir::plan(&load(&job("append")), &RunOptions::default()).await.unwrap();
        assert!(!plan.to_string().contains("no unique key"), "{name}: {plan}");
    }
}

/// The tables of one transaction have words of their own about equal keys, whichever of them comes first.
#[tokio::test]
async fn a_key_in_two_shards_keeps_all_tables_from_coming_that_are_published_together() {
    let source = servers::postgresql().await.fresh_database("clash").await;
    source
        .execute(
            "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE t_1 (id int PRIMARY KEY, v text); \
             CREATE TABLE t_2 (id int PRIMARY KEY, v text); \
             INSERT INTO a SELECT g, repeat('new', 100) FROM generate_series(1, 2000) g; \
             INSERT INTO t_1 VALUES (1, 'a'); INSERT INTO t_2 VALUES (1, 'b')",
        )
        .await;
    for (name, server) in [("postgresql", servers::postgresql().await), ("mysql", servers::mariadb().await)] {
        let target = server.fresh_database("clashed").await;
        target
            .execute(
                "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE t (id int, v text); \
                 INSERT INTO a VALUES (7, 'old'); INSERT INTO t VALUES (7, 'old')",
            )
            .await;
        let more = json!({"objects": {"include": ["a"], "merge": [{"into": "t", "from": ["/t_[0-9]/"]}]},
            "naming": {"schema": "{TARGET_SCHEMA}"}, "write": {"keyed": "overwrite"}, "publish": "all"});
        let job =
            database_job(("postgresql", json!({"url": source.url()})), (name, json!({"url": target.url()})), more);
        let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
        // The largest one is the first.
        assert!(plan.entries[0].table.ends_with(".a"), "{name}: {}", plan.entries[0].table);
        let report = run(&job, RunOptions::default()).await;
        assert_eq!((report.status, report.rows_written), (Status::Failed, 0), "{name}: {:#?}", report.tables);
        for table in ["a", "t"] {
            let old = target.query(&format!("SELECT id FROM {table}")).await;
            assert_eq!(old, [[Some("7".to_owned())]], "{name}: {table}: {:#?}", report.tables);
        }
    }
}
