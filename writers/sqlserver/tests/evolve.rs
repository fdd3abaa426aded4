//! What a table takes over from its source, its changes and its lease, on the server that `WEIR_TEST_SQLSERVER` names.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use serde_json::json;
use weir_core::{
    ColumnDefault, ColumnDescription, Completion, Identity, Lease, MappedColumn, ObjectKind, ObjectName, OnTypeLoss,
    Reference, TableChange, TableDescription, TargetName, UniqueKey, WriteRequest, Writer,
};
use weir_plugins_test::harness::{WriteOptions, columns_of, open_writer, write_all};
use weir_plugins_test::not_run;
use weir_plugins_test::servers::{self, Database};
use weir_writer_sqlserver as _;

/// Whether numbers go on is asked of rows that the server numbers.
async fn insert(database: &Database, value: &str) -> String {
    database.execute(&format!("INSERT INTO made (name) VALUES (N'{value}')")).await;
    database.value(&format!("SELECT id FROM made WHERE name = N'{value}'")).await
}

fn rows() -> RecordBatch {
    let id: ArrayRef = Arc::new(Int32Array::from(vec![3, 7]));
    let name: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b")]));
    let parent: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(3)]));
    RecordBatch::try_from_iter_with_nullable([("id", id, false), ("name", name, true), ("parent", parent, true)])
        .unwrap()
}

fn described() -> TableDescription {
    let column = |name: &str, nullable: bool| ColumnDescription {
        labels: Vec::new(),
        name: name.into(),
        native_type: String::new(),
        nullable,
        default: None,
        generated: None,
        identity: None,
        comment: None,
    };
    let name = ColumnDescription { default: Some(ColumnDefault::Literal("it's".into())), ..column("name", true) };
    let identity = Some(Identity { always: true, next: Some(50), increment: 1 });
    TableDescription {
        name: ObjectName { database: "d".into(), schema: None, table: "made".into() },
        kind: ObjectKind::Table,
        columns: vec![ColumnDescription { identity, ..column("id", false) }, name, column("parent", true)],
        primary_key: vec!["id".into()],
        unique: Vec::new(),
        foreign_keys: Vec::new(),
        comment: Some("what it is".into()),
    }
}

fn request() -> WriteRequest {
    let mut columns = columns_of(&rows().schema());
    columns[0].key = Some(1);
    columns[1].comment = Some("its name".into());
    WriteRequest {
        run_id: "r1".into(),
        columns,
        source: "made".into(),
        on_type_loss: OnTypeLoss::default(),
        described: Some(described()),
        decides_at_end: false,
    }
}

fn writer(database: &Database) -> Arc<dyn Writer> {
    open_writer("sqlserver", json!({ "url": database.url(), "table": "made" })).unwrap()
}

/// Makes the table and brings in its rows.
async fn made(database: &Database) -> Arc<dyn Writer> {
    let writer = writer(database);
    let plan = writer.plan(&request()).await.unwrap();
    assert!(plan.creates && plan.statements.iter().any(|sql| sql.contains("IDENTITY(1,1)")), "{:?}", plan.statements);
    writer.prepare(&plan).await.unwrap();
    let written = write_all(&writer, vec![rows()], WriteOptions::default()).await.unwrap();
    assert_eq!((written.rows(), written.refused.len()), (2, 0));
    writer
}

#[tokio::test]
async fn a_table_takes_over_what_its_source_has() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("carried").await;
    let writer = made(&database).await;
    let sql =
        "SELECT CAST(value AS nvarchar(100)) FROM sys.extended_properties WHERE name = 'MS_Description' ORDER BY 1";
    let comments: Vec<_> = database.query(sql).await.into_iter().flatten().flatten().collect();
    assert_eq!(comments, ["its name", "what it is"]);
    database.execute("INSERT INTO made (parent) VALUES (7)").await;
    assert_eq!(database.value("SELECT name FROM made WHERE parent = 7").await, "it's");

    let evolve = writer.evolve().unwrap();
    let key = |name: &str, on_delete: &str| Reference {
        name: name.into(),
        columns: vec!["parent".into()],
        to: TargetName { schema: None, table: "made".into() },
        to_columns: vec!["id".into()],
        on_delete: on_delete.into(),
        on_update: "NO ACTION".into(),
    };
    let completion = Completion {
        positions: vec![("id".into(), 50)],
        unique: vec![UniqueKey { name: "uk".into(), columns: vec!["parent".into(), "id".into()] }],
        foreign_keys: vec![key("fk", "RESTRICT")],
    };
    for _ in 0..2 {
        let undone = evolve.complete(&completion).await.unwrap().undone;
        // Babelfish keeps no key unique that takes NULL.
        assert!(undone.iter().all(|text| text.contains("UNIQUE")), "{undone:?}");
    }
    let keys = "SELECT COUNT(*) FROM sys.foreign_keys WHERE parent_object_id = OBJECT_ID('made')";
    assert_eq!(database.value(keys).await, "1");
    assert_eq!((insert(&database, "x").await, insert(&database, "y").await), ("50".into(), "51".into()));
    let meant = [key("another name", "CASCADE")];
    let found = evolve.foreign_keys(&meant).await.unwrap();
    assert_eq!((found.len(), found[0].key.name.as_str()), (1, "fk"));
    for _ in 0..2 {
        evolve.release(&found).await.unwrap();
        assert_eq!(database.value(keys).await, "0");
    }
    for _ in 0..2 {
        evolve.restore(&found[0]).await.unwrap();
        assert_eq!(evolve.foreign_keys(&meant).await.unwrap(), found);
    }
}

#[tokio::test]
async fn a_column_changes_with_its_default_and_its_rows() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("changed").await;
    let name = "name nvarchar(5) COLLATE Latin1_General_CI_AS NOT NULL DEFAULT N'none'";
    database
        .execute(&format!("CREATE TABLE made (id int NOT NULL PRIMARY KEY, n int NOT NULL DEFAULT 5, {name})"))
        .await;
    database.execute("INSERT INTO made (id) VALUES (1)").await;
    let writer = writer(&database);
    let evolve = writer.evolve().unwrap();
    let column = |name: &str, data_type: DataType, nullable: bool| MappedColumn {
        nullable,
        comment: (name == "more").then(|| "a new one".into()),
        ..columns_of(&arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(name, data_type, true)]).into())
            .remove(0)
    };
    let default = Some(ColumnDefault::Literal("x".into()));
    let mut changes = vec![
        TableChange::WidenColumn { column: column("n", DataType::Int64, false) },
        TableChange::WidenColumn { column: column("name", DataType::Utf8, true) },
        TableChange::AddColumn { column: column("more", DataType::Utf8, true), default },
    ];
    let allows = !database.is_babelfish().await;
    if allows {
        changes.push(TableChange::AllowNull { column: column("name", DataType::Utf8, true) });
    }
    let done = evolve.alter(&changes).await.unwrap();
    assert!(!done.is_empty() && evolve.alterations(&changes).await.unwrap().is_empty(), "{done:?}");
    let name = if allows { "NULL" } else { "'longer than before'" };
    database.execute(&format!("INSERT INTO made (id, name) VALUES (2, {name})")).await;
    let cell = |text: &str| Some(text.to_owned());
    let second = if allows { None } else { cell("longer than before") };
    assert_eq!(
        database.query("SELECT n, name, more FROM made ORDER BY id").await,
        [[cell("5"), cell("none"), cell("x")], [cell("5"), second, cell("x")]]
    );
    if !allows {
        return not_run("Babelfish changes neither the NULL nor the COLLATE of a column; the other changes are run");
    }
    let collation =
        "SELECT COLLATION_NAME FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'made' AND COLUMN_NAME = 'name'";
    assert_eq!(database.value(collation).await.to_lowercase(), "latin1_general_ci_as");
}

#[tokio::test]
async fn one_machine_holds_the_lease() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("lease").await;
    let writer = writer(&database);
    let plan = writer.plan(&request()).await.unwrap();
    let leases = writer.leases().unwrap();
    assert!(leases.place(&plan).unwrap().ends_with("dbo.weir_commits"), "{:?}", leases.place(&plan));
    let lease = |holder: &str, seconds: u64| Lease {
        job: "nightly's".into(),
        run_id: "r1".into(),
        holder: holder.into(),
        machine: "here".into(),
        process: 1,
        seconds,
    };
    assert_eq!(leases.take(&plan, &lease("a", 60)).await.unwrap(), None);
    assert_eq!(leases.take(&plan, &lease("a", 60)).await.unwrap(), None, "renewed");
    let standing = leases.take(&plan, &lease("b", 60)).await.unwrap().unwrap();
    assert!(standing.lease == lease("a", 60) && standing.left.as_secs() > 50, "{standing:?}");
    leases.release(&plan, &lease("b", 60)).await.unwrap();
    assert!(leases.take(&plan, &lease("b", 60)).await.unwrap().is_some(), "another's cannot be given back");
    leases.release(&plan, &lease("a", 60)).await.unwrap();
    assert_eq!(leases.take(&plan, &lease("b", 0)).await.unwrap(), None);
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    // Of several that find an expired one, one gets it.
    let (c, d) = (lease("c", 1), lease("d", 1));
    let (c, d) = tokio::join!(leases.take(&plan, &c), leases.take(&plan, &d));
    // Who comes second at the same moment may be told to try again.
    let free = [&c, &d].into_iter().filter(|taken| matches!(taken, Ok(None))).count();
    assert_eq!(free, 1, "{c:?} {d:?}");
}
