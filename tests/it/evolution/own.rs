//! Jobs whose target is where they read: what they have made there is none of their tables.

use serde_json::json;
use weir::Status;
use weir_core::CheckOutcome;
use weir_plugins_test::servers;

use super::Mirror;

#[tokio::test]
async fn what_a_job_has_made_where_it_reads_is_left_out_of_its_next_run() {
    let one = servers::postgresql().await.fresh_database("backed").await;
    one.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let folder = tempfile::tempdir().unwrap();
    let file = json!({"path": folder.path().join("own.db")});
    let tables = "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename) FROM pg_tables \
                  WHERE schemaname !~ '^(pg_|information_schema)' AND tablename !~ '^weir_'";
    for (naming, made) in
        [(json!({"schema": "backup"}), "backup.t"), (json!({"table": "bak_{SOURCE_TABLE}"}), "public.bak_t")]
    {
        one.execute("DROP SCHEMA IF EXISTS backup CASCADE").await;
        let ends = json!({"url": one.url()});
        let mirror =
            Mirror::new(made, ("postgresql", ends.clone()), ("postgresql", ends.clone()), json!({"naming": naming}));
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        one.execute("INSERT INTO t SELECT max(id) + 1 FROM t").await;
        let planned = weir::plan(&crate::support::load(&mirror.job), &mirror.options()).await.unwrap().to_string();
        assert!(planned.contains("itself has made") && planned.contains("mapped     1; failed: 0"), "{planned}");
        let options = mirror.options();
        let ends = weir::check(&crate::support::load(&mirror.job), options.state_dir.as_deref(), options.cancel).await;
        let checks: Vec<_> = ends.unwrap().into_iter().flat_map(|end| end.checks).collect();
        let selected = checks.iter().find(|check| check.what == "selection").unwrap();
        assert!(selected.detail.contains("1 table"), "{selected:?}");
        let broken = tempfile::tempdir().unwrap();
        std::fs::write(broken.path().join("ledger.db"), "no ledger".repeat(200)).unwrap();
        let ends = weir::check(&crate::support::load(&mirror.job), Some(broken.path()), Default::default()).await;
        let checks: Vec<_> = ends.unwrap().into_iter().flat_map(|end| end.checks).collect();
        let outcome = |what: &str| checks.iter().find(|check| check.what == what).map(|check| check.outcome);
        assert_eq!(outcome("state folder"), Some(CheckOutcome::Fault), "{checks:?}");
        assert!(outcome("selection").is_some(), "it goes on with the rest: {checks:?}");
        let second = mirror.run().await;
        assert_eq!((second.status, second.tables.len()), (Status::Succeeded, 1), "{:#?}", second.error);
        assert!(second.warnings.iter().any(|warning| warning.contains(made)), "{:?}", second.warnings);
        assert_eq!(one.value(tables).await, format!("{made} public.t"));
        assert_eq!(one.value("SELECT count(*) FROM t").await, one.value(&format!("SELECT count(*) FROM {made}")).await);
    }
    // The same in a file, whose tables have no namespaces.
    let from = json!({"url": one.url()});
    let copied =
        Mirror::new("copied", ("postgresql", from), ("sqlite", file.clone()), json!({"objects": {"include": ["t"]}}));
    assert_eq!(copied.run().await.status, Status::Succeeded);
    let naming = json!({"naming": {"table": "bak_{SOURCE_TABLE}"}});
    let mirror = Mirror::new("filed", ("sqlite", file.clone()), ("sqlite", file), naming);
    for _ in 0..3 {
        let report = mirror.run().await;
        assert_eq!((report.status, report.tables.len()), (Status::Succeeded, 1), "{:#?}", report.tables);
    }
}
