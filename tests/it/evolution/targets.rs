//! The same changes at every kind of target.

use serde_json::{Value, json};
use weir::{ChangeKind, ChangeOutcome, Status};
use weir_plugins_test::servers::{self, Database};

use super::{Mirror, has, lines, rows, table};

const BEFORE: &str = "
CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, price numeric(8,2), name varchar(10), gone text, ratio real, at timestamp);
INSERT INTO t SELECT g, g, g * 0.25, 'n' || g, 'x', g * 0.5, timestamp '2024-01-01' + g * interval '1 hour' FROM generate_series(1, 200) g;
CREATE TABLE x (id int PRIMARY KEY, v int);
INSERT INTO x VALUES (1, 1);
";

const CHANGES: &str = "
ALTER TABLE t ALTER n TYPE bigint, ALTER n DROP NOT NULL, ALTER price TYPE numeric(12,2), ALTER name TYPE varchar(60), DROP COLUMN gone,
    ALTER ratio TYPE double precision, ADD COLUMN extra text DEFAULT 'd';
INSERT INTO t VALUES (1000, 5000000000, 1234567890.25, repeat('n', 60), 0.1, '2024-06-01', 'new'), (1001, NULL, NULL, NULL, NULL, NULL, NULL);
DELETE FROM t WHERE id <= 10;
ALTER TABLE x ALTER v TYPE text;
";

/// Mirrors into a target, changes the source, mirrors again, and reads the target back. `schema` is the namespace there.
async fn follows(name: &str, target: (&str, Value), read: (&str, Value), schema: &str, more: Value) -> Followed {
    follows_these(CHANGES, name, target, read, schema, more).await
}

async fn follows_these(
    changes: &str,
    name: &str,
    target: (&str, Value),
    read: (&str, Value),
    schema: &str,
    more: Value,
) -> Followed {
    let server = servers::postgresql().await;
    let source = server.fresh_database(name).await;
    source.execute(BEFORE).await;
    let mut more = more;
    more["naming"] = json!({"schema": schema});
    let mirror = Mirror::new(name, ("postgresql", json!({"url": source.url()})), target, more);
    let first = mirror.run().await;
    assert_eq!(first.status, Status::Succeeded, "{:#?}\n{:#?}", first.error, first.tables);
    let unchanged = mirror.run().await;
    assert_eq!(unchanged.status, Status::Succeeded, "{:#?}\n{:#?}", unchanged.error, unchanged.tables);
    assert!(mirror.changes(&unchanged).await.is_empty(), "{:#?}", mirror.changes(&unchanged).await);
    source.execute(changes).await;
    let second = mirror.run().await;
    assert_eq!(second.status, Status::PartiallyFailed, "{:#?}\n{:#?}", second.error, second.tables);
    let changes = mirror.changes(&second).await;
    // A target without schemas has bare names.
    let full = |of: &str| {
        let names = second.tables.iter().filter_map(|table| table.name.clone());
        names.into_iter().find(|name| name == of || name.ends_with(&format!(".{of}"))).unwrap()
    };
    let (t, x) = (full("t"), full("x"));
    let seen = lines(&changes, &t);
    for line in
        ["type_widened n done", "type_widened ratio done", "column_deleted gone done", "column_added extra done"]
    {
        assert!(seen.iter().any(|l| l == line), "no `{line}` in {seen:?}");
    }
    assert!(has(&changes, &x, ChangeKind::TypeChanged, ChangeOutcome::Refused), "{changes:#?}");
    assert_eq!(table(&second, &t).status, Status::Succeeded);
    assert_eq!(table(&second, &x).status, Status::Failed);

    // Home again, where the values can be compared. What is gone is NULL now.
    let back = server.fresh_database(&format!("{name}_back")).await;
    let home = Mirror::new(
        &format!("{name}-back"),
        read,
        ("postgresql", json!({"url": back.url()})),
        json!({"naming": {"schema": "public"}, "objects": {"exclude": ["weir*"]}}),
    );
    let report = home.run().await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
    Followed { source, back, changes: seen }
}

/// What is left to look at.
struct Followed {
    source: Database,
    back: Database,
    changes: Vec<String>,
}

/// The rows of `t` on both sides, the column that is gone as NULL.
async fn assert_same(followed: &Followed, kept: &str) {
    let columns = "id, n, price, name, ratio, at, extra";
    let sql = |gone: &str| format!("SELECT {columns}, {gone} FROM t WHERE {kept} ORDER BY id");
    let (source, back) = (&followed.source, &followed.back);
    assert_eq!(source.query(&sql("NULL::text")).await, back.query(&sql("gone")).await);
}

#[tokio::test]
async fn mariadb_follows() {
    let there = servers::mariadb().await.fresh_database("follow").await;
    let url = || json!({"url": there.url()});
    let followed = follows("follow_maria", ("mysql", url()), ("mysql", url()), there.name(), json!({})).await;
    assert!(followed.changes.contains(&"null_allowed n done".into()), "{:?}", followed.changes);
    assert_same(&followed, "true").await;
    assert_eq!(rows(&there, "x").await, [[Some("1".to_owned()), Some("1".into())]]);
}

#[tokio::test]
async fn mysql_follows() {
    let there = servers::mysql().await.fresh_database("follow").await;
    let url = || json!({"url": there.url()});
    let more = json!({"write": {"keyed": "upsert"}});
    let followed = follows("follow_mysql", ("mysql", url()), ("mysql", url()), there.name(), more).await;
    // An upsert deletes nothing, so rows that are gone stay; these have what they had.
    assert_same(&followed, "id > 10").await;
    assert_eq!(followed.back.value("SELECT count(*) FROM t WHERE id <= 10 AND gone = 'x'").await, "10");
}

#[tokio::test]
async fn sqlserver_follows() {
    let Some(server) = servers::sqlserver() else { return };
    let there = server.fresh_database("follow").await;
    let url = || json!({"url": there.url()});
    let (mut changes, babelfish) = (CHANGES.to_owned(), there.is_babelfish().await);
    if babelfish {
        weir_plugins_test::not_run("Babelfish does not know ALTER COLUMN … NULL; the other changes are run");
        changes = changes.replace("ALTER n DROP NOT NULL, ", "").replace("(1001, NULL", "(1001, 7");
    }
    for (name, mode, kept) in [("follow_ms", "overwrite", "true"), ("follow_ms2", "upsert", "id > 10")] {
        let more = json!({"write": {"keyed": mode}});
        let followed = follows_these(&changes, name, ("sqlserver", url()), ("sqlserver", url()), "dbo", more).await;
        let allowed = followed.changes.contains(&"null_allowed n done".into());
        assert_eq!(allowed, !babelfish, "{:?}", followed.changes);
        assert_same(&followed, kept).await;
        there.execute("DROP TABLE t; DROP TABLE x").await;
    }
}

#[tokio::test]
async fn sqlite_follows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("follow.db");
    let path = || json!({"path": file});
    let followed = follows("follow_sqlite", ("sqlite", path()), ("sqlite", path()), "public", json!({})).await;
    assert_same(&followed, "true").await;
}

#[tokio::test]
async fn a_lakehouse_follows() {
    for (name, mode) in [("follow_delta", "overwrite"), ("follow_delta2", "upsert")] {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().join("lake");
        let more = json!({"write": {"keyed": mode}});
        let server = servers::postgresql().await;
        let source = server.fresh_database(name).await;
        source.execute(BEFORE).await;
        let mut more = more;
        more["naming"] = json!({"schema": "public"});
        let mirror =
            Mirror::new(name, ("postgresql", json!({"url": source.url()})), ("lakehouse", json!({"path": lake})), more);
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        source.execute(CHANGES).await;
        let second = mirror.run().await;
        assert_eq!(second.status, Status::PartiallyFailed, "{:#?}\n{:#?}", second.error, second.tables);
        let changes = mirror.changes(&second).await;
        let seen = lines(&changes, "public.t");
        for line in [
            "type_widened n done",
            "null_allowed n done",
            "type_widened price done",
            "type_widened ratio done",
            "column_deleted gone done",
            "column_added extra done",
        ] {
            assert!(seen.iter().any(|l| l == line), "{mode}: no `{line}` in {seen:?}");
        }
        assert!(has(&changes, "public.x", ChangeKind::TypeChanged, ChangeOutcome::Refused));
        let back = server.fresh_database(&format!("{name}_back")).await;
        let job = crate::support::job_of(
            "lakehouse",
            json!({"path": lake.join("public/t")}),
            "postgresql",
            json!({"url": back.url(), "table": "t"}),
        );
        crate::support::run_ok(&job).await;
        let followed = Followed { source, back, changes: seen };
        assert_same(&followed, "id > 10").await;
        // Rows that only an upsert keeps: written anew with wider types, they have what they had.
        let kept = if mode == "upsert" { "10" } else { "0" };
        assert_eq!(
            followed
                .back
                .value("SELECT count(*) FROM t WHERE id <= 10 AND gone = 'x' AND extra IS NULL AND n = id")
                .await,
            kept
        );
    }
}

#[tokio::test]
async fn files_have_the_columns_of_their_last_run() {
    let server = servers::postgresql().await;
    let source = server.fresh_database("follow_files").await;
    source.execute(BEFORE).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mirror = Mirror::new(
        "follow-files",
        ("postgresql", json!({"url": source.url()})),
        ("files", json!({"path": out})),
        json!({"naming": {"schema": "public"}}),
    );
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    source.execute(CHANGES).await;
    let second = mirror.run().await;
    assert_eq!(second.status, Status::Succeeded, "{:#?}\n{:#?}", second.error, second.tables);
    let mut seen = lines(&mirror.changes(&second).await, "public.t");
    seen.sort();
    assert_eq!(
        seen,
        [
            "column_added extra done",
            "column_deleted gone done",
            "null_allowed n done",
            "type_changed n done",
            "type_changed name done",
            "type_changed price done",
            "type_changed ratio done",
        ]
    );
    assert_eq!(lines(&mirror.changes(&second).await, "public.x"), ["type_changed v done"]);
    assert!(mirror.changes(&mirror.run().await).await.is_empty());
    let back = server.fresh_database("follow_files_back").await;
    for name in ["t", "x"] {
        let read = json!({"path": out.join("public").join(name), "format": "parquet"});
        let job = crate::support::job_of("files", read, "postgresql", json!({"url": back.url(), "table": name}));
        crate::support::run_ok(&job).await;
        assert_eq!(rows(&source, name).await, rows(&back, name).await, "{name}");
    }
}

/// Files have no columns to compare with: what the last run knew decides.
#[tokio::test]
async fn rules_hold_for_files_too() {
    let server = servers::postgresql().await;
    let source = server.fresh_database("rule_files").await;
    for table in ["more", "less", "wider", "nullable"] {
        source
            .execute(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, v int NOT NULL, w text); INSERT INTO {table} VALUES (1, 1, 'w')"
            ))
            .await;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let rules = json!({"columnAdded": "error", "columnDeleted": "error", "typeWidened": "error"});
    let ends = (json!({"url": source.url()}), json!({"path": out}));
    let more = json!({"naming": {"schema": "public"}, "rules": rules});
    let mut mirror = Mirror::new("rule-files", ("postgresql", ends.0), ("files", ends.1), more);
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    source
        .execute(
            "ALTER TABLE more ADD extra text DEFAULT 'e'; ALTER TABLE less RENAME w TO other;
             ALTER TABLE wider ALTER v TYPE bigint; ALTER TABLE nullable ALTER v DROP NOT NULL",
        )
        .await;
    let strict = mirror.run().await;
    assert_eq!((strict.status, strict.rows_written), (Status::Failed, 0), "{:#?}", strict.tables);
    for (name, reason) in [
        ("more", "rules.columnAdded is error"),
        ("less", "`other` of the same type is new"),
        ("wider", "was integer and is bigint, and rules.typeWidened is error"),
        ("nullable", "was NOT NULL and is NULL"),
    ] {
        let error = table(&strict, &format!("public.{name}")).error.as_ref().unwrap();
        assert!(error.message.contains(reason), "{name}: {error:?}");
    }
    // What the rules leave out is not missed by who compares.
    source.execute("CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)").await;
    mirror.job["rules"] = json!({"columnAdded": "ignore", "tableAdded": "ignore"});
    mirror.job["setting"] = json!({"verify": true});
    for said in [1, 0] {
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
        assert_eq!(lines(&mirror.changes(&report).await, "public.more"), vec!["column_added extra ignored"; said]);
        let state_dir = Some(mirror.state_dir().to_owned());
        let options = weir::VerifyOptions { state_dir, ..weir::VerifyOptions::default() };
        let found = weir::verify(&crate::support::load(&mirror.job), &options).await.unwrap();
        assert!(found.equal && found.entries.len() == 4, "{found:#?}");
        let back = server.fresh_database("rule_files_back").await;
        let read = json!({"path": out.join("public/more"), "format": "parquet"});
        let write = json!({"url": back.url(), "table": "more"});
        crate::support::run_ok(&crate::support::job_of("files", read, "postgresql", write)).await;
        assert_eq!(rows(&back, "more").await, source.query("SELECT id, v, w FROM more").await);
    }
    mirror.job["rules"] = json!({});
    let report = mirror.run().await;
    assert_eq!(lines(&mirror.changes(&report).await, "public.more"), ["column_added extra done"]);
}

/// What stays beside new files is read with them as one table: a type of another family is not put there.
#[tokio::test]
async fn types_change_within_a_family_where_files_stay() {
    let server = servers::postgresql().await;
    let source = server.fresh_database("side_by_side").await;
    let append = json!({"keyed": "append"});
    for (how, format) in [
        (json!({ "write": append }), "parquet"),
        (json!({"partition": {"field": "day", "value": "1"}}), "parquet"),
        (json!({ "write": append }), "csv"),
    ] {
        source.execute("DROP TABLE IF EXISTS wider, other").await;
        for table in ["wider", "other"] {
            let sql = format!("CREATE TABLE {table} (id int PRIMARY KEY, v int); INSERT INTO {table} VALUES (1, 1)");
            source.execute(&sql).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let ends = (json!({"url": source.url()}), json!({"path": folder.path(), "format": format}));
        let mut more = how.clone();
        more["naming"] = json!({"schema": "public"});
        let mut mirror = Mirror::new("side-by-side", ("postgresql", ends.0), ("files", ends.1), more);
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        source.execute("ALTER TABLE wider ALTER v TYPE bigint; ALTER TABLE other ALTER v TYPE text").await;
        if how["partition"].is_object() {
            mirror.job["partition"]["value"] = json!("2");
        }
        let report = mirror.run().await;
        if format == "csv" {
            assert_eq!(report.status, Status::Succeeded, "text has no types: {:#?}", report.error);
            continue;
        }
        assert_eq!(report.status, Status::PartiallyFailed, "{how}: {:#?}", report.error);
        let changes = mirror.changes(&report).await;
        assert_eq!(lines(&changes, "public.wider"), ["type_changed v done"], "{how}");
        assert_eq!(lines(&changes, "public.other"), ["type_changed v refused"], "{how}");
        let error = table(&report, "public.other").error.as_ref().unwrap();
        assert!(
            error.message.contains("was integer and is text") && error.message.contains("side by side"),
            "{error:?}"
        );
    }
}

/// The types that MySQL has and others have not, at a target of its own kind and in a lakehouse.
#[tokio::test]
async fn changes_of_mariadb_are_followed() {
    let mysql = servers::mysql().await.fresh_database("follow_from").await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    for (connector, parameter, schema) in
        [("mysql", json!({"url": mysql.url()}), mysql.name()), ("lakehouse", json!({"path": lake}), "public")]
    {
        let source = servers::mariadb().await.fresh_database("follow_from").await;
        source
            .execute(
                "CREATE TABLE t (id int PRIMARY KEY, small tinyint NOT NULL, name varchar(10), gone int, u smallint unsigned);
                 INSERT INTO t VALUES (1, -7, 'einß', 5, 65535), (2, 127, NULL, NULL, NULL)",
            )
            .await;
        let ends = (json!({"url": source.url()}), parameter);
        let more = json!({"naming": {"schema": schema}});
        let mirror = Mirror::new("follow-from", ("mysql", ends.0), (connector, ends.1), more);
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        source
            .execute(
                "ALTER TABLE t MODIFY small smallint NULL, MODIFY name varchar(60), DROP gone, MODIFY u int unsigned,
                   ADD more decimal(8,2) NOT NULL DEFAULT 1.5;
                 INSERT INTO t VALUES (3, -32768, repeat('名', 60), 4294967295, 0.25), (4, NULL, '', 0, -9.99)",
            )
            .await;
        let second = mirror.run().await;
        assert_eq!(second.status, Status::Succeeded, "{connector}: {:#?}\n{:#?}", second.error, second.tables);
        let seen = lines(&mirror.changes(&second).await, &format!("{schema}.t"));
        let mut due = vec![
            "type_widened small done",
            "null_allowed small done",
            "type_widened u done",
            "column_added more done",
            "column_deleted gone done",
        ];
        if connector == "mysql" {
            due.push("type_widened name done");
        }
        for line in due {
            assert!(seen.iter().any(|l| l == line), "{connector}: no `{line}` in {seen:?}");
        }
        let sql = "SELECT id, small, name, NULL AS gone, u, more FROM t ORDER BY id";
        let due = source.query(sql).await;
        if connector == "lakehouse" {
            let back = servers::mariadb().await.fresh_database("follow_from_back").await;
            let (read, write) = (json!({"path": lake.join("public/t")}), json!({"url": back.url(), "table": "t"}));
            crate::support::run_ok(&crate::support::job_of("lakehouse", read, "mysql", write)).await;
            assert_eq!(back.query(&sql.replace("NULL AS", "")).await, due);
        } else {
            assert_eq!(mysql.query(&sql.replace("NULL AS", "")).await, due);
        }
    }
}

#[tokio::test]
async fn a_schema_that_is_not_there_is_made_before_the_runs_lease_is_taken() {
    let server = servers::postgresql().await;
    let source = server.fresh_database("schemas").await;
    source.execute(BEFORE).await;
    for (connector, target) in [
        ("postgresql", server.fresh_database("schemas_to").await),
        ("mysql", servers::mariadb().await.fresh_database("schemas_to").await),
    ] {
        let schema = format!("{}_new", target.name());
        let more = json!({"naming": {"schema": schema}});
        let from = ("postgresql", json!({"url": source.url()}));
        let mirror = Mirror::new("schemas", from, (connector, json!({"url": target.url()})), more);
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{connector}: {:#?}\n{:#?}", report.error, report.tables);
        assert_eq!(target.value(&format!("SELECT count(*) FROM {schema}.t")).await, "200");
    }
}
