//! Tables of other databases than the connection's own, on the server that `WEIR_TEST_SQLSERVER` names.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_core::{CheckOutcome, ErrorKind, ObjectName, Seen, WindowRequest};
use weir_plugins_test::harness::{context, open_catalog, open_reader, read_all, read_windows};
use weir_plugins_test::servers::{self, Database};
use weir_reader_sqlserver as _;
use weir_sql::TableName;
use weir_sqlserver::{Options, Setup, SqlServerCatalog, looked_ahead};

/// Two databases of one server.
async fn two(name: &str) -> Option<(Database, Database)> {
    let server = servers::sqlserver()?;
    let (here, there) = (server.fresh_database(name).await, server.fresh_database(&format!("{name}_b")).await);
    here.execute("CREATE TABLE t (id int PRIMARY KEY, v nvarchar(20)); INSERT INTO t VALUES (1, N'here')").await;
    there.execute("CREATE SCHEMA sales").await;
    there
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v nvarchar(20)); INSERT INTO t VALUES (2, N'there'), (3, N'ü🚀'); \
             CREATE TABLE sales.u (a int NOT NULL, b int NOT NULL REFERENCES t (id), PRIMARY KEY (b, a)); \
             CREATE TABLE [a.b] (n bigint); CREATE TABLE weir_own (i int)",
        )
        .await;
    Some((here, there))
}

fn name(database: &Database, schema: &str, table: &str) -> ObjectName {
    ObjectName { database: database.name().into(), schema: Some(schema.into()), table: table.into() }
}

fn at(database: &Database, more: Value) -> Value {
    let mut parameters = json!({"url": database.url()});
    parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    parameters
}

#[tokio::test]
async fn the_catalogue_looks_into_the_databases_that_it_is_asked_for() {
    let Some((here, there)) = two("listed").await else { return };
    let catalog = open_catalog("sqlserver", json!({"url": here.url()})).unwrap();
    let both = catalog.objects(&|database| database == there.name()).await.unwrap();
    assert_eq!(both.database.as_deref(), Some(here.name()));
    let found: Vec<_> = both.list.iter().map(|object| object.name.clone()).collect();
    let of_there = [name(&there, "dbo", "a.b"), name(&there, "dbo", "t"), name(&there, "sales", "u")];
    let mut all = vec![name(&here, "dbo", "t")];
    all.extend(of_there.clone());
    all.sort();
    assert_eq!(found, all);
    let seen: BTreeMap<_, _> = both.others.iter().map(|other| (other.name.as_str(), &other.seen)).collect();
    assert_eq!(seen[there.name()], &Seen::Listed);
    assert!(!seen.contains_key("master") && !seen.contains_key("tempdb") && !seen.contains_key(here.name()));
    let alone = catalog.objects(&|_| false).await.unwrap();
    assert_eq!(alone.list.iter().map(|object| object.name.clone()).collect::<Vec<_>>(), [name(&here, "dbo", "t")]);
    assert!(alone.others.iter().all(|other| other.seen == Seen::Unasked), "{:?}", alone.others);

    // What is gone is left out, a whole database too.
    let gone = ObjectName { database: "no_such_database".into(), ..name(&here, "dbo", "t") };
    let wanted = [name(&here, "dbo", "t"), name(&there, "sales", "u"), name(&there, "dbo", "gone"), gone];
    let described = catalog.describe(&wanted).await.unwrap();
    assert_eq!(described.iter().map(|table| &table.name).collect::<Vec<_>>(), [&wanted[0], &wanted[1]]);
    assert_eq!(described[1].primary_key, ["b", "a"]);
    assert_eq!(described[1].foreign_keys[0].to, name(&there, "dbo", "t"));

    let listed = |tables: Vec<weir_core::TableInfo>| tables.into_iter().map(|table| table.name).collect::<Vec<_>>();
    let short = |name: &str| name.trim_start_matches("dbo.").to_owned();
    let own = listed(catalog.tables(None).await.unwrap());
    assert_eq!(own.iter().map(|name| short(name)).collect::<Vec<_>>(), ["t"]);
    let pattern = format!("{}*.*.*", &there.name()[..there.name().len() - 1]);
    let there_alone = listed(catalog.tables(Some(&pattern)).await.unwrap());
    let of = |rest: &str| format!("{}.{rest}", there.name());
    assert_eq!(there_alone, [of("dbo.[a.b]"), of("dbo.t"), of("sales.u")]);
    let error = catalog.tables(Some("no_such_database.dbo.*")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("no such database") && error.message().contains(here.name()), "{error}");
}

#[tokio::test]
async fn what_is_read_ahead_is_found_by_the_readers_of_each_database() {
    let Some((here, there)) = two("ahead").await else { return };
    let options = Options::parse(&here.url(), None, None, "/url").unwrap();
    let context = context();
    let catalog = SqlServerCatalog { options: options.clone(), setup: Setup::default(), context: context.clone() };
    let names = [name(&here, "dbo", "t"), name(&there, "dbo", "t"), name(&there, "sales", "u")];
    let hold = weir_core::Catalog::look_ahead(&catalog, &names).await.unwrap();
    let elsewhere = Options::in_database(&options, there.name());
    let found = |options: &[Options], schema: &str, name: &str| {
        let name = TableName { schema: Some(schema.into()), name: name.into() };
        let (server, table) = looked_ahead(&context.shared, options, &name)?;
        Some((server.database, table.columns.len()))
    };
    assert_eq!(found(&options, "dbo", "t"), Some((here.name().into(), 2)));
    assert_eq!(found(&elsewhere, "dbo", "t"), Some((there.name().into(), 2)));
    assert_eq!(found(&elsewhere, "sales", "u"), Some((there.name().into(), 2)));
    assert_eq!(found(&options, "sales", "u"), None);
    drop(hold);
    assert_eq!(found(&elsewhere, "dbo", "t"), None);
}

#[tokio::test]
async fn a_table_is_read_from_the_database_in_its_name() {
    let Some((here, there)) = two("named").await else { return };
    let whole = format!("[{}].dbo.t", there.name());
    for more in [json!({}), json!({"consistency": "lock"}), json!({"splitPk": "id"})] {
        let mut more = more;
        more["table"] = json!([whole]);
        let reader = open_reader("sqlserver", at(&here, more.clone())).unwrap();
        let cell = |text: &str| Some(text.to_owned());
        let expected = [[cell("2"), cell("there")], [cell("3"), cell("ü🚀")]];
        assert_eq!(read_all(&reader).await.unwrap().sorted_cells(), expected, "{more}");
    }
    let shards = open_reader("sqlserver", at(&here, json!({"table": ["dbo.t", whole]}))).unwrap();
    assert_eq!(read_all(&shards).await.unwrap().column("id").len(), 3);
    let tables = shards.schema().await.unwrap().tables;
    assert!(tables[0].name != tables[1].name && tables[1].name.contains(there.name()), "{tables:?}");

    let checks = open_reader("sqlserver", at(&here, json!({"table": whole}))).unwrap().check().await;
    assert!(checks.iter().all(|check| check.outcome != CheckOutcome::Fault), "{checks:?}");
    assert!(checks.iter().any(|check| check.what.contains(there.name())), "{checks:?}");

    // A window is one of the table's own database.
    let incremental = json!({"table": whole, "incremental": {"column": "id"}});
    let reader = open_reader("sqlserver", at(&here, incremental)).unwrap();
    let request = WindowRequest {
        watermarks: Vec::new(),
        places: Vec::new(),
        clocks: "UTC".parse().unwrap(),
        clocks_said: false,
    };
    let (windows, read) = read_windows(&reader, request).await.unwrap();
    assert_eq!(read.rows(), 2);
    assert!(windows[0].place.ends_with(there.name()), "{}", windows[0].place);
    there.execute("INSERT INTO t VALUES (4, N'new')").await;
    here.execute("INSERT INTO t VALUES (5, N'new')").await;
    let watermarks = windows.iter().filter_map(weir_core::Window::leaves).collect();
    let request = WindowRequest { watermarks, places: Vec::new(), clocks: "UTC".parse().unwrap(), clocks_said: false };
    assert_eq!(read_windows(&reader, request).await.unwrap().1.column("id"), [Some("4".to_owned())]);

    let missing = open_reader("sqlserver", at(&here, json!({"table": "no_such_database.dbo.t"}))).unwrap();
    let error = missing.schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.full().contains("no_such_database"), "{}", error.full());
}

#[tokio::test]
async fn a_database_that_is_closed_to_the_user_says_so_and_is_in_nobodys_way() {
    let Some((here, there)) = two("closed").await else { return };
    let user = format!("weir_closed_{}", std::process::id());
    here.execute(&format!("CREATE LOGIN {user} WITH PASSWORD = 'Weir-Poor1'")).await;
    here.execute(&format!("CREATE USER {user} FOR LOGIN {user}; GRANT SELECT ON t TO {user}")).await;
    let url = here.url_with(&user, "Weir-Poor1");
    let catalog = open_catalog("sqlserver", json!({"url": url})).unwrap();
    let asked = |database: &str| database == there.name();
    let (objects, alone) = (catalog.objects(&asked).await, catalog.objects(&|_| false).await);
    let listed = catalog.tables(Some(&format!("{}.dbo.*", there.name()))).await;
    let described = catalog.describe(&[name(&there, "dbo", "t"), name(&here, "dbo", "t")]).await;
    let table = format!("{}.dbo.t", there.name());
    let read = open_reader("sqlserver", json!({"url": url, "table": table})).unwrap().schema().await;
    here.execute(&format!("REVOKE SELECT ON t FROM {user}")).await;
    here.execute(&format!("DROP USER {user}")).await;
    here.execute(&format!("DROP LOGIN {user}")).await;

    let of_here = vec![name(&here, "dbo", "t")];
    for objects in [objects.as_ref().unwrap(), &alone.unwrap()] {
        assert_eq!(objects.list.iter().map(|object| object.name.clone()).collect::<Vec<_>>(), of_here);
    }
    let closed = objects.unwrap().closed(&asked);
    assert!(closed.len() == 1 && closed[0].contains(there.name()) && closed[0].contains("closed to the user"));
    let error = listed.unwrap_err();
    assert!(error.message().contains("closed to the user"), "{error}");
    assert_eq!(described.unwrap().into_iter().map(|table| table.name).collect::<Vec<_>>(), of_here);
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.full().contains(there.name()), "{}", error.full());
}
