//! What becomes of every kind of change between two runs, by the rules, and that each of them is on record.

use serde_json::{Value, json};
use weir::{ChangeKind, ChangeOutcome, Report, RunOptions, Start, Status};
use weir_plugins_test::servers::{self, Database};

use super::{Mirror, has, lines, rows, run, table};
use crate::support::load;

/// One table for each kind of change.
const BEFORE: &str = "
CREATE TYPE mood AS ENUM ('calm', 'glad');
CREATE TABLE same (id int PRIMARY KEY, v text);
CREATE TABLE more (id int PRIMARY KEY, v text);
CREATE TABLE less (id int PRIMARY KEY, v text, gone text, also int DEFAULT 7);
CREATE TABLE wider (id int PRIMARY KEY, a smallint, b int NOT NULL, c real, d varchar(10), e varchar(10), f numeric(8,2),
    g timestamp(0), h mood);
CREATE TABLE narrower (id int PRIMARY KEY, a bigint, b varchar(50), c numeric(12,2));
CREATE TABLE to_double (id int PRIMARY KEY, v int);
CREATE TABLE to_number (id int PRIMARY KEY, v text);
CREATE TABLE to_jsonb (id int PRIMARY KEY, v json);
CREATE TABLE to_scale (id int PRIMARY KEY, v numeric(10,2));
CREATE TABLE other_key (id int PRIMARY KEY, part int NOT NULL, v text);
CREATE TABLE wider_key (id int PRIMARY KEY, v text);
CREATE TABLE lost_key (id int PRIMARY KEY, v text);
CREATE TABLE new_key (id int NOT NULL, v text);
CREATE TABLE renamed (id int PRIMARY KEY, old_name text);
CREATE TABLE needed (id int PRIMARY KEY, v text NOT NULL, w text NOT NULL);
CREATE TABLE nullable (id int PRIMARY KEY, v text NOT NULL, w text);
CREATE TABLE dropped (id int PRIMARY KEY, v text);
";

const CHANGES: &str = "
ALTER TABLE more ADD COLUMN plain text, ADD COLUMN points int NOT NULL DEFAULT 5,
    ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED;
COMMENT ON COLUMN more.plain IS 'new';
ALTER TABLE less DROP COLUMN gone, DROP COLUMN also;
ALTER TABLE wider ALTER a TYPE int, ALTER b TYPE bigint, ALTER c TYPE double precision, ALTER d TYPE varchar(40), ALTER e TYPE text,
    ALTER f TYPE numeric(14,4), ALTER g TYPE timestamp(6);
ALTER TYPE mood ADD VALUE 'sad' BEFORE 'calm';
ALTER TABLE narrower ALTER a TYPE int, ALTER b TYPE varchar(20), ALTER c TYPE numeric(8,2);
ALTER TABLE to_double ALTER v TYPE double precision;
ALTER TABLE to_number ALTER v TYPE int USING v::int;
ALTER TABLE to_jsonb ALTER v TYPE jsonb;
ALTER TABLE to_scale ALTER v TYPE numeric(10,4);
ALTER TABLE other_key DROP CONSTRAINT other_key_pkey, ADD PRIMARY KEY (id, part);
ALTER TABLE wider_key ALTER id TYPE bigint;
ALTER TABLE lost_key DROP CONSTRAINT lost_key_pkey;
ALTER TABLE new_key ADD PRIMARY KEY (id);
ALTER TABLE renamed RENAME COLUMN old_name TO new_name;
ALTER TABLE needed DROP COLUMN w;
ALTER TABLE nullable ALTER v DROP NOT NULL;
DROP TABLE dropped;
CREATE TABLE added (id int PRIMARY KEY, v text);
INSERT INTO added VALUES (1, 'first');
";

async fn shop(name: &str) -> (Database, Database) {
    let server = servers::postgresql().await;
    let source = server.fresh_database(name).await;
    source.execute(BEFORE).await;
    source
        .execute(
            "INSERT INTO same VALUES (1, 'a'); INSERT INTO more VALUES (1, 'a'), (2, NULL); \
             INSERT INTO less VALUES (1, 'a', 'b', 1), (2, 'c', NULL, 2); \
             INSERT INTO wider VALUES (1, 1, 2, 0.5, 'd', 'e', 1.25, '2024-01-01 10:00:00', 'calm'); \
             INSERT INTO narrower VALUES (1, 5, 'b', 1.5); INSERT INTO to_double VALUES (1, 1); \
             INSERT INTO to_number VALUES (1, '1'); INSERT INTO to_jsonb VALUES (1, '{}'); INSERT INTO to_scale VALUES (1, 1); \
             INSERT INTO other_key VALUES (1, 1, 'a'); INSERT INTO wider_key VALUES (1, 'a'); INSERT INTO lost_key VALUES (1, 'a'); \
             INSERT INTO new_key VALUES (1, 'a'); INSERT INTO renamed VALUES (1, 'a'); INSERT INTO needed VALUES (1, 'a', 'b'); \
             INSERT INTO nullable VALUES (1, 'a', 'b'); INSERT INTO dropped VALUES (1, 'a')",
        )
        .await;
    (source, server.fresh_database(&format!("{name}_to")).await)
}

fn mirror(name: &str, source: &Database, target: &Database, rules: Value) -> Mirror {
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    Mirror::new(name, ("postgresql", from), ("postgresql", to), json!({"rules": rules}))
}

fn status(report: &Report, name: &str) -> Status {
    table(report, &format!("public.{name}")).status
}

/// The reason for which a table was not moved.
fn reason<'r>(report: &'r Report, name: &str) -> &'r str {
    &table(report, &format!("public.{name}")).error.as_ref().expect("it failed").message
}

#[tokio::test]
async fn more_than_25_changes_end_as_the_rules_say() {
    let (source, target) = shop("evolve").await;
    let mirror = mirror("evolve", &source, &target, json!({}));
    let first = mirror.run().await;
    assert_eq!(first.status, Status::Succeeded, "{:#?}\n{:#?}", first.error, first.tables);
    let created = mirror.changes(&first).await;
    assert_eq!(created.len(), 17, "{created:#?}");
    assert!(created.iter().all(|c| c.change.kind == ChangeKind::TableAdded && c.change.outcome == ChangeOutcome::Done));
    // Nothing has changed: nothing is said.
    let again = mirror.run().await;
    assert_eq!(again.status, Status::Succeeded, "{:#?}", again.error);
    assert!(mirror.changes(&again).await.is_empty(), "{:#?}", mirror.changes(&again).await);

    source.execute(CHANGES).await;
    source
        .execute(
            "INSERT INTO more (id, v, plain) VALUES (3, 'c', 'p'); INSERT INTO less VALUES (3, 'd'); \
             INSERT INTO wider VALUES (2, 100000, 5000000000, 0.1, repeat('d', 40), repeat('e', 99), 1234567890.1234, \
                '2024-01-01 10:00:00.123456', 'sad'); \
             INSERT INTO nullable VALUES (2, NULL, NULL); INSERT INTO renamed VALUES (2, 'b'); INSERT INTO same VALUES (2, 'b')",
        )
        .await;
    // A look says what a run would do, and changes nothing.
    let look = weir::plan(&load(&mirror.job), &mirror.options()).await.unwrap();
    let text = look.to_string();
    for part in [
        "column_added plain",
        "type_widened b: integer → bigint",
        "ALTER COLUMN \"b\" TYPE bigint",
        "failed: ",
        "public.added → public.added: table_added (done, no earlier run had it)",
        "public.dropped → public.dropped: table_deleted (ignored, the source has the table no more",
        "column twice: computed at the source",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert_eq!(target.value("SELECT count(*) FROM information_schema.columns WHERE table_name = 'more'").await, "2");

    let second = mirror.run().await;
    assert_eq!(second.status, Status::PartiallyFailed, "{:#?}", second.error);
    let changes = mirror.changes(&second).await;
    let seen = |name: &str| lines(&changes, &format!("public.{name}"));
    // What is followed: the same values on both sides.
    for name in ["same", "more", "wider", "narrower", "nullable", "added"] {
        assert_eq!(
            status(&second, name),
            Status::Succeeded,
            "{name}: {:#?}",
            table(&second, &format!("public.{name}"))
        );
        assert_eq!(rows(&source, name).await, rows(&target, name).await, "{name}");
    }
    assert!(seen("same").is_empty());
    assert_eq!(seen("more"), ["column_added plain done", "column_added points done", "column_added twice done"]);
    assert_eq!(target.value("SELECT col_description('more'::regclass, 3)").await, "new");
    assert_eq!(
        target.value("SELECT column_default || is_nullable FROM information_schema.columns WHERE table_name = 'more' AND column_name = 'points'").await,
        "5NO"
    );
    assert_eq!(seen("less"), ["column_deleted gone done", "column_deleted also done"]);
    assert_eq!(
        target.query("SELECT id::text, v, gone, also::text FROM less ORDER BY id").await,
        ["1a", "2c", "3d"].map(|row| vec![Some(row[..1].into()), Some(row[1..].into()), None, None])
    );
    let widened: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|c| format!("type_widened {c} done")).into();
    assert_eq!(seen("wider"), widened);
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute \
                 WHERE attrelid = 'wider'::regclass AND attnum > 0 AND attname <> 'h'";
    assert_eq!(source.value(types).await, target.value(types).await);
    assert_eq!(seen("narrower"), ["a", "b", "c"].map(|c| format!("type_narrowed {c} kept")));
    assert_eq!(seen("nullable"), ["null_allowed v done"]);
    assert_eq!(seen("renamed"), ["column_added new_name done", "column_deleted old_name done"]);
    let said =
        changes.iter().find(|c| c.target == "public.renamed" && c.change.kind == ChangeKind::ColumnAdded).unwrap();
    assert!(said.change.detail.contains("`old_name` of the same type is gone"), "{said:#?}");
    assert_eq!(
        target.value("SELECT string_agg(concat(id, new_name, old_name), ' ' ORDER BY id) FROM renamed").await,
        "1a 2b"
    );
    assert_eq!(seen("dropped"), ["table_deleted – ignored"]);
    assert_eq!(target.value("SELECT count(*) FROM dropped").await, "1");
    assert_eq!(seen("added"), ["table_added – done"]);
    // What is refused stays with its table, with the reason.
    for (name, kind, part) in [
        ("to_double", ChangeKind::TypeChanged, "was integer and is double precision"),
        ("to_number", ChangeKind::TypeChanged, "was text and is integer"),
        ("to_jsonb", ChangeKind::TypeChanged, "was json and is jsonb"),
        ("to_scale", ChangeKind::TypeChanged, "was numeric(10,2) and is numeric(10,4)"),
        ("other_key", ChangeKind::KeyChanged, "the key was (id) and is (id, part)"),
        ("wider_key", ChangeKind::KeyChanged, "key columns are not changed"),
        ("lost_key", ChangeKind::KeyChanged, "the key was (id) and is none"),
        ("new_key", ChangeKind::KeyChanged, "the key was none and is (id)"),
        ("needed", ChangeKind::ColumnDeleted, "the target's takes no NULL"),
    ] {
        assert_eq!(status(&second, name), Status::Failed, "{name}");
        assert!(reason(&second, name).contains(part), "{name}: {}", reason(&second, name));
        assert!(has(&changes, &format!("public.{name}"), kind, ChangeOutcome::Refused), "{name}: {:?}", seen(name));
        assert_eq!(target.value(&format!("SELECT count(*) FROM {name}")).await, "1", "{name} was touched");
    }
    assert!(changes.len() >= 25, "{} changes: {changes:#?}", changes.len());
    // The report has them beside their tables.
    let in_report: usize = second.tables.iter().map(|table| table.changes.len()).sum();
    assert_eq!(in_report, changes.iter().filter(|c| c.target != "public.dropped").count());
    #[cfg(feature = "cli")]
    shown(&mirror, &second, changes.len());

    // A third run: refusals go on, what was done is done; a column that comes back is the one it was.
    source.execute("ALTER TABLE less ADD COLUMN gone text; UPDATE less SET gone = 'back'").await;
    let third = mirror.run().await;
    let changes = mirror.changes(&third).await;
    assert_eq!(lines(&changes, "public.less"), ["column_returned gone done"]);
    assert_eq!(target.value("SELECT count(*) FROM less WHERE gone = 'back' AND also IS NULL").await, "3");
    assert!(
        changes.iter().all(|c| c.change.outcome == ChangeOutcome::Refused || c.target == "public.less"),
        "{changes:#?}"
    );
    // Whoever makes the target follow by hand goes on.
    target.execute("ALTER TABLE needed ALTER w DROP NOT NULL; DROP TABLE other_key; DROP TABLE to_double").await;
    let fourth = mirror.run().await;
    for name in ["needed", "other_key", "to_double"] {
        assert_eq!(
            status(&fourth, name),
            Status::Succeeded,
            "{name}: {:?}",
            table(&fourth, &format!("public.{name}")).error
        );
    }
    assert_eq!(rows(&source, "other_key").await, rows(&target, "other_key").await);
}

/// `weir changes` shows as many, as text and as JSON.
#[cfg(feature = "cli")]
fn shown(mirror: &Mirror, report: &Report, expected: usize) {
    let weir = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["changes", "--state-dir"]).arg(mirror.state_dir()).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all: Vec<Value> = serde_json::from_str(&weir(&["--run", &report.run_id, "--format", "json"])).unwrap();
    assert_eq!(all.len(), expected);
    assert!(
        all.iter()
            .all(|change| change["kind"].is_string() && change["outcome"].is_string() && change["at"].is_string())
    );
    let of_one: Vec<Value> =
        serde_json::from_str(&weir(&["--target", "wider", "--run", &report.run_id, "--format", "json"])).unwrap();
    assert_eq!(of_one.len(), 8);
    let text = weir(&["--target", "public.needed"]);
    assert!(text.contains("column deleted") && text.contains("refused: column `w` is gone"), "{text}");
}

#[tokio::test]
async fn strict_rules_refuse_and_ignoring_ones_leave_out() {
    let (source, target) = shop("strict").await;
    let rules = json!({"columnAdded": "error", "columnDeleted": "error", "typeWidened": "error", "tableDeleted": "error",
        "tableAdded": "ignore"});
    let strict = mirror("strict", &source, &target, rules);
    assert_eq!(strict.run().await.status, Status::Succeeded);
    source.execute(CHANGES).await;
    let look = weir::plan(&load(&strict.job), &strict.options()).await.unwrap();
    let text = look.to_string();
    for part in ["table_added (ignored, rules.tableAdded is ignore)", "table_deleted (refused, the source has"] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(look.entries.iter().all(|entry| entry.name.as_deref() != Some("public.added")));
    assert!(look.database.unwrap().failed.iter().any(|table| table.target == "public.dropped"));
    let report = strict.run().await;
    let changes = strict.changes(&report).await;
    for (name, part) in [
        ("more", "rules.columnAdded is error"),
        ("less", "rules.columnDeleted is error"),
        ("wider", "rules.typeWidened is error"),
        ("nullable", "rules.typeWidened is error"),
    ] {
        assert!(reason(&report, name).contains(part), "{name}: {}", reason(&report, name));
    }
    assert!(
        report.tables.iter().any(|t| t.target == "public.dropped" && t.status == Status::Failed),
        "{:#?}",
        report.tables
    );
    assert!(has(&changes, "public.dropped", ChangeKind::TableDeleted, ChangeOutcome::Refused));
    assert!(has(&changes, "public.added", ChangeKind::TableAdded, ChangeOutcome::Ignored));
    assert!(report.tables.iter().all(|table| table.name.as_deref() != Some("public.added")));
    assert_eq!(target.value("SELECT count(*) FROM information_schema.columns WHERE table_name = 'more'").await, "2");
    assert_eq!(status(&report, "same"), Status::Succeeded);
    assert_eq!(status(&report, "narrower"), Status::Succeeded);
    // Left out is said once.
    let changes = strict.changes(&strict.run().await).await;
    assert!(!has(&changes, "public.added", ChangeKind::TableAdded, ChangeOutcome::Ignored));
}

#[tokio::test]
async fn tables_whose_targets_are_called_after_the_day_are_not_new_every_day() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("dated").await, server.fresh_database("datedtoo").await);
    source
        .execute(
            "CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY);
             CREATE TABLE part_1 (id int PRIMARY KEY); CREATE TABLE part_2 (id int PRIMARY KEY)",
        )
        .await;
    let mut dated = Mirror::new(
        "dated",
        ("postgresql", json!({"url": source.url()})),
        ("postgresql", json!({"url": target.url()})),
        json!({"rules": {"tableAdded": "ignore"}}),
    );
    let day = |day: u32| {
        let merge = json!([{"into": format!("parts_{day}"), "from": ["/part_[0-9]/"]}]);
        let objects = json!({"include": ["*"], "merge": merge});
        (objects, json!({"table": format!("{{SOURCE_TABLE}}_{day}")}))
    };
    let mut reports = Vec::new();
    for of in 1..=4 {
        (dated.job["objects"], dated.job["naming"]) = day(of);
        let change = match of {
            // The merge gets another part, and loses its first one.
            2 => "CREATE TABLE late (id int PRIMARY KEY); CREATE TABLE part_3 (id int PRIMARY KEY); DROP TABLE part_1",
            4 => "DROP TABLE other",
            _ => "SELECT 1",
        };
        source.execute(change).await;
        // What cannot be moved on one day is no new table on the next.
        dated.job["tables"] = if of == 3 { json!({"one": {"key": ["none"]}}) } else { json!({}) };
        reports.push(dated.run().await);
    }
    for (of, report) in (1..).zip(&reports) {
        let ended = if of == 3 { Status::PartiallyFailed } else { Status::Succeeded };
        assert_eq!(report.status, ended, "{of}: {:#?}", report.error);
        let mut names: Vec<_> = report.tables.iter().filter_map(|table| table.name.clone()).collect();
        names.sort();
        names.dedup();
        let wanted = ["one", "other", "parts"].iter().filter(|name| of < 4 || **name != "other");
        assert_eq!(names, wanted.map(|name| format!("public.{name}_{of}")).collect::<Vec<_>>(), "{of}");
        let told = report.warnings.iter().filter(|warning| warning.contains(&format!("ignore: public.late_{of}")));
        assert_eq!(told.count(), usize::from(of > 1), "{of}: {:?}", report.warnings);
    }
    // What no table of the report is about is in a list of its own, once.
    let told = |report: &Report| -> Vec<String> {
        report.changes.iter().map(|one| format!("{} {}", one.target, one.change.line())).collect()
    };
    assert_eq!(told(&reports[0]), [""; 0]);
    assert_eq!(told(&reports[1]), ["public.late_2 table_added (ignored, rules.tableAdded is ignore)"]);
    assert_eq!(told(&reports[2]), [""; 0]);
    let gone = told(&reports[3]);
    assert!(matches!(&gone[..], [one] if one.starts_with("public.other_3 table_deleted (ignored")), "{gone:?}");
}

#[tokio::test]
async fn columns_may_be_left_out_and_a_lost_memory_does_no_harm() {
    let (source, target) = shop("ignore").await;
    let mirror = mirror("ignore", &source, &target, json!({"columnAdded": "ignore"}));
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    source.execute("ALTER TABLE more ADD COLUMN plain text; INSERT INTO more VALUES (3, 'c', 'p')").await;
    let report = mirror.run().await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
    assert_eq!(lines(&mirror.changes(&report).await, "public.more"), ["column_added plain ignored"]);
    assert_eq!(target.value("SELECT string_agg(concat(id, v), ' ' ORDER BY id) FROM more").await, "1a 2 3c");
    let report = mirror.run().await;
    assert!(mirror.changes(&report).await.is_empty());
    // Without a state folder the live target alone decides: wider types and new columns are followed, a column that only the
    // target has is left to its default.
    source.execute("ALTER TABLE wider ALTER b TYPE bigint; ALTER TABLE less DROP COLUMN also; INSERT INTO less VALUES (3, 'x', 'y')").await;
    let options = RunOptions { start: Start::Fresh, ..RunOptions::default() };
    let report = run(&mirror.job, options).await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
    assert_eq!(target.value("SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'wider'::regclass AND attname = 'b'").await, "bigint");
    assert_eq!(
        target.value("SELECT string_agg(concat(id, gone, also), ' ' ORDER BY id) FROM less").await,
        "1b7 27 3y7"
    );
}

#[tokio::test]
async fn a_try_of_a_few_rows_refuses_what_a_run_would_and_says_what_it_has_altered() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("tried").await, server.fresh_database("triedtoo").await);
    source
        .execute(
            "CREATE TABLE more (id int PRIMARY KEY); INSERT INTO more VALUES (1), (2), (3);
             CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 1), (2, 2)",
        )
        .await;
    let mirror = mirror("tried", &source, &target, json!({}));
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    source.execute("ALTER TABLE more ADD COLUMN v text; ALTER TABLE other ALTER n TYPE text").await;
    let tried = run(&mirror.job, RunOptions { limit: Some(1), ..mirror.options() }).await;
    assert_eq!(tried.status, Status::PartiallyFailed, "{:#?}", tried.tables);
    assert!(reason(&tried, "other").contains("text"), "{}", reason(&tried, "other"));
    let told = |report: &Report| -> Vec<String> {
        let of = report.tables.iter().find(|table| table.name.as_deref() == Some("public.more")).unwrap();
        of.changes.iter().map(|change| format!("{} {}", change.kind.name(), change.outcome.name())).collect()
    };
    assert_eq!(told(&tried), ["column_added done"]);
    // Where others look for it too, but not among what a later run compares its source with.
    assert_eq!(lines(&mirror.changes(&tried).await, "public.more"), ["column_added v done"]);
    let ledger = weir::Ledger::find_in(mirror.state_dir()).await.unwrap().unwrap();
    let known = ledger.known_table("tried", "public.more").await.unwrap().unwrap();
    assert!(known.column("v").is_none(), "{known:?}");
    // Nor does a run without a state folder keep silent.
    source.execute("ALTER TABLE more ADD COLUMN w text").await;
    let stateless = run(&mirror.job, RunOptions::default()).await;
    assert_eq!(told(&stateless), ["column_added done"]);
}
