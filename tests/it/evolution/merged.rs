//! Shards that a merge has more or less than in the run before.

use serde_json::{Value, json};
use weir::Status;
use weir_core::ErrorKind;
use weir_plugins_test::servers::{self, Database};

use super::{Mirror, table};

fn shard(number: u32) -> String {
    format!(
        "CREATE TABLE part_{number} (id int PRIMARY KEY, v text); INSERT INTO part_{number} VALUES ({number}, 'v{number}');"
    )
}

/// A merge of two shards that has run once.
async fn merged(name: &str, rules: Value) -> (Mirror, Database, Database) {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database(name).await, server.fresh_database(&format!("{name}too")).await);
    source.execute(&(shard(1) + &shard(2))).await;
    let more = json!({
        "objects": {"merge": [{"into": "public.parts", "from": ["/part_[0-9]/"], "origin": true}]},
        "write": {"keyed": "upsert"},
        "rules": rules,
    });
    let ends = (json!({"url": source.url()}), json!({"url": target.url()}));
    let mirror = Mirror::new(name, ("postgresql", ends.0), ("postgresql", ends.1), more);
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    (mirror, source, target)
}

/// Runs it; the changes in one line each, without the database's name.
async fn run(mirror: &Mirror, source: &Database, status: Status) -> Vec<String> {
    let planned = weir::plan(&crate::support::load(&mirror.job), &mirror.options()).await.unwrap().to_string();
    let report = mirror.run().await;
    assert_eq!(report.status, status, "{:#?}\n{:#?}", report.error, report.tables);
    let changes = mirror.changes(&report).await;
    let lines = changes.iter().map(|one| one.change.line().replace(source.name(), "db"));
    let lines: Vec<String> = lines.collect();
    for line in &lines {
        assert!(planned.replace(source.name(), "db").contains(line), "no `{line}` in\n{planned}");
    }
    lines
}

const ROWS: &str = "SELECT string_agg(concat(id, v, ' of ', source_table), ', ' ORDER BY id) FROM parts";

#[tokio::test]
async fn one_that_comes_or_goes_is_on_record() {
    let (mirror, source, target) = merged("partsadd", json!({})).await;
    source.execute(&(shard(3) + &shard(4) + "DROP TABLE part_1")).await;
    let lines = run(&mirror, &source, Status::Succeeded).await;
    assert_eq!(
        lines,
        [
            "table_added: db.public.part_3 (done, merged with the others)",
            "table_added: db.public.part_4 (done, merged with the others)",
            "table_deleted: db.public.part_1 (ignored, the target keeps its rows)",
        ]
    );
    let all = "1v1 of part_1, 2v2 of part_2, 3v3 of part_3, 4v4 of part_4";
    assert_eq!(target.value(ROWS).await, all);
    assert!(run(&mirror, &source, Status::Succeeded).await.is_empty());
}

#[tokio::test]
async fn one_that_comes_is_left_out_and_one_that_goes_refuses_the_merge_where_rules_say_so() {
    let (mut mirror, source, target) =
        merged("partsrule", json!({"tableAdded": "ignore", "tableDeleted": "error"})).await;
    source.execute(&shard(0)).await;
    let lines = run(&mirror, &source, Status::Succeeded).await;
    assert_eq!(lines, ["table_added: db.public.part_0 (ignored, rules.tableAdded is ignore)"]);
    // Said once, warned of with every run, and never merged.
    let report = mirror.run().await;
    assert!(mirror.changes(&report).await.is_empty());
    assert!(report.warnings.iter().any(|warning| warning.contains("public.part_0")), "{:?}", report.warnings);
    assert_eq!(target.value(ROWS).await, "1v1 of part_1, 2v2 of part_2");
    source.execute("DROP TABLE part_1").await;
    for _ in 0..2 {
        let lines = run(&mirror, &source, Status::Failed).await;
        assert_eq!(lines, ["table_deleted: db.public.part_1 (refused, rules.tableDeleted is error)"]);
        let report = mirror.run().await;
        let error = table(&report, "public.parts").error.as_ref().unwrap();
        assert!(error.message.contains("part_1"), "{error:?}");
    }
    // What comes is not merged with what is refused.
    mirror.job["rules"] = json!({"tableDeleted": "error"});
    let lines = run(&mirror, &source, Status::Failed).await;
    assert_eq!(lines, ["table_deleted: db.public.part_1 (refused, rules.tableDeleted is error)"]);
    mirror.job["rules"] = json!({});
    let lines = run(&mirror, &source, Status::Succeeded).await;
    assert_eq!(
        lines,
        [
            "table_added: db.public.part_0 (done, merged with the others)",
            "table_deleted: db.public.part_1 (ignored, the target keeps its rows)",
        ]
    );
    assert_eq!(target.value(ROWS).await, "0v0 of part_0, 1v1 of part_1, 2v2 of part_2");
    assert!(run(&mirror, &source, Status::Succeeded).await.is_empty());
}

#[tokio::test]
async fn a_target_of_the_day_may_have_one_part_on_some_days() {
    let (mut mirror, source, _target) = merged("partsday", json!({})).await;
    let days = [
        ("DROP TABLE part_2".to_owned(), "table_deleted: db.public.part_2 (ignored, the target keeps its rows)"),
        (shard(3), "table_added: db.public.part_3 (done, merged with the others)"),
    ];
    for (day, (change, line)) in (1..).zip(days) {
        source.execute(&change).await;
        mirror.job["objects"]["merge"][0]["into"] = format!("public.parts_{day}").into();
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
        let changes: Vec<String> = report.changes.iter().map(|one| one.change.line()).collect();
        let of_table = table(&report, &format!("public.parts_{day}")).changes.iter().map(|change| change.line());
        let all: Vec<String> = changes.into_iter().chain(of_table).map(|of| of.replace(source.name(), "db")).collect();
        assert!(all.iter().any(|of| of == line), "day {day}: {all:#?}");
    }
}

/// The merged table has nothing that one of its parts alone has: not its unique key, not its references.
#[tokio::test]
async fn a_merge_of_one_part_is_a_merge_and_what_has_left_one_is_none() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("partsone").await, server.fresh_database("partsonetoo").await);
    let part = |name: &str, id: u32| {
        format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, v text UNIQUE, c int REFERENCES c); INSERT INTO {name} VALUES ({id}, 'v{id}', 1);"
        )
    };
    source
        .execute(
            &("CREATE TABLE c (id int PRIMARY KEY); INSERT INTO c VALUES (1);".to_owned()
                + &part("part_1", 1)
                + &part("part_2", 2)
                + &part("item_1", 1)
                + &part("item_2", 2)),
        )
        .await;
    let items = json!({"into": "public.items", "from": ["/item_[0-9]/"]});
    let parts = |day: u32| json!({"into": format!("public.parts_{day}"), "from": ["/part_[0-9]/"]});
    let more = json!({
        "objects": {"include": ["c"], "merge": [parts(1), items]},
        "write": {"keyed": "upsert"},
        "rules": {"tableDeleted": "error"},
    });
    let ends = (json!({"url": source.url()}), json!({"url": target.url()}));
    let mut mirror = Mirror::new("partsone", ("postgresql", ends.0), ("postgresql", ends.1), more);
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    source.execute("DROP TABLE part_2, item_2").await;
    // Of each merge one part is left: both are told.
    mirror.job["objects"]["merge"] = json!([parts(2), items]);
    let lines = run(&mirror, &source, Status::PartiallyFailed).await;
    assert_eq!(
        lines,
        [
            "table_deleted: db.public.item_2 (refused, rules.tableDeleted is error)",
            "table_deleted: db.public.part_2 (refused, rules.tableDeleted is error)",
        ]
    );
    // The merge of the parts is one no more, and the other one goes on without what is gone.
    mirror.job["objects"] = json!({"include": ["c", "part_1"], "merge": [items]});
    mirror.job["rules"] = json!({});
    let report = mirror.run().await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
    let changes = mirror.changes(&report).await;
    let gone: Vec<_> = changes.iter().filter(|one| one.change.kind == weir::ChangeKind::TableDeleted).collect();
    assert!(matches!(&gone[..], [one] if one.source.ends_with("item_2")), "{changes:#?}");
    let keys =
        "SELECT string_agg(contype::text, '' ORDER BY contype) FROM pg_constraint WHERE contype <> 'n' AND conrelid = ";
    assert_eq!(target.value(&format!("{keys}'items'::regclass")).await, "p");
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = ";
    assert_eq!(target.value(&format!("{indexes}'items'::regclass")).await, "1");
    assert_eq!(target.value(&format!("{indexes}'part_1'::regclass")).await, "2", "a table of its own has its keys");
    // So its parts may come back.
    source.execute(&part("item_2", 3).replace("'v3'", "'v1'")).await;
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    assert_eq!(target.value("SELECT string_agg(concat(id, v), ' ' ORDER BY id) FROM items").await, "1v1 2v2 3v1");
}

/// A merge of shards that somebody without rights reads, overwritten by each run.
fn overwritten(name: &str, plugin: &str, url: String, from: String, target: &Database) -> Mirror {
    let more = json!({"objects": {"merge": [{"into": "public.parts", "from": [from], "origin": true}]}});
    Mirror::new(name, (plugin, json!({"url": url})), ("postgresql", json!({"url": target.url()})), more)
}

#[tokio::test]
async fn a_schema_that_is_closed_to_the_user_takes_no_rows_out_of_a_merge() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("partsclosed").await, server.fresh_database("partsclosedtoo").await);
    let user = format!("partsclosed_{}", std::process::id());
    source
        .execute(&format!(
            "CREATE SCHEMA s0; CREATE TABLE s0.t (id int PRIMARY KEY); INSERT INTO s0.t VALUES (1);
             CREATE SCHEMA s1; CREATE TABLE s1.t (id int PRIMARY KEY); INSERT INTO s1.t VALUES (2);
             CREATE ROLE {user} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA s0, s1 TO {user};
             GRANT SELECT ON ALL TABLES IN SCHEMA s0, s1 TO {user}"
        ))
        .await;
    let mut mirror = overwritten("partsclosed", "postgresql", source.url_with(&user, "x"), "/s[01]/.t".into(), &target);
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    source.execute(&format!("REVOKE USAGE ON SCHEMA s1 FROM {user}")).await;
    let report = mirror.run().await;
    let error = table(&report, "public.parts").error.as_ref().unwrap();
    assert!(error.kind == ErrorKind::Denied && error.message.contains("s1"), "{error:?}");
    assert_eq!(target.value("SELECT count(*) FROM parts").await, "2");
    // What is named, or meant by a pattern, fails by itself; a job without patterns leaves it out, and says so.
    mirror.job["objects"] = json!({"include": ["s0.*", "s1.t"]});
    let report = mirror.run().await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.error);
    assert_eq!(table(&report, "s1.t").error.as_ref().unwrap().kind, ErrorKind::Denied);
    mirror.job["objects"] = json!({});
    let report = mirror.run().await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}", report.tables);
    assert!(report.warnings.iter().any(|warning| warning.contains("the schemas s1")), "{:?}", report.warnings);
    source.execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await;
}

#[tokio::test]
async fn a_shard_that_a_server_hides_takes_no_rows_out_of_a_merge() {
    let server = servers::mariadb().await;
    let (one, two) = (server.fresh_database("hidden_1").await, server.fresh_database("hidden_2").await);
    let target = servers::postgresql().await.fresh_database("hidden").await;
    let user = format!("hidden_{}", std::process::id());
    one.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'x'")).await;
    for (number, shard) in [(1, &one), (2, &two)] {
        let grant = format!("GRANT SELECT ON {}.* TO '{user}'@'%'", shard.name());
        shard.execute(&format!("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES ({number}); {grant}")).await;
    }
    let from = format!("/weir_hidden_[0-9]_{}_[0-9]+/./t/", std::process::id());
    let mut mirror = overwritten("hidden", "mysql", one.url_with(&user, "x"), from, &target);
    mirror.job["source"]["parameter"]["consistency"] = "none".into();
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    one.execute(&format!("REVOKE SELECT ON {}.* FROM '{user}'@'%'", two.name())).await;
    for _ in 0..2 {
        let report = mirror.run().await;
        let error = table(&report, "public.parts").error.as_ref().unwrap();
        assert!(error.message.contains("grant") && error.message.contains(two.name()), "{error:?}");
        assert_eq!(target.value("SELECT count(*) FROM parts").await, "2");
    }
    mirror.job["rules"] = json!({"tableDeleted": "ignore"});
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    assert_eq!(target.value("SELECT count(*) FROM parts").await, "1");
    one.execute(&format!("DROP USER '{user}'@'%'")).await;
}
