//! Row level security: what a login does not see is missing, not absent.

use serde_json::json;
use weir::Status;
use weir_plugins_test::servers;

use super::{database_job, run, run_ok};

#[tokio::test]
async fn rows_that_policies_hide_fail_the_table_at_both_ends() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("policies").await, server.fresh_database("policed").await);
    let user = format!("weir_policed_{}", std::process::id());
    source.execute(&format!("DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN PASSWORD 'x'")).await;
    for (database, rows) in [(&source, "(1), (2), (3)"), (&target, "(2), (9)")] {
        database
            .execute(&format!(
                "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES {rows}; ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY few ON t USING (id < 3); GRANT ALL ON t TO {user}; GRANT ALL ON SCHEMA public TO {user}"
            ))
            .await;
    }
    let whole = |database: &servers::Database| json!({"url": database.url()});
    let part = |database: &servers::Database| json!({"url": database.url_with(&user, "x")});
    for (from, to) in [(whole(&source), part(&target)), (part(&source), whole(&target))] {
        let report = run(&database_job(("postgresql", from), ("postgresql", to), json!({})), Default::default()).await;
        assert_ne!(report.status, Status::Succeeded);
        let error = report.tables.iter().find_map(|table| table.error.as_ref()).or(report.error.as_ref()).unwrap();
        assert!(error.message.contains("BYPASSRLS") && error.message.contains("row_security"), "{error:#?}");
        assert_eq!(target.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t").await, "2 9");
    }
    // Who means what the policies show says so.
    let mut from = part(&source);
    from["session"] = json!(["SET row_security = on"]);
    run_ok(&database_job(("postgresql", from), ("postgresql", whole(&target)), json!({}))).await;
    assert_eq!(target.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t").await, "1 2");
}
