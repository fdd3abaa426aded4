//! Tables that a whole-database job looks at together.

use serde_json::json;
use weir_core::{ErrorKind, Form, TargetName, Writer};
use weir_writer_sqlite::SqliteWriter;

use crate::support::{TestFile, context};

fn target(table: &str) -> TargetName {
    TargetName { schema: None, table: table.into() }
}

#[tokio::test]
async fn what_was_looked_at_is_not_asked_again_and_only_once_believed() {
    let file = TestFile::new(
        "CREATE TABLE \"a b\"(id INTEGER PRIMARY KEY, mail TEXT UNIQUE, up INT REFERENCES \"a b\");
         CREATE TABLE Plain(v VARCHAR(5)); CREATE VIEW seen AS SELECT 1 AS n",
    )
    .await;
    let context = context(Form::Native);
    let open = |table: &str| {
        let parameters = json!({"path": file.path(), "table": format!("\"{table}\""), "createTable": true});
        SqliteWriter::open(&parameters, &context).unwrap()
    };
    let names = ["a b", "plain", "new", "seen"];
    let before: Vec<_> = seen(names.map(open)).await;
    let held = open("a b").look_ahead(&names.map(target)).await.unwrap();
    // Whatever becomes of the file.
    file.execute("DROP VIEW seen; DROP TABLE \"a b\"; DROP TABLE Plain; CREATE TABLE new(x INT)").await;
    let left = seen(names.map(open)).await;
    assert_eq!(left[..3], before[..3], "as one of them is asked about");
    // What was wrong is found again by the table's own writer.
    assert_eq!(
        (before[3].as_ref().unwrap_err(), left[3].as_ref().unwrap()),
        (&ErrorKind::Unsupported, &(false, vec![]))
    );
    // Each answer is for one use.
    let now = seen(names.map(open)).await;
    let there: Vec<bool> = now.iter().map(|table| table.as_ref().unwrap().0).collect();
    assert_eq!(there, [false, false, true, false]);
    drop(held);
}

/// Whether each table is there, and its columns; or what is wrong with it.
async fn seen(writers: [SqliteWriter; 4]) -> Vec<Result<(bool, Vec<String>), ErrorKind>> {
    let mut all = Vec::new();
    for writer in writers {
        let found = writer.target().await.map_err(|error| error.kind());
        all.push(found.map(|found| {
            let columns =
                found.columns.iter().map(|c| format!("{} {} {} {:?}", c.name, c.native_type, c.nullable, c.key));
            (found.exists, columns.collect())
        }));
    }
    all
}

#[tokio::test]
async fn many_tables_are_found_as_one_is() {
    let mut sql = String::new();
    for table in 0..1200 {
        sql += &format!("CREATE TABLE t{table}(id INTEGER PRIMARY KEY, v TEXT);\n");
    }
    let file = TestFile::new(&sql).await;
    let context = context(Form::Native);
    let writer = SqliteWriter::open(&json!({"path": file.path(), "table": "t0"}), &context).unwrap();
    let names: Vec<_> = (0..1200).map(|table| target(&format!("t{table}"))).collect();
    let _held = writer.look_ahead(&names).await.unwrap();
    file.execute("DROP TABLE t1199; DROP TABLE t700").await;
    for table in [0, 499, 500, 700, 1199] {
        let parameters = json!({"path": file.path(), "table": format!("t{table}")});
        assert!(SqliteWriter::open(&parameters, &context).unwrap().target().await.unwrap().exists, "t{table}");
    }
}
