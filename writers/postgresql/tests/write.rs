//! The writer against a real server.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};
use weir_core::field::{NATIVE, TEXT, extension};
use weir_core::{CheckOutcome, ErrorKind, Reader, SourceColumn, Writer};
use weir_plugins_test::harness::{self, ReadOptions, WriteOptions, open_reader, open_writer, read_with, write_all};
use weir_plugins_test::servers::{self, Database};
use {weir_reader_postgresql as _, weir_writer_postgresql as _};

async fn database(name: &str) -> Database {
    servers::postgresql().await.fresh_database(name).await
}

fn writer(database: &Database, mut parameters: Value) -> Arc<dyn Writer> {
    parameters["url"] = database.url().into();
    open_writer("postgresql", parameters).unwrap()
}

fn rows(ids: &[i32], names: &[Option<&str>]) -> RecordBatch {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int32Array::from(ids.to_vec())) as ArrayRef),
        ("name", Arc::new(StringArray::from(names.to_vec())) as ArrayRef),
    ])
    .unwrap()
}

async fn all(database: &Database, table: &str) -> String {
    database.value(&format!("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM {table} t")).await
}

async fn litter(database: &Database) -> String {
    database
        .value("SELECT count(*) FROM pg_class WHERE relname LIKE 'weir\\_%' AND relname NOT LIKE 'weir_commits%'")
        .await
}

type Form = fn(&SourceColumn) -> &arrow::datatypes::Field;

const TYPES: &[(&str, &str)] = &[
    ("boolean", "true"),
    ("smallint", "-1"),
    ("integer", "7"),
    ("bigint", "-9223372036854775808"),
    ("real", "'-Infinity'"),
    ("double precision", "0.1"),
    ("numeric(10,2)", "-0.05"),
    ("numeric(50,20)", "123456789012345678901234567890.00000000000000000001"),
    ("numeric", "1e-30"),
    ("text", "E'wéir\\t🦀\\\\'"),
    ("character varying(5)", "''"),
    ("character(4)", "'ab'"),
    ("bytea", "'\\x00ff'"),
    ("date", "'2024-02-29'"),
    ("time(3) without time zone", "'23:59:59.999'"),
    ("time with time zone", "'12:00:00+02'"),
    ("timestamp without time zone", "'1969-12-31 23:59:59.999999'"),
    ("timestamp with time zone", "'2024-02-29 12:00:00.5+05:30'"),
    ("interval", "'1 year -2 months 3 days -04:05:06.5'"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    ("json", "'{\"b\": 1.00, \"a\":2}'"),
    ("jsonb", "'{\"b\":1.00}'"),
    ("oid", "4294967295"),
    ("inet", "'10.0.0.1/8'"),
    ("bit(3)", "'101'"),
    ("xml", "'<a/>'"),
    ("int4range", "'[1,5)'"),
    ("point", "'(1,2)'"),
    ("integer[]", "'{1,NULL,3}'"),
    ("text[]", "'{\"a,b\",\"NULL\",\"\\\"\"}'"),
    ("colour", "'red'"),
    ("pair", "'(1,\"x y\")'"),
];

fn native(column: &SourceColumn) -> &arrow::datatypes::Field {
    column.representations.iter().find(|f| extension(f) == Some(NATIVE)).unwrap_or(column.canonical())
}

fn canonical(column: &SourceColumn) -> &arrow::datatypes::Field {
    column.canonical()
}

fn as_text(column: &SourceColumn) -> &arrow::datatypes::Field {
    column.representations.iter().find(|f| extension(f) == Some(TEXT)).unwrap_or(column.canonical())
}

async fn batches(reader: &Arc<dyn Reader>, choose: Form, count: usize) -> Vec<RecordBatch> {
    let columns = Some((0..count).collect());
    let read = read_with(reader, ReadOptions { choose, columns, ..ReadOptions::default() }).await.unwrap();
    assert_eq!(read.rejected(), []);
    read.batches()
}

#[tokio::test]
async fn every_type_comes_back_in_every_form() {
    let database = database("types").await;
    let columns: Vec<_> = TYPES.iter().enumerate().map(|(i, (t, _))| format!("c{i} {t}")).collect();
    let values: Vec<_> = TYPES.iter().map(|(_, v)| *v).collect();
    let nulls: Vec<_> = TYPES.iter().map(|_| "NULL").collect();
    database
        .execute(&format!(
            "CREATE TYPE colour AS ENUM ('red', 'green'); CREATE TYPE pair AS (a int, b text); \
             CREATE TABLE s ({}); INSERT INTO s VALUES ({}), ({})",
            columns.join(", "),
            values.join(", "),
            nulls.join(", ")
        ))
        .await;
    let reader = open_reader("postgresql", json!({"url": database.url(), "table": "s"})).unwrap();
    let forms: [(&str, Form, usize); 3] =
        // Without the composite, which makes the whole table go as text.
        [("n", native, TYPES.len() - 1), ("c", canonical, TYPES.len()), ("t", as_text, TYPES.len())];
    for (table, form, count) in forms {
        // The text forms go into columns of the right types, as they cannot tell a new table's.
        if table == "t" {
            database.execute("CREATE TABLE t (LIKE s)").await;
        }
        let to = writer(&database, json!({"table": table}));
        let written = write_all(&to, batches(&reader, form, count).await, WriteOptions::default()).await.unwrap();
        assert_eq!((written.rows(), written.refused.len()), (2, 0), "{table}: {:?}", written.refused);
        let types = |t: &str| {
            format!(
                "SELECT string_agg(format_type(atttypid, atttypmod), ';' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{t}'::regclass AND attnum BETWEEN 1 AND {count}"
            )
        };
        assert_eq!(database.value(&types(table)).await, database.value(&types("s")).await);
        for (i, (name, _)) in TYPES.iter().enumerate().take(count) {
            let value = |t: &str| format!("SELECT string_agg(coalesce(c{i}::text, 'NULL'), '; ') FROM {t}");
            assert_eq!(database.value(&value(table)).await, database.value(&value("s")).await, "{table}: {name}");
        }
    }
}

#[tokio::test]
async fn refused_rows_come_back_with_column_and_reason() {
    let database = database("refused").await;
    database
        .execute("CREATE TABLE \"t 1\" (id int PRIMARY KEY, name varchar(5) NOT NULL CHECK (name <> 'bad'), at timestamp(0))")
        .await;
    let mut ids: Vec<i32> = (0..3000).collect();
    let mut names: Vec<Option<&str>> = vec![Some("ok"); 3000];
    names[10] = Some("toolong");
    names[20] = None;
    names[30] = Some("bad");
    names[40] = Some("a\0b");
    ids[50] = 49;
    let mut at = vec![Some(0); 3000];
    at[60] = Some(1);
    let batch = rows(&ids, &names);
    let batch = RecordBatch::try_from_iter([
        ("id", batch.column(0).clone()),
        ("name", batch.column(1).clone()),
        ("at", Arc::new(TimestampMicrosecondArray::from(at)) as ArrayRef),
    ])
    .unwrap();
    let to = writer(&database, json!({"table": "\"t 1\"", "batchSize": 1000}));
    let written = write_all(&to, vec![batch], WriteOptions::default()).await.unwrap();
    assert_eq!(written.rows(), 2994);
    assert_eq!(database.value("SELECT count(*) FROM \"t 1\"").await, "2994");
    let mut refused: Vec<_> =
        written.refused.iter().map(|r| (r.values["id"].as_str().unwrap().parse::<i32>().unwrap(), r)).collect();
    refused.sort_by_key(|(id, _)| *id);
    assert_eq!(refused.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [10, 20, 30, 40, 49, 60]);
    assert_eq!(refused[0].1.column.as_deref(), Some("name"));
    assert!(refused[3].1.reason.contains("NUL"), "{}", refused[3].1.reason);
    assert!(refused[4].1.reason.contains("(id)=(49)"), "{}", refused[4].1.reason);
    assert!(refused[5].1.reason.contains("digits after the second"));
}

#[tokio::test]
async fn an_overwrite_is_published_at_once_and_once() {
    let database = database("overwrite").await;
    database
        .execute(
            "CREATE TABLE p (id int PRIMARY KEY, name text, j json); CREATE TABLE child (p int REFERENCES p); \
             INSERT INTO p VALUES (1, 'one', '{}'), (2, 'two', '[]'), (3, 'three', NULL); INSERT INTO child VALUES (2)",
        )
        .await;
    let to = writer(&database, json!({"table": "p", "writeMode": "overwrite", "column": ["id", "name"]}));
    let schema = rows(&[], &[]).schema();
    let splits = vec![vec![rows(&[2], &[Some("TWO")])], vec![rows(&[4, 4], &[Some("four"), Some("again")])]];
    let staged = harness::stage_splits(&to, &schema, splits, WriteOptions::default()).await.unwrap();
    assert_eq!(staged.refused.len(), 1);
    assert_eq!(all(&database, "p").await, "(1,one,{}) (2,two,[]) (3,three,)");
    assert_eq!(staged.commit().await.unwrap().rows, Some(2));
    assert_eq!(all(&database, "p").await, "(2,TWO,) (4,four,)", "an unlisted column falls to its default");
    database.execute("INSERT INTO p VALUES (9, 'later')").await;
    staged.commit().await.unwrap();
    assert_eq!(database.value("SELECT count(*) FROM p").await, "3");
    assert_eq!(litter(&database).await, "0");

    // A row that others refer to cannot go: nothing is changed, nothing is left behind.
    let error = write_all(&to, vec![rows(&[5], &[None])], WriteOptions::default()).await.unwrap_err();
    assert!(error.full().contains("child"), "{}", error.full());
    assert_eq!(database.value("SELECT count(*) FROM p").await, "3");
    assert_eq!(litter(&database).await, "0");

    let empty = vec![rows(&[], &[])];
    for (choice, left) in [("keep", "2"), ("overwrite", "0")] {
        database
            .execute("DROP TABLE IF EXISTS e; CREATE TABLE e (id int, name text); INSERT INTO e VALUES (1), (2)")
            .await;
        let to = writer(&database, json!({"table": "e", "writeMode": "overwrite", "onEmpty": choice}));
        write_all(&to, empty.clone(), WriteOptions::default()).await.unwrap();
        assert_eq!(database.value("SELECT count(*) FROM e").await, left, "{choice}");
    }
    let to = writer(&database, json!({"table": "e", "writeMode": "overwrite", "onEmpty": "error"}));
    assert_eq!(write_all(&to, empty, WriteOptions::default()).await.unwrap_err().kind(), ErrorKind::Data);
    assert_eq!(litter(&database).await, "0");
}

#[tokio::test]
async fn names_in_any_letters_are_found() {
    let database = database("letters").await;
    database
        .execute(
            "CREATE SCHEMA \"Ä\"; CREATE TABLE \"Ä\".\"Übersicht\" (id int PRIMARY KEY, name text); \
             CREATE TABLE \"Заказы\" (id int PRIMARY KEY, name text); INSERT INTO \"Ä\".\"Übersicht\" VALUES (1, 'one'); \
             CREATE TABLE child (p int REFERENCES \"Ä\".\"Übersicht\" ON DELETE CASCADE); INSERT INTO child VALUES (1)",
        )
        .await;
    for (table, exists) in [("Ä.Übersicht", true), ("ä.übersicht", false), ("Заказы", true), ("заказы", false)]
    {
        let target = writer(&database, json!({"table": table}));
        let found = harness::control(async move { target.target().await }).await.unwrap();
        assert_eq!((found.exists, found.columns.len()), (exists, if exists { 2 } else { 0 }), "{table}");
    }
    let to = writer(&database, json!({"table": "заказы", "writeMode": "overwrite"}));
    let written = write_all(&to, vec![rows(&[7], &[None])], WriteOptions::default()).await.unwrap();
    assert!(written.plan.creates, "another table");
    assert_eq!(
        (all(&database, "\"заказы\"").await, all(&database, "\"Заказы\"").await),
        ("(7,)".into(), String::new())
    );
    let to = writer(&database, json!({"table": "Ä.Übersicht", "writeMode": "overwrite"}));
    write_all(&to, vec![rows(&[1, 2], &[Some("ONE"), Some("two")])], WriteOptions::default()).await.unwrap();
    assert_eq!(all(&database, "\"Ä\".\"Übersicht\"").await, "(1,ONE) (2,two)");
    assert_eq!(
        database.value("SELECT count(*) FROM child").await,
        "1",
        "rows that others refer to are changed in place"
    );
}

#[tokio::test]
async fn very_many_refused_rows_hold_no_lock_each() {
    let database = database("refused_many").await;
    database
        .execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT generate_series(1, 9000)")
        .await;
    let ids: Vec<i32> = (1..=9000).collect();
    let to = writer(&database, json!({"table": "t"}));
    // The server has room for some 7,000 locks.
    let staged = harness::stage(&to, vec![rows(&ids, &vec![None; ids.len()])], WriteOptions::default()).await.unwrap();
    assert_eq!(staged.refused.len(), 9000);
    staged.commit().await.unwrap();
    assert_eq!(database.value("SELECT count(*) FROM t").await, "9000");
}

#[tokio::test]
async fn a_table_in_other_letters_is_another_one() {
    let database = database("namesake").await;
    database
        .execute(
            "CREATE TABLE \"Kunde\" (id int, name text); INSERT INTO \"Kunde\" VALUES (0, 'kept'); \
             CREATE SCHEMA \"S\"; CREATE TABLE \"S\".t (id int, name text); CREATE TABLE orders (id int, name text)",
        )
        .await;
    let missing =
        |table: &str| open_writer("postgresqlwriter", json!({"url": database.url(), "table": table})).unwrap();
    for (table, hint) in [
        ("kunde", "did you mean `\"Kunde\"`"),
        ("KUNDE", "did you mean `\"Kunde\"`"),
        ("public.\"kunde\"", "did you mean `\"Kunde\"`"),
        ("\"ORDERS\"", "did you mean `orders`"),
        ("s.t", "did you mean `\"S\"`"),
    ] {
        let to = missing(table);
        let error = write_all(&to, vec![rows(&[1], &[None])], WriteOptions::default()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::NotFound && error.message().contains(hint), "{table}: {error}");
        let lines = harness::control(async move { Ok(to.check().await) }).await.unwrap();
        assert!(
            lines.iter().any(|l| l.outcome == CheckOutcome::Fault && l.detail.contains(hint)),
            "{table}: {lines:?}"
        );
    }
    // What is not quoted is also what the server makes of it.
    write_all(&missing("PUBLIC.Orders"), vec![rows(&[1], &[None])], WriteOptions::default()).await.unwrap();
    assert_eq!(all(&database, "orders").await, "(1,)");
    for (table, created) in [("KUNDE", "\"KUNDE\""), ("public.\"kunde\"", "kunde"), ("\"ORDERS\"", "\"ORDERS\"")] {
        for run in 0..2 {
            let to = writer(&database, json!({"table": table, "writeMode": "overwrite"}));
            let written = write_all(&to, vec![rows(&[1], &[Some("new")])], WriteOptions::default()).await.unwrap();
            assert_eq!(written.plan.creates, run == 0, "{table}");
            let near = written.plan.warnings.iter().any(|warning| warning.contains("the nearest existing table is"));
            assert_eq!(near, run == 0, "{table}: {:?}", written.plan.warnings);
        }
        assert_eq!(all(&database, created).await, "(1,new)", "{table}");
    }
    assert_eq!(all(&database, "\"Kunde\"").await, "(0,kept)");
    // With both of them there, each is found by its own name.
    database.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int, name text)").await;
    for (table, text) in [("S.t", "one"), ("s.t", "two"), ("S.T", "three"), ("\"S\".\"t\"", "four")] {
        write_all(&missing(table), vec![rows(&[1], &[Some(text)])], WriteOptions::default()).await.unwrap();
    }
    assert_eq!(all(&database, "\"S\".t").await, "(1,four) (1,one) (1,three)");
    assert_eq!(all(&database, "s.t").await, "(1,two)");
}

#[tokio::test]
async fn an_upsert_takes_the_last_row_of_each_key() {
    let database = database("upsert").await;
    database
        .execute(
            "CREATE TABLE t (n int GENERATED ALWAYS AS IDENTITY, id int PRIMARY KEY, name text, kept text DEFAULT 'd'); \
             INSERT INTO t (id, name, kept) VALUES (1, 'old', 'k'), (2, 'two', 'k'); \
             CREATE TABLE u (id int UNIQUE, name text); CREATE TABLE nokey (id int, name text)",
        )
        .await;
    let batch = rows(&[1, 3, 1], &[Some("first"), None, Some("last")]);
    let to = writer(&database, json!({"table": "t", "writeMode": "update"}));
    let written = write_all(&to, vec![batch.clone()], WriteOptions::default()).await.unwrap();
    assert_eq!(written.committed.rows, Some(2));
    assert_eq!(
        database.value("SELECT string_agg(concat_ws('/', id, name, kept), ' ' ORDER BY id) FROM t").await,
        "1/last/k 2/two/k 3/d"
    );
    let nullable = RecordBatch::try_from_iter([
        ("id", Arc::new(Int32Array::from(vec![None, None, Some(1)])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["a", "b", "c"])) as ArrayRef),
    ])
    .unwrap();
    let to = writer(&database, json!({"table": "u", "writeMode": "upsert", "key": "ID"}));
    write_all(&to, vec![nullable], WriteOptions::default()).await.unwrap();
    assert_eq!(all(&database, "u").await, "(,a) (,b) (1,c)");
    for (parameters, says) in [
        (json!({"table": "nokey", "writeMode": "upsert"}), "no primary key"),
        (json!({"table": "nokey", "writeMode": "upsert", "key": "id"}), "unique index"),
        (json!({"table": "t", "writeMode": "replace"}), "MySQL"),
    ] {
        let error =
            write_all(&writer(&database, parameters), vec![batch.clone()], WriteOptions::default()).await.unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
    let to = writer(&database, json!({"table": "t", "writeMode": "insert ignore"}));
    let written = write_all(&to, vec![rows(&[3, 4], &[Some("x"), Some("y")])], WriteOptions::default()).await.unwrap();
    assert_eq!((written.rows(), written.receipts[0].skipped), (1, 1));
    assert_eq!(litter(&database).await, "0");
}

#[tokio::test]
async fn narrower_columns_are_asked_for_and_identities_are_kept() {
    let database = database("existing").await;
    database
        .execute(
            "CREATE TABLE t (\"Id\" smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, twice int GENERATED ALWAYS AS (\"Id\" * 2) STORED, name text); \
             CREATE TABLE r (LIKE t INCLUDING ALL)",
        )
        .await;
    let batch = RecordBatch::try_from_iter([("Id", Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef)]).unwrap();
    for (table, mode) in [("t", "append"), ("r", "overwrite"), ("r", "upsert"), ("r", "ignore")] {
        let to = writer(
            &database,
            json!({"table": table, "writeMode": mode,
            "preSql": ["COMMENT ON TABLE @table IS 'pre'"], "postSql": "ANALYZE @table"}),
        );
        write_all(&to, vec![batch.clone()], WriteOptions::default()).await.unwrap();
        assert_eq!(all(&database, table).await, "(7,14,) (8,16,)", "{mode}");
    }
    let generated = RecordBatch::try_from_iter([("twice", batch.column(0).clone())]).unwrap();
    let error = write_all(&writer(&database, json!({"table": "t"})), vec![generated], WriteOptions::default()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Schema);

    let missing = || json!({"url": database.url(), "table": "tt", "username": database.user()});
    let error =
        write_all(&open_writer("postgresqlwriter", missing()).unwrap(), vec![batch.clone()], WriteOptions::default())
            .await
            .unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("did you mean `t`"), "{error}");
    let written =
        write_all(&open_writer("postgresql", missing()).unwrap(), vec![batch], WriteOptions::default()).await.unwrap();
    assert!(
        written.plan.creates && written.plan.warnings[0].contains("nearest existing table is `t`"),
        "{:?}",
        written.plan.warnings
    );
}

/// The server would cut them, and the next run would find the table under neither name.
#[tokio::test]
async fn names_that_the_server_would_cut_are_refused() {
    let database = database("long").await;
    let column =
        |name: &str| RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(vec![7])) as ArrayRef)]).unwrap();
    let long = format!("{}é", "t".repeat(62));
    let fits = "t".repeat(63);
    for (table, name) in [(long.as_str(), "id"), ("c", long.as_str())] {
        for create in [true, false] {
            let to = writer(&database, json!({"table": table, "createTable": create}));
            let error = write_all(&to, vec![column(name)], WriteOptions::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.message().contains("64 bytes, the target takes 63"), "{error}");
        }
    }
    for _ in 0..2 {
        let to = writer(&database, json!({"table": fits}));
        write_all(&to, vec![column(&fits)], WriteOptions::default()).await.unwrap();
    }
    assert_eq!(all(&database, &fits).await, "(7) (7)");
}

#[tokio::test]
async fn an_abort_leaves_nothing_and_check_names_what_is_missing() {
    let database = database("abort").await;
    let role = format!("{}_role", database.name());
    database
        .execute(&format!(
            "CREATE TABLE t (id int, name text); CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT INSERT ON t TO \"{role}\"; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        ))
        .await;
    let to = writer(&database, json!({"table": "t", "writeMode": "overwrite"}));
    let staged = harness::stage(&to, vec![rows(&[1], &[None])], WriteOptions::default()).await.unwrap();
    assert_eq!(litter(&database).await, "1");
    staged.abort().await.unwrap();
    staged.abort().await.unwrap();
    assert_eq!(litter(&database).await, "0");

    let parameters = json!({"url": database.url_with(&role, "p"), "table": "t", "writeMode": "overwrite"});
    let to = open_writer("postgresql", parameters).unwrap();
    let lines = harness::control(async move { Ok(to.check().await) }).await.unwrap();
    let faults: Vec<_> = lines.iter().filter(|l| l.outcome == CheckOutcome::Fault).map(|l| l.what.as_str()).collect();
    let expected = [
        "SELECT on public.t",
        "DELETE on public.t",
        "UPDATE on public.t",
        "use of public.weir_commits",
        "CREATE in public",
    ];
    assert_eq!(faults, expected);
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}
