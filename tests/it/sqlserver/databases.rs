//! Whole-database jobs over several databases of one SQL Server.

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{ChangeKind, Only, Report, RunOptions, Status};
use weir_plugins_test::servers::{self, Database};

use crate::database::{database_job, run, run_ok, table};
use crate::evolution::Mirror;
use crate::orders;
use crate::support::load;

/// Two databases with orders of their own, the first of which the job connects to; and a glob and an expression for both.
async fn shops(name: &str) -> Option<([Database; 2], [String; 2])> {
    let server = servers::sqlserver()?;
    let shops = [server.fresh_database(&format!("{name}_1")).await, server.fresh_database(&format!("{name}_2")).await];
    for (n, shop) in (0..).zip(&shops) {
        orders::create(shop, "orders").await;
        orders::fill(shop, "orders", n * 1_000 + 1, n * 1_000 + 500, n + 1).await;
    }
    let process = std::process::id();
    Some((shops, [format!("weir_{name}_?_{process}_*"), format!("/weir_{name}_[12]_{process}_[0-9]+/")]))
}

fn from(shop: &Database) -> (&'static str, Value) {
    ("sqlserver", json!({"url": shop.url()}))
}

fn warns(report: &Report, words: &[&str]) -> bool {
    report.warnings.iter().any(|warning| words.iter().all(|word| warning.contains(word)))
}

#[tokio::test]
async fn a_glob_takes_the_tables_of_two_databases() {
    let Some((shops, [glob, _])) = shops("glob").await else { return };
    shops[1].execute("CREATE SCHEMA sales").await;
    shops[1].execute("CREATE TABLE sales.extra (id int PRIMARY KEY); INSERT INTO sales.extra VALUES (7)").await;
    let target = servers::postgresql().await.fresh_database("globbed").await;
    let more = json!({
        "objects": {"include": [format!("{glob}.*.*"), "no_such_database.dbo.*", "no_such_database.dbo.t"]},
        "naming": {"schema": "{SOURCE_DATABASE}"},
    });
    let job = database_job(from(&shops[0]), ("postgresql", json!({"url": target.url()})), more);
    for round in ["the first run", "the second run"] {
        let report = run_ok(&job).await;
        assert_eq!((report.tables.len(), report.rows_written), (3, 1_001), "{round}");
        for name in ["no_such_database.dbo.*", "no_such_database.dbo.t"] {
            assert!(warns(&report, &[name, "no such database", shops[1].name()]), "{:?}", report.warnings);
        }
        for shop in &shops {
            target
                .execute(&format!(
                    "DROP VIEW IF EXISTS found; CREATE VIEW found AS SELECT * FROM {}.orders",
                    shop.name()
                ))
                .await;
            orders::assert_same(&orders::rows(shop, "orders").await, &orders::rows(&target, "found").await);
        }
        assert_eq!(target.value(&format!("SELECT id FROM {}.extra", shops[1].name())).await, "7", "{round}");
        shops[1].execute("UPDATE orders SET note = N'new' WHERE id % 2 = 0").await;
    }
}

#[tokio::test]
async fn without_a_database_a_pattern_means_the_connections_own() {
    let Some((shops, _)) = shops("own").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let job = database_job(
        from(&shops[1]),
        ("lakehouse", json!({"path": folder.path()})),
        json!({"objects": {"include": ["dbo.orders"]}}),
    );
    let report = run_ok(&job).await;
    assert_eq!((report.tables.len(), report.rows_written), (1, 500));
    assert!(!warns(&report, &["database `"]) && !warns(&report, &[shops[0].name()]), "{:?}", report.warnings);
}

#[tokio::test]
async fn a_table_of_another_database_is_not_replaced_by_its_own_rows() {
    let Some((shops, _)) = shops("itself").await else { return };
    let more = json!({"objects": {"include": [format!("{}.dbo.orders", shops[1].name())]}});
    let to = |shop: &Database| ("sqlserver", json!({"url": shop.url()}));
    let report = run(&database_job(from(&shops[0]), to(&shops[1]), more.clone()), RunOptions::default()).await;
    assert_ne!(report.status, Status::Succeeded);
    let said = serde_json::to_string(&report).unwrap();
    assert!(said.contains("is a table that the job reads"), "{said}");
    assert_eq!(shops[1].value("SELECT count(*) FROM orders").await, "500");
    // A table of that name in the database that the job connects to is another one.
    run_ok(&database_job(from(&shops[0]), to(&shops[0]), more)).await;
    orders::assert_same(&orders::rows(&shops[1], "orders").await, &orders::rows(&shops[0], "orders").await);
}

#[tokio::test]
async fn shards_of_two_databases_become_one_table() {
    let Some((shops, [_, expression])) = shops("shard").await else { return };
    // The same key in both.
    for shop in &shops {
        orders::fill(shop, "orders", 9_000, 9_000, 5).await;
    }
    let target = servers::postgresql().await.fresh_database("sharded").await;
    let state = tempfile::tempdir().unwrap();
    let merge = |more: Value| {
        let mut job = json!({
            "objects": {"merge": [{"into": "orders", "from": [format!("{expression}.dbo.orders")], "origin": true}]},
            "naming": {"schema": "{TARGET_SCHEMA}"},
            "write": {"keyed": "upsert"},
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        job
    };
    let to = ("postgresql", json!({"url": target.url()}));
    let mut job = database_job(from(&shops[0]), to, merge(json!({"incremental": {"column": "id"}})));
    job["name"] = "sharded".into();
    job["source"]["parameter"]["consistency"] = "lock".into();
    for (read, all) in [(1_002, 1_002), (1, 1_003)] {
        let options = RunOptions { state_dir: Some(state.path().into()), ..RunOptions::default() };
        let report = run(&job, options).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
        assert_eq!((report.tables.len(), report.rows_read), (2, read));
        for shop in &shops {
            let mine = format!("WHERE source_database = '{}'", shop.name());
            target
                .execute(&format!("DROP VIEW IF EXISTS found; CREATE VIEW found AS SELECT * FROM orders {mine}"))
                .await;
            orders::assert_same(&orders::rows(shop, "orders").await, &orders::rows(&target, "found").await);
        }
        assert_eq!(target.value("SELECT count(*) FROM orders").await, all.to_string());
        // What is new in one of them is found by that one's own watermark.
        if all == 1_002 {
            orders::fill(&shops[1], "orders", 9_001, 9_001, 5).await;
        }
    }
}

#[tokio::test]
async fn a_merge_is_never_one_of_fewer_databases_than_its_patterns_name() {
    let Some((shops, [glob, expression])) = shops("shut").await else { return };
    let user = format!("weir_shut_{}", std::process::id());
    shops[0].execute(&format!("CREATE LOGIN {user} WITH PASSWORD = 'Weir-Poor1'")).await;
    shops[0].execute(&format!("CREATE USER {user} FOR LOGIN {user}; GRANT SELECT ON orders TO {user}")).await;
    let from = ("sqlserver", json!({"url": shops[0].url_with(&user, "Weir-Poor1")}));
    let target = servers::postgresql().await.fresh_database("shut").await;
    let of = |objects: Value| {
        let to = ("postgresql", json!({"url": target.url()}));
        let more = json!({"objects": objects, "naming": {"schema": "{TARGET_SCHEMA}"}});
        database_job(from.clone(), to, more)
    };
    let merge = json!([{"into": "all_orders", "from": [format!("{expression}.dbo.orders")]}]);
    let merged = run(&of(json!({"merge": merge})), RunOptions::default()).await;
    let all_of_it = format!("{}.*.*", shops[1].name());
    let excluded = run(&of(json!({"merge": merge, "exclude": [all_of_it]})), RunOptions::default()).await;
    let included = run(&of(json!({"include": [format!("{glob}.dbo.*")]})), RunOptions::default()).await;
    shops[0].execute(&format!("REVOKE SELECT ON orders FROM {user}")).await;
    shops[0].execute(&format!("DROP USER {user}")).await;
    shops[0].execute(&format!("DROP LOGIN {user}")).await;

    assert_ne!(merged.status, Status::Succeeded);
    let failed = table(&merged, "all_orders").error.as_ref().unwrap();
    assert_eq!(failed.kind, ErrorKind::Denied);
    assert!(failed.message.contains(shops[1].name()) && failed.message.contains("closed to the user"), "{failed:?}");
    assert_eq!((excluded.status, excluded.rows_written), (Status::Succeeded, 500), "{:#?}", excluded.error);
    assert_eq!((included.status, included.rows_written), (Status::Succeeded, 500), "{:#?}", included.error);
    assert!(warns(&included, &["leaves tables out", shops[1].name()]), "{:?}", included.warnings);
    assert!(!warns(&excluded, &[shops[1].name()]), "{:?}", excluded.warnings);
}

#[tokio::test]
async fn a_database_that_is_not_seen_has_not_lost_its_tables() {
    let Some((shops, [glob, _])) = shops("unseen").await else { return };
    let user = format!("weir_unseen_{}", std::process::id());
    shops[0].execute(&format!("CREATE LOGIN {user} WITH PASSWORD = 'Weir-Poor1'")).await;
    let enter = format!("CREATE USER {user} FOR LOGIN {user}; GRANT SELECT ON orders TO {user}");
    for shop in &shops {
        shop.execute(&enter).await;
    }
    let target = servers::postgresql().await.fresh_database("unseen").await;
    let mut mirror = Mirror::new(
        "unseen",
        ("sqlserver", json!({"url": shops[0].url_with(&user, "Weir-Poor1")})),
        ("postgresql", json!({"url": target.url()})),
        json!({
            "objects": {"include": [format!("{glob}.dbo.*")]},
            "naming": {"schema": "{SOURCE_DATABASE}"},
            "rules": {"tableAdded": "ignore", "tableDeleted": "error"},
        }),
    );
    let mut reports = vec![mirror.run().await];
    shops[1].execute(&format!("REVOKE SELECT ON orders FROM {user}")).await;
    shops[1].execute(&format!("DROP USER {user}")).await;
    reports.push(mirror.run().await);
    shops[1].execute(&enter).await;
    reports.push(mirror.run().await);
    mirror.job["objects"]["include"] = json!(["dbo.*"]);
    reports.push(mirror.run().await);
    for shop in &shops {
        shop.execute(&format!("REVOKE SELECT ON orders FROM {user}")).await;
        shop.execute(&format!("DROP USER {user}")).await;
    }
    shops[0].execute(&format!("DROP LOGIN {user}")).await;

    for report in &reports {
        assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
        let changes = mirror.changes(report).await;
        assert!(!changes.iter().any(|one| one.change.kind == ChangeKind::TableDeleted), "{changes:#?}");
    }
    // The one that is open again goes on as before: it is no new table.
    assert_eq!(reports.iter().map(|report| report.tables.len()).collect::<Vec<_>>(), [2, 1, 2, 1]);
}

#[tokio::test]
async fn a_database_that_comes_later_begins_with_a_watermark_of_its_own() {
    let Some((shops, _)) = shops("later").await else { return };
    let target = servers::postgresql().await.fresh_database("later").await;
    let expression = format!("/weir_later_[0-9]_{}_[0-9]+/", std::process::id());
    let mirror = Mirror::new(
        "later",
        from(&shops[0]),
        ("postgresql", json!({"url": target.url()})),
        json!({
            "objects": {"include": [format!("{expression}.dbo.orders")]},
            "naming": {"schema": "{SOURCE_DATABASE}"},
            "write": {"keyed": "upsert"},
            "incremental": {"column": "id"},
        }),
    );
    let read = async |only: Only| {
        let report = weir::run(&load(&mirror.job), RunOptions { only, ..mirror.options() }).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
        (report.tables.len(), report.rows_read)
    };
    assert_eq!(read(Only::All).await, (2, 1_000));
    let server = servers::sqlserver().unwrap();
    let mut late = Vec::new();
    for name in ["later_3", "later_4"] {
        let shop = server.fresh_database(name).await;
        orders::create(&shop, "orders").await;
        orders::fill(&shop, "orders", 1, 50, 7).await;
        // The first one with all others, the second one alone.
        let only = if late.is_empty() { Only::All } else { Only::Tables(vec![format!("{}.dbo.orders", shop.name())]) };
        let tables = if late.is_empty() { 3 } else { 1 };
        assert_eq!(read(only).await, (tables, 50), "{name}");
        late.push(shop);
    }
    assert_eq!(read(Only::All).await, (4, 0));
}

#[tokio::test]
async fn a_shard_that_is_asked_for_no_more_is_not_deleted() {
    let Some((shops, [_, expression])) = shops("unasked").await else { return };
    let target = servers::postgresql().await.fresh_database("unasked").await;
    let mut mirror = Mirror::new(
        "unasked",
        from(&shops[0]),
        ("postgresql", json!({"url": target.url()})),
        json!({
            "objects": {"merge": [{"into": "orders", "from": [format!("{expression}.dbo.orders")]}]},
            "naming": {"schema": "{TARGET_SCHEMA}"},
            "write": {"keyed": "upsert"},
            "rules": {"tableDeleted": "error"},
        }),
    );
    for (read, exclude) in [(1_000, json!([])), (500, json!([format!("{}.*.*", shops[1].name())]))] {
        mirror.job["objects"]["exclude"] = exclude;
        let report = mirror.run().await;
        assert_eq!((report.status, report.rows_read), (Status::Succeeded, read), "{:#?}", report.tables);
        let changes = mirror.changes(&report).await;
        assert!(!changes.iter().any(|one| one.change.kind == ChangeKind::TableDeleted), "{changes:#?}");
    }
    assert_eq!(target.value("SELECT count(*) FROM orders").await, "1000");
}
