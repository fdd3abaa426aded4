//! Which tables, and what they are called.

use serde_json::{Value, json};
use weir::{ErrorReport, Only, RunOptions, Status};
use weir_plugins_test::servers::{self, Database};

use super::{database_job, run, run_ok};
use crate::support::load;

async fn source() -> Database {
    let source = servers::mariadb().await.fresh_database("select").await;
    source
        .execute(
            "CREATE TABLE orders (id int PRIMARY KEY, v text, secret text); INSERT INTO orders VALUES (1, 'a', 's'), (2, 'b', 's'), (3, 'c', 's'); \
             CREATE TABLE items (id int, code varchar(9) NOT NULL, UNIQUE KEY (code)); INSERT INTO items VALUES (1, 'x'), (2, 'y'); \
             CREATE TABLE tmp_1 (id int); CREATE VIEW v_orders AS SELECT id FROM orders",
        )
        .await;
    source
}

fn to(source: &Database, target: &Database, more: Value) -> Value {
    let ends = (("mysql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})));
    let mut job = database_job(ends.0, ends.1, more);
    if job["naming"]["schema"].is_null() {
        job["naming"]["schema"] = json!("{TARGET_SCHEMA}");
    }
    job
}

async fn tables(target: &Database) -> Vec<String> {
    let sql = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind = 'r' AND n.nspname !~ '^pg_|^information' AND c.relname NOT LIKE 'weir%' ORDER BY 1";
    target.query(sql).await.into_iter().flatten().flatten().collect()
}

#[tokio::test]
async fn tables_are_chosen_renamed_and_altered_by_the_job() {
    let (source, target) = (source().await, servers::postgresql().await.fresh_database("selected").await);
    let more = json!({
        "objects": {"include": [format!("{}.*", source.name()), "v_orders", "no_such_table"], "exclude": ["tmp_*"]},
        "naming": {"schema": "ods", "table": "{SOURCE_TABLE}_${suffix}"},
        "write": {"keyed": "upsert", "uniqueKey": true},
        "tables": {
            "orders": {"where": "id < 3", "columns": {"secret": false, "v": "value"}},
            "v_orders": {"target": "views.all_orders", "writeMode": "append"},
        },
    });
    let text = to(&source, &target, more).to_string();
    let options = weir::LoadOptions { parameters: vec![("suffix".into(), "d1".into())], ..Default::default() };
    let job = weir::job::load(&text, &options).unwrap();
    for run in 1..=2 {
        let report = weir::run(&job, RunOptions::default()).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
        assert!(
            report.warnings.iter().any(|w| w.contains("no_such_table is not at the source")),
            "{:?}",
            report.warnings
        );
        assert_eq!(tables(&target).await, ["ods.items_d1", "ods.orders_d1", "views.all_orders"]);
        let orders = target.query("SELECT * FROM ods.orders_d1 ORDER BY id").await;
        assert_eq!(orders, [[Some("1".to_owned()), Some("a".into())], [Some("2".into()), Some("b".into())]]);
        // A unique key of the source tells rows apart, and is the target's.
        assert_eq!(target.value("SELECT count(*) FROM ods.items_d1").await, "2");
        // What is appended is there once for each run.
        assert_eq!(target.value("SELECT count(*) FROM views.all_orders").await, (3 * run).to_string());
    }
    let key = target.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'ods.items_d1'::regclass AND contype = 'p'");
    assert_eq!(key.await, "PRIMARY KEY (code)");
}

#[tokio::test]
async fn a_pattern_for_another_database_of_the_server_says_what_a_source_shows() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("here").await, server.fresh_database("there").await);
    source.execute("CREATE TABLE t (id int)").await;
    let ends = (("postgresql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})));
    let job = database_job(ends.0, ends.1, json!({"objects": {"include": ["t", "elsewhere.public.*"]}}));
    let report = run(&job, RunOptions::default()).await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
    let says = |text: &String| {
        text.contains("elsewhere") && text.contains(source.name()) && text.contains("source of its own")
    };
    assert!(report.warnings.iter().any(says), "{:?}", report.warnings);
}

#[tokio::test]
async fn two_tables_on_one_target_are_refused_before_anything_is_written() {
    let (source, target) = (source().await, servers::postgresql().await.fresh_database("clash").await);
    let job = to(&source, &target, json!({"naming": {"table": "all"}}));
    let report = run(&job, RunOptions::default()).await;
    let error: ErrorReport = report.error.clone().unwrap();
    assert_eq!(report.status, Status::Failed);
    assert!(error.message.contains("one target") && error.message.contains("items"), "{}", error.message);
    let planned = weir::plan(&crate::support::load(&job), &RunOptions::default()).await.unwrap_err();
    assert!(planned.message().contains("one target"), "{planned}");
    assert_eq!(tables(&target).await, [""; 0]);
}

#[tokio::test]
async fn a_name_without_its_schema_is_the_same_target_as_one_with_it() {
    let source = source().await;
    let postgresql = servers::postgresql().await.fresh_database("schemaless").await;
    let mariadb = servers::mariadb().await.fresh_database("schemaless").await;
    for (name, target, schema) in [("postgresql", &postgresql, "public"), ("mysql", &mariadb, mariadb.name())] {
        // Before the tables are there, and after that.
        for _ in 0..2 {
            let job = |target_of_orders: &str| {
                let more = json!({
                    "naming": {"schema": "{TARGET_SCHEMA}"},
                    "tables": {"orders": {"target": target_of_orders}},
                });
                let ends = (("mysql", json!({"url": source.url()})), (name, json!({"url": target.url()})));
                database_job(ends.0, ends.1, more)
            };
            let same = job(&format!("{schema}.items"));
            let error = weir::plan(&load(&same), &RunOptions::default()).await.unwrap_err();
            assert!(error.message().contains("one target") && error.message().contains("orders"), "{name}: {error}");
            let report = run(&same, RunOptions::default()).await;
            assert!(report.error.unwrap().message.contains("one target"), "{name}");
            // Of equal names, but in another place.
            run_ok(&job(&format!("weir_elsewhere_{}.items", target.name()))).await;
            assert_eq!(target.value("SELECT count(*) FROM items").await, "2", "{name}");
        }
    }
    mariadb.execute(&format!("DROP DATABASE weir_elsewhere_{}", mariadb.name())).await;
    // A folder below the target's own is another one in any case.
    let folder = tempfile::tempdir().unwrap();
    for name in ["files", "lakehouse"] {
        let more =
            json!({"naming": {"schema": "{TARGET_SCHEMA}"}, "tables": {"orders": {"target": "elsewhere.items"}}});
        let ends = (("mysql", json!({"url": source.url()})), (name, json!({"path": folder.path().join(name)})));
        weir::plan(&load(&database_job(ends.0, ends.1, more)), &RunOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn names_that_the_target_does_not_take_are_reported_or_altered() {
    let source = servers::mysql().await.fresh_database("names").await;
    // 64 letters, which MySQL takes and PostgreSQL does not.
    let long = "t".repeat(64);
    source.execute(&format!("CREATE TABLE {long} (id int PRIMARY KEY); INSERT INTO {long} VALUES (1); CREATE TABLE short (id int PRIMARY KEY)")).await;
    let target = servers::postgresql().await.fresh_database("named").await;
    let report = run(&to(&source, &target, json!({})), RunOptions::default()).await;
    assert_eq!(report.status, Status::PartiallyFailed);
    let error = report.tables.iter().find(|t| t.status == Status::Failed).unwrap().error.clone().unwrap();
    assert!(
        error.message.contains("64 bytes, the target takes 63") && error.message.contains("naming.fix"),
        "{error:?}"
    );
    run_ok(&to(&source, &target, json!({"naming": {"fix": true}}))).await;
    let found = tables(&target).await;
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().any(|name| name.starts_with("public.tttt") && name.len() == "public.".len() + 63),
        "{found:?}"
    );
}

#[tokio::test]
async fn columns_that_the_target_does_not_take_are_reported_or_altered() {
    let source = servers::mysql().await.fresh_database("columns").await;
    let long = "c".repeat(64);
    source.execute(&format!("CREATE TABLE t (id int PRIMARY KEY, {long} int); INSERT INTO t VALUES (1, 2)")).await;
    let target = servers::postgresql().await.fresh_database("columned").await;
    let job = to(&source, &target, json!({}));
    let report = run(&job, RunOptions::default()).await;
    let error = report.tables[0].error.clone().unwrap();
    assert!(error.message.contains("64 bytes") && error.message.contains("naming.fix"), "{error:?}");
    let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
    assert!(plan.to_string().contains(&format!("the column name `{long}`")), "{plan}");
    // Shortened by us and not by the server, the column is the same one in the next run.
    let job = to(&source, &target, json!({"naming": {"fix": true}}));
    let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap().to_string();
    assert!(plan.contains(&long) && plan.contains(&format!("{}_", "c".repeat(54))), "{plan}");
    for _ in 0..2 {
        run_ok(&job).await;
    }
    let sql = "SELECT column_name FROM information_schema.columns WHERE table_name = 't' AND column_name <> 'id'";
    let found = target.query(sql).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0][0].as_ref().unwrap().len(), 63, "{found:?}");
    // A job may name it itself.
    let job = to(&source, &target, json!({"tables": {"t": {"columns": {long: "short"}, "target": "named"}}}));
    run_ok(&job).await;
}

#[tokio::test]
async fn a_plan_says_of_single_tables_too_that_an_upsert_never_deletes() {
    let source = servers::postgresql().await.fresh_database("ups").await;
    source.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)").await;
    let target = servers::postgresql().await.fresh_database("upstarget").await;
    let said = |more: Value| {
        let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
        let job = load(&database_job(("postgresql", from), ("postgresql", to), more));
        async move {
            let plan = weir::plan(&job, &RunOptions::default()).await.unwrap();
            plan.warnings.into_iter().filter(|warning| warning.contains("upsert never deletes")).collect::<Vec<_>>()
        }
    };
    assert!(said(json!({})).await.is_empty());
    let some = said(json!({"tables": {"b": {"writeMode": "upsert"}}})).await;
    assert!(matches!(&some[..], [text] if text.contains("(public.b)")), "{some:?}");
    let all = said(json!({"write": {"keyed": "upsert"}})).await;
    assert!(matches!(&all[..], [text] if text.ends_with("at the target")), "{all:?}");
}

#[tokio::test]
async fn some_tables_of_a_job_run_alone() {
    let (source, target) = (source().await, servers::postgresql().await.fresh_database("some").await);
    let job = to(&source, &target, json!({}));
    let only = |tables: &[&str]| RunOptions {
        only: Only::Tables(tables.iter().map(|t| (*t).to_owned()).collect()),
        ..RunOptions::default()
    };
    let report = run(&job, only(&["items", "tmp_*"])).await;
    assert_eq!((report.status, report.tables.len()), (Status::Succeeded, 2), "{:#?}", report.error);
    assert_eq!(tables(&target).await, ["public.items", "public.tmp_1"]);
    let report = run(&job, only(&["itms"])).await;
    assert!(report.error.unwrap().message.contains("none of the job's tables"));
    // One that cannot be mapped, or is not there, is meant by a pattern as well.
    let mut ill = job.clone();
    ill["tables"] = json!({"items": {"columns": {"nothing": "x"}}});
    ill["objects"] = json!({"include": ["*", "italics"]});
    ill["rules"] = json!({"tableDeleted": "error"});
    let report = run(&ill, only(&["it*", "tmp_*"])).await;
    let mut failed: Vec<_> = report.tables.iter().filter(|table| table.status == Status::Failed).collect();
    failed.sort_by_key(|table| table.source.clone());
    assert_eq!((report.status, report.exit_code()), (Status::PartiallyFailed, 1), "{:#?}", report.tables);
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(failed[0].source == "italics" && failed[1].source.ends_with(".items"), "{failed:#?}");
}

#[tokio::test]
async fn columns_that_differ_in_case_alone_are_told_or_renamed() {
    let source = servers::postgresql().await.fresh_database("letters").await;
    source
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, \"Note\" text, note text); INSERT INTO t VALUES (1, 'big', 'small');
             CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)",
        )
        .await;
    let target = servers::mariadb().await.fresh_database("letters").await;
    let job = |fix: bool| {
        let more = json!({"naming": {"schema": "{TARGET_SCHEMA}", "fix": fix}});
        database_job(("postgresql", json!({"url": source.url()})), ("mysql", json!({"url": target.url()})), more)
    };
    let planned = weir::plan(&load(&job(false)), &RunOptions::default()).await.unwrap().database.unwrap();
    assert_eq!((planned.mapped, planned.failed.len()), (1, 1), "{:#?}", planned.failed);
    let reason = &planned.failed[0].reason;
    assert!(reason.contains("`note`") && reason.contains("naming.fix"), "{reason}");
    for _ in 0..2 {
        run_ok(&job(true)).await;
        let row = target.query("SELECT * FROM t").await;
        let row: Vec<_> = row.into_iter().flatten().flatten().collect();
        assert_eq!(row, ["1", "big", "small"]);
    }
    // Delta tells tables apart by case, and columns not.
    let lake = tempfile::tempdir().unwrap();
    let job = |fix: bool| {
        let more = json!({"naming": {"schema": "s", "fix": fix}});
        database_job(("postgresql", json!({"url": source.url()})), ("lakehouse", json!({"path": lake.path()})), more)
    };
    let planned = weir::plan(&load(&job(false)), &RunOptions::default()).await.unwrap().database.unwrap();
    assert!(planned.failed.len() == 1 && planned.failed[0].reason.contains("naming.fix"), "{:#?}", planned.failed);
    for _ in 0..2 {
        run_ok(&job(true)).await;
    }
    let write = json!({"url": target.url(), "table": "back", "createTable": true});
    let read = json!({"path": lake.path().join("s/t")});
    run_ok(&crate::support::job_of("lakehouse", read, "mysql", write)).await;
    let row: Vec<_> = target.query("SELECT * FROM back").await.into_iter().flatten().flatten().collect();
    assert_eq!(row, ["1", "big", "small"]);
}

#[tokio::test]
async fn a_table_without_a_key_is_upserted_by_the_one_that_the_job_names() {
    let source = servers::mariadb().await.fresh_database("named").await;
    source
        .execute(
            "CREATE TABLE t (a int NOT NULL, b int NOT NULL, v text); INSERT INTO t VALUES (1, 1, 'x'), (1, 2, 'y')",
        )
        .await;
    let target = servers::postgresql().await.fresh_database("namedkey").await;
    let job = to(&source, &target, json!({"write": {"keyed": "upsert"}, "tables": {"t": {"key": ["b", "a"]}}}));
    for (sql, due) in [
        ("SELECT 1", "11x 12y"),
        (
            "UPDATE t SET v = 'Y' WHERE b = 2; DELETE FROM t WHERE b = 1; INSERT INTO t VALUES (2, 1, 'z')",
            "11x 12Y 21z",
        ),
    ] {
        source.execute(sql).await;
        let report = run_ok(&job).await;
        assert_eq!(report.tables.len(), 1);
        assert_eq!(target.value("SELECT string_agg(concat(a, b, v), ' ' ORDER BY a, b) FROM t").await, due);
    }
    let planned = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
    assert_eq!(planned.entries[0].keys, ["b", "a"]);
}

/// Of lakehouses and folders tables are folders: what cannot be one, or not with these files in it, is told or renamed.
#[tokio::test]
async fn names_that_are_no_folders_are_told_or_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("names.db");
    let long = "l".repeat(201);
    let names = ["..", ".", "a/b", "a:b", "what?", "new\nline", &long, "plain", "größe 1"];
    let create =
        |name: &&str| format!("CREATE TABLE \"{name}\" (id INTEGER PRIMARY KEY); INSERT INTO \"{name}\" VALUES (7);");
    let sql: String = names.iter().map(create).collect();
    let made = tokio::process::Command::new("sqlite3").arg(&file).arg(sql).status().await.unwrap();
    assert!(made.success());
    for target in ["lakehouse", "files"] {
        let out = folder.path().join(target);
        let job = |fix: bool| {
            let more = json!({"naming": {"schema": "s", "fix": fix}});
            database_job(("sqlite", json!({"path": file})), (target, json!({"path": out})), more)
        };
        let planned = weir::plan(&load(&job(false)), &RunOptions::default()).await.unwrap().database.unwrap();
        assert_eq!((planned.mapped, planned.failed.len()), (2, 7), "{target}: {:#?}", planned.failed);
        assert!(planned.failed.iter().all(|table| table.reason.contains("naming.fix")), "{:#?}", planned.failed);
        for _ in 0..2 {
            run_ok(&job(true)).await;
        }
        let mut found: Vec<_> = std::fs::read_dir(out.join("s")).unwrap().map(|one| one.unwrap().file_name()).collect();
        found.sort();
        assert_eq!(found.len(), names.len(), "{target}: {found:?}");
        for name in &found {
            let name = name.to_str().unwrap();
            let read = json!({"path": out.join("s").join(name), "format": "parquet"});
            let read = if target == "files" { read } else { json!({"path": out.join("s").join(name)}) };
            let back = folder.path().join(format!("{target}.db"));
            let write = json!({"path": back, "table": "back", "createTable": true, "writeMode": "overwrite"});
            let report = crate::support::run_ok(&crate::support::job_of(target, read, "sqlite", write)).await;
            assert_eq!(report.rows_written, 1, "{target} {name}");
        }
    }
}

#[tokio::test]
async fn names_with_dots_in_them_are_names_of_their_own() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("dots").await, server.fresh_database("dotstoo").await);
    source
        .execute(
            r#"CREATE SCHEMA a; CREATE TABLE a."b.c" (id int PRIMARY KEY); INSERT INTO a."b.c" VALUES (1);
               CREATE SCHEMA "a.b"; CREATE TABLE "a.b".c (id int PRIMARY KEY, v text); INSERT INTO "a.b".c VALUES (2, 'x')"#,
        )
        .await;
    let mut job = database_job(
        ("postgresql", json!({"url": source.url()})),
        ("postgresql", json!({"url": target.url()})),
        json!({"name": "dots"}),
    );
    let state = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let options = RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
        let report = run(&job, options).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
        for table in [r#"a."b.c""#, r#""a.b".c"#] {
            assert_eq!(super::rows(&target, table).await, super::rows(&source, table).await);
            assert_eq!(super::table(&report, table).rows_written, 1);
        }
    }
    // What differs in nothing is still refused.
    job["naming"] = json!({"schema": "one", "table": "t"});
    let error = run(&job, RunOptions::default()).await.error.unwrap();
    assert!(error.message.contains("several tables would land on one target"), "{error:?}");
}

#[tokio::test]
async fn what_excludes_nothing_is_told_and_a_reserved_name_fails() {
    let source = servers::postgresql().await.fresh_database("reserved").await;
    source.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE TABLE weir_y (id int)").await;
    let folder = tempfile::tempdir().unwrap();
    let ends = (("postgresql", json!({"url": source.url()})), ("files", json!({"path": folder.path()})));
    let mut job = database_job(ends.0, ends.1, json!({"objects": {"include": ["t"], "exclude": ["tmp_*"]}}));
    let report = run_ok(&job).await;
    assert!(report.warnings.iter().any(|w| w.contains("exclude: `tmp_*` matches no table")), "{:?}", report.warnings);
    job["objects"] = json!({"include": ["t", "weir_y"]});
    let report = run(&job, RunOptions::default()).await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.tables);
    let failed = report.tables.iter().find(|table| table.source == "weir_y").unwrap();
    assert!(failed.error.as_ref().unwrap().message.contains("begin with `weir_`"), "{failed:#?}");
}

#[tokio::test]
async fn a_target_inside_of_another_one_is_refused() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop/shop.db");
    let folder = tempfile::tempdir().unwrap();
    for target in ["files", "lakehouse"] {
        let ends = (("sqlite", json!({"path": path})), (target, json!({"path": folder.path().join(target)})));
        // The others are in the folder `shop`.
        let mut job = database_job(ends.0, ends.1, json!({"tables": {"orders": {"target": "shop"}}}));
        let error = weir::plan(&load(&job), &RunOptions::default()).await.unwrap_err();
        assert!(error.message().contains("the target shop would be the folder"), "{error}");
        job["tables"]["orders"]["target"] = "shops".into();
        run_ok(&job).await;
    }
}

/// What runs keep at a database is none of its tables, whatever a pattern says.
async fn selects_only_t(plugin: &str, from: Value) {
    let folder = tempfile::tempdir().unwrap();
    for include in [json!(["*"]), json!(["weir_*", "*.weir_*", "t"]), json!(["/.*/"])] {
        let ends = ((plugin, from.clone()), ("files", json!({"path": folder.path(), "format": "csv"})));
        let report = run_ok(&database_job(ends.0, ends.1, json!({"objects": {"include": include}}))).await;
        let name = |source: &str| source.rsplit('.').next().unwrap().trim_matches('"').to_owned();
        let names: Vec<_> = report.tables.iter().map(|table| name(&table.source)).collect();
        assert_eq!(names, ["t"], "{plugin}: {include}");
    }
}

/// A table of the user's, and what runs leave beside it when they die.
const WITH_OUR_OWN: &str = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); \
                            CREATE TABLE weir_commits (run_id varchar(120), split bigint); \
                            CREATE TABLE weir_0191abcd_0123456789abcdef (id int PRIMARY KEY)";

#[tokio::test]
async fn patterns_never_select_what_runs_keep_in_postgresql() {
    let source = servers::postgresql().await.fresh_database("ownout").await;
    source.execute(WITH_OUR_OWN).await;
    selects_only_t("postgresql", json!({"url": source.url()})).await;
}

#[tokio::test]
async fn patterns_never_select_what_runs_keep_in_mysql() {
    let source = servers::mariadb().await.fresh_database("ownout").await;
    source.execute(WITH_OUR_OWN).await;
    selects_only_t("mysql", json!({"url": source.url()})).await;
}

#[tokio::test]
async fn patterns_never_select_what_runs_keep_in_sqlite() {
    use sqlx::{Connection, Executor};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("source.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(sqlx::raw_sql(WITH_OUR_OWN)).await.unwrap();
    connection.close().await.unwrap();
    selects_only_t("sqlite", json!({"path": file})).await;
}
