//! The routes that a first user takes, each with every value compared at both ends.

use serde_json::json;
use weir_plugins_test::{s3, servers};

use crate::orders;
use crate::support::{counts, job_of, run_ok, with_channels};

#[tokio::test]
async fn csv_to_postgresql_and_back() {
    let database = servers::postgresql().await.fresh_database("csv").await;
    orders::create(&database, "orders").await;
    orders::fill(&database, "orders", 1, 5_000, 0).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let out = json!({"path": file, "format": "csv", "header": true, "writeMode": "truncate"});
    run_ok(&job_of("postgresql", json!({"url": database.url(), "table": "orders"}), "files", out)).await;
    orders::create(&database, "again").await;
    // A CSV does not say which of its texts are bytes; the job does, and leaves the rest to the target's columns.
    let from = json!({"path": file, "format": "csv", "header": true, "column": orders::csv_columns()});
    let report = run_ok(&job_of("files", from, "postgresql", json!({"url": database.url(), "table": "again"}))).await;
    assert_eq!(counts(&report), (5_000, 5_000, 0));
    orders::assert_same(&orders::rows(&database, "orders").await, &orders::rows(&database, "again").await);
}

#[tokio::test]
async fn postgresql_to_mysql_9() {
    let source = servers::postgresql().await.fresh_database("pg").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 1, 20_000, 0).await;
    let target = servers::mysql().await.fresh_database("my").await;
    // Once into a table that is there, once into one that the run creates.
    orders::create(&target, "orders").await;
    for table in ["orders", "created"] {
        let to = json!({"url": target.url(), "table": table});
        let job = job_of("postgresql", json!({"url": source.url(), "table": "orders"}), "mysql", to);
        let report = run_ok(&with_channels(job, 2)).await;
        assert_eq!(counts(&report), (20_000, 20_000, 0));
        assert_eq!(report.tables[0].created, table == "created");
        orders::assert_same(&orders::rows(&source, "orders").await, &orders::rows(&target, table).await);
    }
}

#[tokio::test]
async fn mariadb_to_postgresql_upserts_over_half_of_the_rows() {
    let source = servers::mariadb().await.fresh_database("maria").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 5_001, 15_000, 1).await;
    let target = servers::postgresql().await.fresh_database("pg").await;
    orders::create(&target, "orders").await;
    orders::fill(&target, "orders", 1, 10_000, 0).await;
    let before = orders::rows(&target, "orders").await;
    let to = json!({"url": target.url(), "table": "orders", "writeMode": "upsert"});
    let job = job_of("mysql", json!({"url": source.url(), "table": "orders"}), "postgresql", to);
    let report = run_ok(&with_channels(job, 2)).await;
    assert_eq!(report.rows_read, 10_000);
    let mut expected = before[..5_000].to_vec();
    expected.extend(orders::rows(&source, "orders").await);
    orders::assert_same(&expected, &orders::rows(&target, "orders").await);
}

#[tokio::test]
async fn mysql_9_to_mariadb() {
    let source = servers::mysql().await.fresh_database("my").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 1, 10_000, 0).await;
    let target = servers::mariadb().await.fresh_database("maria").await;
    let to = json!({"url": target.url(), "table": "orders"});
    let job = job_of("mysql", json!({"url": source.url(), "table": "orders"}), "mysql", to);
    let report = run_ok(&with_channels(job, 2)).await;
    assert_eq!(counts(&report), (10_000, 10_000, 0));
    orders::assert_same(&orders::rows(&source, "orders").await, &orders::rows(&target, "orders").await);
}

#[tokio::test]
async fn postgresql_to_lakehouse_and_back() {
    let database = servers::postgresql().await.fresh_database("delta").await;
    orders::create(&database, "orders").await;
    orders::fill(&database, "orders", 1, 10_000, 0).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("orders");
    let to = json!({"path": lake, "writeMode": "overwrite"});
    run_ok(&job_of("postgresql", json!({"url": database.url(), "table": "orders"}), "lakehouse", to.clone())).await;
    let back = json!({"url": database.url(), "table": "again"});
    run_ok(&job_of("lakehouse", json!({"path": lake}), "postgresql", back.clone())).await;
    orders::assert_same(&orders::rows(&database, "orders").await, &orders::rows(&database, "again").await);
    // The second overwrite replaces, and an older version can still be read.
    database.execute("DELETE FROM orders WHERE id > 100; DROP TABLE again").await;
    run_ok(&job_of("postgresql", json!({"url": database.url(), "table": "orders"}), "lakehouse", to)).await;
    run_ok(&job_of("lakehouse", json!({"path": lake}), "postgresql", back)).await;
    assert_eq!(database.value("SELECT count(*) FROM again").await, "100");
    let old = json!({"url": database.url(), "table": "old"});
    run_ok(&job_of("lakehouse", json!({"path": lake, "version": 0}), "postgresql", old)).await;
    assert_eq!(database.value("SELECT count(*) FROM old").await, "10000");
}

#[tokio::test]
async fn sharded_mysql_tables_to_one_postgresql_table() {
    let source = servers::mysql().await.fresh_database("shards").await;
    for shard in 0..4 {
        let table = format!("order_0{shard}");
        orders::create(&source, &table).await;
        orders::fill(&source, &table, shard * 1_000 + 1, shard * 1_000 + 1_000, shard).await;
    }
    let target = servers::postgresql().await.fresh_database("one").await;
    let to = json!({"url": target.url(), "table": "orders"});
    let job = job_of("mysql", json!({"url": source.url(), "table": "order_[00-03]"}), "postgresql", to);
    let report = run_ok(&with_channels(job, 3)).await;
    assert_eq!(report.tables.len(), 4);
    assert!(report.tables.iter().all(|t| t.rows_written == 1_000), "{:#?}", report.tables);
    let mut expected = Vec::new();
    for shard in 0..4 {
        expected.extend(orders::rows(&source, &format!("order_0{shard}")).await);
    }
    orders::assert_same(&expected, &orders::rows(&target, "orders").await);
}

#[tokio::test]
async fn shards_of_one_name_on_several_servers_are_told_apart() {
    let target = servers::postgresql().await.fresh_database("all").await;
    orders::create(&target, "orders").await;
    let (mut connections, mut expected) = (Vec::new(), Vec::new());
    for (rows, server) in [(3, servers::mysql().await), (4, servers::mariadb().await)] {
        // The databases have one name too, so that nothing but the server tells their tables apart.
        let source = server.fresh_database("shard").await;
        let name = format!("weir_shard_{}", std::process::id());
        source.execute(&format!("CREATE DATABASE {name}")).await;
        source.execute(&format!("CREATE TABLE {name}.orders (id bigint PRIMARY KEY, customer varchar(40))")).await;
        for id in 0..rows {
            source.execute(&format!("INSERT INTO {name}.orders VALUES ({}, 'Zoë')", rows * 10 + id)).await;
        }
        connections.push(json!({"jdbcUrl": source.url().replace(source.name(), &name), "table": "orders"}));
        expected.push((format!("orders@{}:{}/{name}", source.host(), source.port()), rows));
    }
    let from = json!({"connection": connections, "column": ["id", "customer"]});
    let to = json!({"url": target.url(), "table": "orders", "column": ["id", "customer"]});
    let report = run_ok(&with_channels(job_of("mysql", from, "postgresql", to), 2)).await;
    assert_eq!(report.tables.len(), 2);
    for (table, (place, rows)) in report.tables.iter().zip(&expected) {
        assert!(table.source.ends_with(place.as_str()), "{} is not at {place}", table.source);
        assert_eq!((table.rows_read, table.rows_written), (*rows, *rows), "{}", table.source);
    }

    // The same for PostgreSQL, back from two databases of one server.
    let more = servers::postgresql().await.fresh_database("more").await;
    orders::create(&more, "orders").await;
    orders::fill(&more, "orders", 1, 3, 0).await;
    let connections = [&target, &more].map(|database| json!({"jdbcUrl": database.url(), "table": "orders"}));
    let report = run_ok(&job_of("postgresql", json!({"connection": connections}), "stream", json!({}))).await;
    let rows: Vec<_> = report.tables.iter().map(|t| t.rows_read).collect();
    assert_eq!(rows, [7, 3]);
    assert!(report.tables[1].source.ends_with(&format!("/{}", more.name())), "{}", report.tables[1].source);
}

#[tokio::test]
async fn a_parquet_folder_to_mysql() {
    let source = servers::mariadb().await.fresh_database("maria").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 1, 10_000, 0).await;
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("orders");
    let out = json!({"path": files, "format": "parquet", "writeMode": "truncate"});
    let job = job_of("mysql", json!({"url": source.url(), "table": "orders"}), "files", out);
    run_ok(&with_channels(job, 2)).await;
    let target = servers::mysql().await.fresh_database("my").await;
    orders::create(&target, "orders").await;
    let to = json!({"url": target.url(), "table": "orders"});
    let report = run_ok(&job_of("files", json!({"path": files, "format": "parquet"}), "mysql", to)).await;
    assert_eq!(counts(&report), (10_000, 10_000, 0));
    orders::assert_same(&orders::rows(&source, "orders").await, &orders::rows(&target, "orders").await);
}

#[tokio::test]
async fn csv_and_parquet_from_and_to_an_object_store() {
    let database = servers::postgresql().await.fresh_database("s3").await;
    orders::create(&database, "orders").await;
    orders::fill(&database, "orders", 1, 3_000, 0).await;
    let bucket = s3::fresh_bucket("orders");
    let store = json!({
        "endpoint": bucket.endpoint(), "region": s3::REGION, "accessKeyId": s3::ACCESS_KEY,
        "secretAccessKey": s3::SECRET_KEY
    });
    for format in ["csv", "parquet"] {
        let place = bucket.url(&format!("{format}/orders"));
        let mut out = json!({"path": place, "format": format, "writeMode": "truncate"});
        let mut from = json!({"path": place, "format": format});
        if format == "csv" {
            out["header"] = true.into();
            from["header"] = true.into();
            from["column"] = orders::csv_columns();
        }
        out["options"] = store.clone();
        from["options"] = store.clone();
        run_ok(&job_of("postgresql", json!({"url": database.url(), "table": "orders"}), "files", out)).await;
        orders::create(&database, format).await;
        run_ok(&job_of("files", from, "postgresql", json!({"url": database.url(), "table": format}))).await;
        orders::assert_same(&orders::rows(&database, "orders").await, &orders::rows(&database, format).await);
    }
}
