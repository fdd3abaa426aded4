//! Foreign keys that the source has no more: those that the job has made go, before they take rows along.

use serde_json::json;
use weir::{ChangeKind, ChangeOutcome, Status};
use weir_plugins_test::servers::{self, Database};

use super::{Mirror, rows};
use crate::support::load;

/// The names of the target's foreign keys.
async fn keys(target: &Database, system: &str) -> Vec<String> {
    let sql = match system {
        "postgresql" => "SELECT conname FROM pg_constraint WHERE contype = 'f' ORDER BY 1",
        _ => {
            "SELECT CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = DATABASE() ORDER BY 1"
        }
    };
    target.query(sql).await.into_iter().flatten().flatten().collect()
}

async fn targets(name: &str) -> [(&'static str, Database); 3] {
    [
        ("postgresql", servers::postgresql().await.fresh_database(&format!("{name}_to")).await),
        ("mysql", servers::mariadb().await.fresh_database(name).await),
        ("mysql", servers::mysql().await.fresh_database(name).await),
    ]
}

fn mirror(name: &str, source: &Database, (system, target): (&str, &Database)) -> Mirror {
    let naming = if system == "mysql" { json!({"schema": target.name()}) } else { json!({"schema": "public"}) };
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    Mirror::new(name, ("postgresql", from), (system, to), json!({"naming": naming}))
}

#[tokio::test]
async fn what_the_source_has_dropped_takes_no_rows_along() {
    for ((system, target), action) in
        targets("gonekey").await.iter().flat_map(|target| [(target, "ON DELETE CASCADE"), (target, "")])
    {
        let what = format!("{system} {action}");
        let source = servers::postgresql().await.fresh_database("gonekey").await;
        target.execute("DROP TABLE IF EXISTS c; DROP TABLE IF EXISTS p").await;
        source
            .execute(&format!(
                "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1), (2);
                 CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p {action}, q int CONSTRAINT stays REFERENCES p);
                 INSERT INTO c VALUES (1, 1, 1), (2, 2, 1)"
            ))
            .await;
        let mirror = mirror("gonekey", &source, (system, target));
        assert_eq!(mirror.run().await.status, Status::Succeeded, "{what}");
        assert_eq!(keys(target, system).await, ["c_p_fkey", "stays"], "{what}");
        source.execute("ALTER TABLE c DROP CONSTRAINT c_p_fkey; DELETE FROM p WHERE id = 2").await;
        let planned = weir::plan(&load(&mirror.job), &mirror.options()).await.unwrap().to_string();
        assert!(planned.contains("key_deleted: ALTER TABLE") && planned.contains("c_p_fkey"), "{planned}");
        let report = mirror.run().await;
        assert_eq!((report.status, report.warnings.as_slice()), (Status::Succeeded, &[][..]), "{what}");
        assert_eq!(rows(target, "c").await, rows(&source, "c").await, "{what}");
        assert_eq!(rows(target, "p").await.len(), 1, "{what}");
        assert_eq!(keys(target, system).await, ["stays"], "{what}");
        let changes = mirror.changes(&report).await;
        let done: Vec<_> = changes.iter().map(|one| (one.change.kind, one.change.outcome)).collect();
        assert_eq!(done, [(ChangeKind::KeyDeleted, ChangeOutcome::Done)], "{what}: {changes:#?}");
        assert!(changes[0].change.from.as_ref().unwrap().contains("c_p_fkey"), "{changes:#?}");
        assert!(mirror.changes(&mirror.run().await).await.is_empty(), "{what}");
    }
}

/// The key of the target's owner stays; that it may take rows along is his.
#[tokio::test]
async fn what_the_job_has_not_made_stays() {
    for (system, target) in targets("ownkey").await {
        let source = servers::postgresql().await.fresh_database("ownkey").await;
        source
            .execute(
                "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1), (2);
                 CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p); INSERT INTO c VALUES (1, 1), (2, 2)",
            )
            .await;
        let mirror = mirror("ownkey", &source, (system, &target));
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        let drop = if system == "mysql" { "DROP FOREIGN KEY" } else { "DROP CONSTRAINT" };
        target
            .execute(&format!(
                "ALTER TABLE c {drop} c_p_fkey; ALTER TABLE c ADD CONSTRAINT theirs FOREIGN KEY (p) REFERENCES p (id)"
            ))
            .await;
        source.execute("ALTER TABLE c DROP CONSTRAINT c_p_fkey").await;
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{system}: {:#?}", report.tables);
        assert_eq!(keys(&target, system).await, ["theirs"]);
        assert!(mirror.changes(&report).await.is_empty(), "{system}");
    }
}

/// The old table stays at the target as it was, and nobody's rows depend on it any more.
#[tokio::test]
async fn a_key_onto_a_table_that_was_renamed_goes_with_it() {
    for (system, target) in targets("renamedkey").await {
        let source = servers::postgresql().await.fresh_database("renamedkey").await;
        source
            .execute(
                "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1);
                 CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p); INSERT INTO c VALUES (1, 1)",
            )
            .await;
        let mirror = mirror("renamedkey", &source, (system, &target));
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        source
            .execute("ALTER TABLE p RENAME TO parent; INSERT INTO parent VALUES (2); INSERT INTO c VALUES (2, 2)")
            .await;
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{system}: {:#?} {:#?}", report.tables, report.warnings);
        assert_eq!(rows(&target, "c").await.len(), 2, "{system}");
        assert_eq!(keys(&target, system).await, ["c_p_fkey"], "{system}");
        let kinds: Vec<_> = mirror.changes(&report).await.iter().map(|one| one.change.kind).collect();
        for kind in [ChangeKind::KeyDeleted, ChangeKind::KeyAdded] {
            assert!(kinds.contains(&kind), "{system}: {kinds:?}");
        }
    }
}
