//! Whole databases whose tables are read by windows.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use weir::{Event, Observer, Report, Status};

use super::Bench;
use super::place::Place;

fn mirror(from: &Place, to: &Place, more: Value) -> Value {
    let end = |place: &Place| {
        let mut parameter = place.parameter("", json!({}));
        parameter.as_object_mut().unwrap().remove("table");
        json!({"name": place.plugin(), "parameter": parameter})
    };
    let mut job = json!({
        "type": "database", "name": "mirror", "source": end(from), "target": end(to),
        "objects": {"include": ["*"]}, "write": {"keyed": "upsert"},
        "incremental": {"column": ["changed", "id"]},
    });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

fn read(report: &Report, table: &str) -> u64 {
    let found = report.tables.iter().find(|t| t.source.ends_with(table)).unwrap_or_else(|| panic!("no {table}"));
    found.rows_read
}

async fn assert_equal(from: &Place, to: &Place, when: &str) {
    for table in ["orders", "items", "countries"] {
        let sql = format!("SELECT * FROM {table} ORDER BY 1");
        let (ours, theirs) = (from.rows(&sql).await, to.rows(&sql).await);
        assert!(
            !ours.is_empty() && ours == theirs,
            "{table} {when}: {} rows, {} at the target",
            ours.len(),
            theirs.len()
        );
    }
}

#[tokio::test]
async fn tables_of_a_database_are_read_by_the_first_column_that_they_have() {
    let bench = Bench::new();
    let (from, to) = (Place::postgresql("shop").await, Place::postgresql("mirror").await);
    from.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, note text, changed timestamptz NOT NULL);
         CREATE TABLE items (id bigint PRIMARY KEY, name text);
         CREATE TABLE countries (code text PRIMARY KEY, name text);
         INSERT INTO orders SELECT g, 'order ' || g, clock_timestamp() FROM generate_series(1, 300) g;
         INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 200) g;
         INSERT INTO countries VALUES ('CN', '中国'), ('DE', 'Deutschland')",
    )
    .await;
    let job = mirror(&from, &to, json!({}));
    let first = bench.run_ok(&job).await;
    assert_eq!((read(&first, "orders"), read(&first, "items"), read(&first, "countries")), (300, 200, 2));
    assert_equal(&from, &to, "after the first run").await;
    from.execute(
        "UPDATE orders SET note = 'changed', changed = clock_timestamp() WHERE id <= 7;
         INSERT INTO orders VALUES (301, 'new', clock_timestamp());
         INSERT INTO items VALUES (201, 'new'); INSERT INTO countries VALUES ('FR', 'France')",
    )
    .await;
    let planned = bench.plan(&job).await.unwrap().to_string();
    assert!(planned.contains("changed from 20") && planned.contains("id from 201 to before 202"), "{planned}");
    // A table that fails keeps its watermark; those that went well move theirs.
    to.execute("ALTER TABLE items ADD CONSTRAINT small CHECK (id < 201)").await;
    let second = bench.run(&job).await;
    assert_eq!(second.status, Status::PartiallyFailed, "{:#?}", second.error);
    assert_eq!((read(&second, "orders"), read(&second, "countries")), (8, 3), "without such a column, all of it");
    to.execute("ALTER TABLE items DROP CONSTRAINT small").await;
    let options = weir::RunOptions { start: weir::Start::Fresh, ..bench.options() };
    let third = weir::run(&crate::support::load(&job), options).await;
    assert_eq!(third.status, Status::Succeeded, "{:#?}", third.error);
    assert_eq!((read(&third, "orders"), read(&third, "items")), (0, 1));
    assert_equal(&from, &to, "in the end").await;
    // What would keep the last window alone is refused, table by table.
    let replacing =
        mirror(&from, &to, json!({"write": {"keyed": "overwrite"}, "tables": {"items": {"incremental": false}}}));
    let planned = bench.plan(&replacing).await.unwrap();
    let failed: Vec<_> = planned.database.unwrap().failed.into_iter().map(|table| table.source).collect();
    assert!(failed.len() == 1 && failed[0].ends_with("orders"), "{failed:?}");
}

#[tokio::test]
async fn a_change_column_without_an_index_is_told_once_for_each_table() {
    let root = tempfile::tempdir().unwrap();
    for from in Place::all(root.path(), "bare").await {
        let bench = Bench::new();
        let (moment, now) = from.moment();
        // Neither an index in which it comes second leads to it, nor one of its own name in another table.
        from.execute(&format!(
            "CREATE TABLE bare (id bigint PRIMARY KEY, v int, changed {moment} NOT NULL);
             CREATE TABLE led (id bigint PRIMARY KEY, v int, changed {moment} NOT NULL);
             CREATE TABLE numbered (id INTEGER PRIMARY KEY, v int);
             CREATE INDEX second ON bare (v, changed);
             CREATE INDEX first ON led (changed, v);
             INSERT INTO bare VALUES (1, 1, {now}); INSERT INTO led VALUES (1, 1, {now}); INSERT INTO numbered VALUES (1, 1)"
        ))
        .await;
        let to = Place::sqlite(root.path(), &format!("bare_{}", from.plugin()));
        let job = mirror(&from, &to, json!({}));
        let of = |warnings: &[String]| -> Vec<String> {
            warnings.iter().filter(|warning| warning.contains("no index")).cloned().collect()
        };
        let planned = bench.plan(&job).await.unwrap();
        let told: Vec<String> = planned.entries.iter().flat_map(|entry| of(&entry.warnings)).collect();
        assert!(
            told.len() == 1 && told[0].contains("bare") && told[0].contains("no index begins with changed"),
            "{told:?}"
        );
        let report = bench.run_ok(&job).await;
        assert_eq!(of(&report.warnings).len(), 1, "{:?}", report.warnings);
        from.execute("CREATE INDEX third ON bare (changed)").await;
        assert!(of(&bench.run_ok(&job).await.warnings).is_empty(), "{}", from.plugin());
    }
}

#[tokio::test]
async fn a_second_server_joins_and_the_first_goes_on() {
    for family in ["postgresql", "mysql"] {
        let bench = Bench::new();
        let place = async |name: &str| match family {
            "mysql" => Place::mariadb(name).await,
            _ => Place::postgresql(name).await,
        };
        let (first, second, to) = (place("first").await, place("second").await, place("both").await);
        for (from, number) in [(&first, 100), (&second, 200)] {
            from.execute(&format!(
                "CREATE TABLE orders (id bigint PRIMARY KEY, note varchar(40));
                 INSERT INTO orders VALUES ({}, 'a'), ({}, 'b')",
                number + 1,
                number + 2
            ))
            .await;
        }
        let ends = |sources: &[&Place], more: Value| {
            let mut job = mirror(&first, &to, json!({"incremental": {"column": "id"}}));
            job["source"] = sources.iter().map(|source| mirror(source, &to, json!({}))["source"].clone()).collect();
            job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            job
        };
        // Each into a table of its own.
        let apart = |sources: &[&Place]| {
            let table = "{SOURCE_DATASOURCE}_{SOURCE_DATABASE}_{SOURCE_TABLE}";
            ends(sources, json!({"name": "apart", "naming": {"schema": "{TARGET_SCHEMA}", "table": table}}))
        };
        assert_eq!(bench.run_ok(&apart(&[&first])).await.rows_read, 2);
        let joined = bench.run_ok(&apart(&[&first, &second])).await;
        assert_eq!((joined.tables.len(), joined.rows_read), (2, 2), "{family}: {:#?}", joined.tables);
        assert_eq!(bench.run_ok(&apart(&[&first, &second])).await.rows_read, 0);
        // Both into one: what is appended twice is there twice.
        let merged = |sources: &[&Place]| {
            let merge = json!({"merge": [{"into": "merged", "from": ["orders"]}]});
            let more = json!({"name": "merged", "objects": merge, "write": {"keyed": "append"},
                "naming": {"schema": "{TARGET_SCHEMA}"}});
            ends(sources, more)
        };
        bench.run_ok(&merged(&[&first])).await;
        for (sources, ids) in [
            (vec![&first, &second], "101 102 201 202"),
            (vec![&first, &second], "101 102 201 202 203"),
            (vec![&second], "101 102 201 202 203"),
        ] {
            let report = bench.run(&merged(&sources)).await;
            let found = to.rows("SELECT id FROM merged ORDER BY id").await;
            let found: Vec<_> = found.into_iter().flatten().flatten().collect();
            assert_eq!(found.join(" "), ids, "{family}: {:#?}", report.error);
            if !ids.ends_with("203") {
                second.execute("INSERT INTO orders VALUES (203, 'new')").await;
            }
        }
        // Only rows of one run are compared: a key that another shard brought earlier is not found.
        let mut upserted = merged(&[&first, &second]);
        upserted["write"] = json!({"keyed": "upsert"});
        let told = async |job: Value| {
            bench.plan(&job).await.unwrap().to_string().contains("only rows of one run are compared")
        };
        assert!(told(upserted.clone()).await, "{family}");
        upserted["objects"]["merge"][0]["origin"] = true.into();
        assert!(!told(upserted).await, "{family}");
        // A job that moves to another place is told, as before.
        // In MySQL the other database is in the table's name.
        if family == "postgresql" {
            let third = place("third").await;
            third.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note varchar(40))").await;
            let report = bench.run(&merged(&[&third])).await;
            let error = report.error.unwrap();
            assert!(error.message.contains("--full"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_target_that_was_dropped_is_read_from_the_beginning_whatever_becomes_of_the_run() {
    let root = tempfile::tempdir().unwrap();
    for from in Place::all(root.path(), "gone").await {
        let bench = Bench::new();
        let to = Place::sqlite(root.path(), &format!("gone_{}", from.plugin()));
        let ids =
            |first: u32, last: u32| (first..=last).map(|id| format!("({id}, 'v')")).collect::<Vec<_>>().join(", ");
        from.execute(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v varchar(9)); INSERT INTO t VALUES {}",
            ids(1, 100)
        ))
        .await;
        let job = mirror(&from, &to, json!({"naming": {"schema": "{TARGET_SCHEMA}"}, "objects": {"include": ["t"]}}));
        bench.run_ok(&job).await;
        from.execute("INSERT INTO t VALUES (101, 'new')").await;
        to.execute("DROP TABLE t").await;
        let planned = bench.plan(&job).await.unwrap();
        assert!(planned.entries[0].warnings.iter().any(|w| w.contains("as if for the first time")), "{planned}");
        // A try of a few rows moves no watermark: it would make the target, and the next run would miss what is not in it.
        let tried = weir::RunOptions { limit: Some(3), ..bench.options() };
        let report = weir::run(&crate::support::load(&job), tried).await;
        let refused = report.tables[0].error.as_ref().or(report.error.as_ref()).unwrap();
        assert!(refused.message.contains("without a limit"), "{refused:?}");
        if from.plugin() == "postgresql" {
            // A run that fails may leave the target that it has made: its rows are not there all the same.
            let mut failing = job.clone();
            failing["tables"] = json!({"t": {"where": "id / (id - 50) < 9999"}});
            let failed = bench.run(&failing).await;
            assert_ne!(failed.status, Status::Succeeded, "a division by zero");
            to.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)").await;
        }
        let options = weir::RunOptions { start: weir::Start::Fresh, ..bench.options() };
        let report = weir::run(&crate::support::load(&job), options).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
        let all = "SELECT count(*) FROM t";
        assert_eq!(to.rows(all).await, from.rows(all).await, "{}", from.plugin());
        from.execute("INSERT INTO t VALUES (102, 'newer')").await;
        assert_eq!(bench.run_ok(&job).await.rows_read, 1, "{}", from.plugin());
    }
}

#[tokio::test]
async fn columns_that_have_no_order_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    for from in Place::all(root.path(), "unordered").await {
        let (moment, now) = from.moment();
        from.execute(&format!(
            "CREATE TABLE led (id varchar(20) PRIMARY KEY, seen {moment} NOT NULL); INSERT INTO led VALUES ('a', {now});
             CREATE TABLE whole (id varchar(20) PRIMARY KEY, v varchar(9)); INSERT INTO whole VALUES ('a', 'x')"
        ))
        .await;
        from.settle().await;
        let bench = Bench::new();
        let to = Place::sqlite(root.path(), &format!("unordered_{}", from.plugin()));
        let more = json!({"naming": {"schema": "{TARGET_SCHEMA}"}, "incremental": {"column": ["changed", "id", "seen"]},
            "objects": {"include": ["led", "whole"]}});
        let mut job = mirror(&from, &to, more);
        bench.run_ok(&job).await;
        let again = bench.run_ok(&job).await;
        let read = |name: &str| {
            let named = |t: &&weir::TableReport| t.name.as_deref() == Some(name);
            again.tables.iter().find(named).unwrap_or_else(|| panic!("no {name} in {:#?}", again.tables)).rows_read
        };
        assert_eq!((read("led"), read("whole")), (0, 1), "{}", from.plugin());
        // Said of the table itself, it is a fault of the table.
        job["tables"] = json!({"led": {"incremental": {"column": "id"}}});
        let planned = bench.plan(&job).await.unwrap().database.unwrap();
        assert!(planned.failed.iter().any(|table| table.reason.contains("no exact order")), "{:?}", planned.failed);
    }
}

/// Tells, once, that a split is being read, and of which table.
struct AtFirstSplit(Mutex<Option<oneshot::Sender<String>>>);

impl Observer for AtFirstSplit {
    fn event(&self, event: &Event<'_>) {
        if let Event::SplitStarted { split, .. } = event
            && let Some(tell) = self.0.lock().unwrap().take()
        {
            let _ = tell.send(split.table.clone());
        }
    }
}

#[tokio::test]
async fn rows_that_come_between_the_snapshot_and_a_table_s_turn_are_read_by_the_next_run() {
    let root = tempfile::tempdir().unwrap();
    for from in Place::all(root.path(), "between").await {
        let family = from.plugin();
        let bench = Bench::new();
        let to = Place::sqlite(root.path(), &format!("between_{family}"));
        let (moment, now) = from.moment();
        if family == "sqlite" {
            from.execute("PRAGMA journal_mode = WAL").await;
        }
        let ids = |ids: std::ops::RangeInclusive<u32>, more: &str| -> String {
            ids.map(|id| format!("({id}{more})")).collect::<Vec<_>>().join(", ")
        };
        let tables = ["a", "b", "timed"];
        from.execute(&format!(
            "CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES {};
             CREATE TABLE b (id INTEGER PRIMARY KEY); INSERT INTO b VALUES {};
             CREATE TABLE timed (id INTEGER PRIMARY KEY, changed {moment} NOT NULL); INSERT INTO timed VALUES {}",
            ids(1..=800, ""),
            ids(1..=800, ""),
            ids(1..=800, &format!(", {now}")),
        ))
        .await;
        from.settle().await;
        let job = mirror(
            &from,
            &to,
            json!({
                "naming": {"schema": "{TARGET_SCHEMA}"}, "objects": {"include": tables},
                "group": {"strategy": "static", "tablesPerGroup": 1, "concurrentGroups": 1, "maxSourceConnections": 1},
                "setting": {"speed": {"record": 400}},
            }),
        );
        let (tell, told) = oneshot::channel();
        let options = weir::RunOptions { observer: Arc::new(AtFirstSplit(Mutex::new(Some(tell)))), ..bench.options() };
        let running = {
            let job = crate::support::load(&job);
            tokio::spawn(async move { weir::run(&job, options).await })
        };
        let first = told.await.unwrap();
        from.execute(&format!(
            "INSERT INTO a VALUES (801); INSERT INTO b VALUES (801); INSERT INTO timed VALUES (801, {now})"
        ))
        .await;
        let report = running.await.unwrap();
        assert_eq!((report.status, report.rows_written), (Status::Succeeded, 2_400), "{family}: {first} came first");
        from.settle().await;
        bench.run_ok(&job).await;
        for table in tables {
            let count = format!("SELECT count(*) FROM {table}");
            assert_eq!(to.rows(&count).await, from.rows(&count).await, "{family}: {table}, {first} came first");
        }
    }
}
