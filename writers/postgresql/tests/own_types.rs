//! Types of the user are made again in a database that lacks them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::json;
use weir_core::field::with_native_type;
use weir_core::{ErrorKind, Writer};
use weir_plugins_test::harness::{self, Read, WriteOptions, open_reader, open_writer, read_all, write_all};
use weir_plugins_test::servers::{self, Database};
use weir_postgresql::SYSTEM;
use weir_postgresql::definitions::{Body, Declared, Definition, Part};
use {weir_reader_postgresql as _, weir_writer_postgresql as _};

async fn database(name: &str) -> Database {
    servers::postgresql().await.fresh_database(name).await
}

async fn read(from: &Database, table: &str) -> Read {
    read_all(&open_reader("postgresql", json!({"url": from.url(), "table": table})).unwrap()).await.unwrap()
}

fn writer(to: &Database, table: &str) -> Arc<dyn Writer> {
    open_writer("postgresql", json!({"url": to.url(), "table": table})).unwrap()
}

/// Everything that a domain is, in a form that two databases can be compared by.
const DOMAINS: &str = "SELECT string_agg(concat_ws(' ', t.oid::regtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull, \
    t.typdefault, (SELECT collname FROM pg_collation c WHERE c.oid = t.typcollation), \
    (SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), ', ' ORDER BY conname) FROM pg_constraint k \
     WHERE k.contypid = t.oid AND contype = 'c')), E'\n' ORDER BY t.typname) FROM pg_type t WHERE t.typtype = 'd' \
    AND t.typnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)";

const TYPES_OF: &str = "SELECT string_agg(format_type(atttypid, atttypmod), '; ' ORDER BY attnum) FROM pg_attribute \
                        WHERE attrelid = 's'::regclass AND attnum > 0";

const OWN: &str = "CREATE TYPE colour AS ENUM ('red', 'gr''een', '蓝'); \
    CREATE DOMAIN amount AS numeric(6,2) DEFAULT 1.50 NOT NULL CHECK (VALUE > 0) CHECK (VALUE < 1000); \
    CREATE DOMAIN email AS text COLLATE \"C\" CONSTRAINT \"an @\" CHECK (VALUE ~ '^[^@\\s]+@[^@]+$' AND VALUE <> ALL ('{a@b,''}'::text[])); \
    CREATE DOMAIN work AS email CHECK (length(VALUE) < 40); CREATE DOMAIN warm AS colour CHECK (VALUE <> '蓝'::colour); \
    CREATE DOMAIN tags AS text[] CHECK (cardinality(VALUE) < 5); CREATE DOMAIN \"Key\" AS uuid DEFAULT gen_random_uuid(); \
    CREATE DOMAIN since AS timestamp(3) with time zone CHECK (VALUE > '2000-01-01'::timestamptz); \
    CREATE TYPE pair AS (a int, b email, c warm[]); CREATE DOMAIN positive AS pair CHECK ((VALUE).a > 0); \
    CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = spans)";

#[tokio::test]
async fn domains_composites_and_ranges_are_made_again() {
    let (from, to) = (database("own_from").await, database("own_to").await);
    from.execute(OWN).await;
    from.execute(
        "CREATE TABLE s (id int PRIMARY KEY, a amount, e email, w work, c warm, ca colour[], wa warm[], t tags, ea email[], \
           k \"Key\", d since, p pair, pa pair[], q positive, r span, m spans, ra span[]); \
         INSERT INTO s VALUES (1, 1.50, 'x@y', 'x@work', 'gr''een', '{red,NULL,蓝}', '{red,red}', '{a,\"b,c\",NULL}', '{x@y,\"q,r@z\"}', \
           '11111111-2222-3333-4444-555555555555', '2024-02-29 12:00:00.125+02', '(1,x@y,\"{red}\")', '{\"(2,,)\",NULL}', '(3,,)', \
           '[1.5,2.5)', '{[1,2),[3,4)}', '{\"[1,2)\",empty}'); INSERT INTO s (id, a) VALUES (2, 999.99)",
    )
    .await;
    let read = read(&from, "s").await;
    let writing = writer(&to, "s");
    let written = write_all(&writing, read.batches(), WriteOptions::default()).await.unwrap();
    assert_eq!((written.rows(), written.refused.len()), (2, 0), "{:?}", written.refused);
    let said: Vec<_> = written.plan.warnings.iter().filter(|w| w.contains("type ")).collect();
    assert!(said.iter().all(|w| w.contains("no binary form")), "{said:?}");
    assert_eq!(to.value(TYPES_OF).await, from.value(TYPES_OF).await);
    assert_eq!(to.value(DOMAINS).await, from.value(DOMAINS).await);
    let rows = "SELECT string_agg(s::text, E'\n' ORDER BY id) FROM s";
    assert_eq!(to.value(rows).await, from.value(rows).await);
    let composite = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute \
                     WHERE attrelid = 'pair'::regclass";
    assert_eq!(to.value(composite).await, from.value(composite).await);
    // The plan names the statements, each before those that need it.
    let statements = &written.plan.statements;
    let at = |start: &str| {
        statements.iter().position(|s| s.starts_with(start)).unwrap_or_else(|| panic!("{start}: {statements:#?}"))
    };
    assert!(
        at("CREATE TYPE \"public\".\"colour\" AS ENUM")
            < at("CREATE DOMAIN \"public\".\"warm\" AS \"public\".\"colour\"")
    );
    assert!(at("CREATE DOMAIN \"public\".\"email\"") < at("CREATE DOMAIN \"public\".\"work\""));
    assert!(at("CREATE TYPE \"public\".\"pair\" AS (") < at("CREATE DOMAIN \"public\".\"positive\""));
    assert!(at("CREATE TYPE \"public\".\"span\" AS RANGE") < at("CREATE TABLE IF NOT EXISTS \"public\".\"s\" ("));
    assert_eq!(statements.iter().filter(|s| s.contains("TYPE \"public\".\"colour\"")).count(), 1);
    // Prepared again, and prepared for another table: the types are there.
    let preparing = writing.clone();
    let plan = written.plan.clone();
    harness::control(async move { preparing.prepare(&plan).await }).await.unwrap();
    let again = write_all(&writer(&to, "other"), read.batches(), WriteOptions::default()).await.unwrap();
    assert_eq!(again.rows(), 2);
    assert!(!again.plan.statements.iter().any(|s| s.starts_with("CREATE TYPE") || s.starts_with("CREATE DOMAIN")));
    // And the conditions hold.
    let refused = sqlx_error(&to, "INSERT INTO s (id, e) VALUES (3, 'nobody')").await;
    assert!(refused.contains("an @"), "{refused}");
    assert_eq!(to.value("INSERT INTO s (id) VALUES (4) RETURNING a::text").await, "1.50");
}

/// What the server says against a statement.
async fn sqlx_error(database: &Database, sql: &str) -> String {
    let sql = format!(
        "CREATE FUNCTION pg_temp.fault() RETURNS text LANGUAGE plpgsql AS $$ BEGIN {sql}; RETURN 'nothing'; \
         EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END $$; SELECT pg_temp.fault()"
    );
    database.value(&sql).await
}

#[tokio::test]
async fn a_type_goes_into_the_schema_it_has_at_the_source_if_that_is_here() {
    let (from, to) = (database("own_schema_from").await, database("own_schema_to").await);
    from.execute(
        "CREATE SCHEMA shop; CREATE SCHEMA old; CREATE TYPE shop.\"Size\" AS ENUM ('S', 'M'); \
         CREATE DOMAIN shop.small AS shop.\"Size\" CHECK (VALUE = 'S'::shop.\"Size\"); \
         CREATE DOMAIN old.small AS int CHECK (VALUE < 10); CREATE DOMAIN old.tiny AS old.small CHECK (VALUE < 2); \
         CREATE TABLE s (a shop.small, b old.small, c old.tiny, d shop.\"Size\"[]); INSERT INTO s VALUES ('S', 1, 1, '{S,M}')",
    )
    .await;
    to.execute("CREATE SCHEMA shop").await;
    let read = read(&from, "s").await;
    let written = write_all(&writer(&to, "s"), read.batches(), WriteOptions::default()).await.unwrap();
    assert_eq!((written.rows(), written.refused.len()), (1, 0), "{:?}", written.refused);
    assert_eq!(to.value(TYPES_OF).await, "shop.small; small; tiny; shop.\"Size\"[]");
    assert_eq!(to.value("SELECT s::text FROM s").await, "(S,1,1,\"{S,M}\")");
    // Two of one name find no room in one schema: the second says so and becomes what is below it.
    let third = database("own_schema_third").await;
    let written = write_all(&writer(&third, "s"), read.batches(), WriteOptions::default()).await.unwrap();
    assert_eq!(third.value(TYPES_OF).await, "small; integer; integer; \"Size\"[]");
    let said = written.plan.warnings.join("\n");
    assert!(said.contains("another column's type is made under the name public.small"), "{said}");
}

fn forged(check: &str) -> RecordBatch {
    let part =
        |text: &str, own: Option<(String, String)>| Part { text: text.into(), own, array: false, collation: None };
    let own = ("public".to_owned(), "forged".to_owned());
    let definition = Definition {
        schema: own.0.clone(),
        name: own.1.clone(),
        visible: true,
        body: Body::Domain {
            base: part("text", None),
            not_null: false,
            default: None,
            checks: vec![("c".into(), check.into())],
        },
        needs: Vec::new(),
    };
    let declared = Declared { of: part("forged", Some(own)), types: vec![definition] };
    let field = declared.on(with_native_type(Field::new("c", DataType::Utf8, true), SYSTEM, "forged"));
    let array: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
}

#[tokio::test]
async fn a_strangers_definition_gets_no_code_into_the_database() {
    let to = database("own_forged").await;
    to.execute("CREATE TABLE precious (a int); CREATE FUNCTION wipe() RETURNS bool LANGUAGE plpgsql AS 'BEGIN DELETE FROM precious; RETURN true; END'").await;
    for (check, says) in [
        ("true); DROP TABLE precious; SELECT (1", "cannot insert multiple commands"),
        ("wipe()", "calls wipe()"),
        ("pg_read_file(VALUE) <> ''", "calls pg_read_file(text)"),
        ("VALUE <> set_config('role', 'postgres', false)", "calls set_config(text,text,boolean)"),
    ] {
        let error = write_all(&writer(&to, "s"), vec![forged(check)], WriteOptions::default()).await.err().unwrap();
        assert!(error.full().contains(says) && error.kind() != ErrorKind::Internal, "{check}: {}", error.full());
        assert_eq!(
            to.value("SELECT coalesce(to_regtype('forged')::text, 'none') || to_regclass('precious')::text").await,
            "noneprecious"
        );
    }
    let written = write_all(&writer(&to, "s"), vec![forged("VALUE <> ''")], WriteOptions::default()).await.unwrap();
    assert_eq!(written.rows(), 1);
}
