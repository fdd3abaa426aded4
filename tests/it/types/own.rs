//! A file in the middle keeps what makes types of the user again, in a database that never saw them.

use serde_json::json;
use weir::Status;

use super::cases_postgresql::{SETUP, TYPES};
use super::matrix::{Table, run, single_values};
use super::place::{Place, System};
use super::target::Target;
use crate::support::job_of;

#[tokio::test]
async fn types_of_the_user_come_out_of_a_file_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let from = Place::new(System::PostgreSql, "own_from", folder).await;
    from.execute(SETUP).await;
    let own =
        ["mood", "email", "price", "pair", "tags", "fine", "stay", "span", "spans", "mood[]", "price[]", "pair[]"];
    let types: Vec<_> = TYPES.iter().filter(|t| own.contains(&t.0)).copied().collect();
    assert_eq!(types.len(), own.len());
    let table = Table::new(from.clone(), "src", types.clone(), single_values(&types)).await;
    for target in [Target::Delta, Target::Parquet, Target::Arrow] {
        let path = folder.join(target.name());
        let (connector, mode) = match target {
            Target::Delta => ("lakehouse", json!({"path": path, "writeMode": "overwrite"})),
            _ => ("files", json!({"path": path, "format": target.format(), "writeMode": "truncate"})),
        };
        let (report, dirty) = run(&job_of("postgresql", from.parameters("src"), connector, mode), folder).await;
        assert!(report.status == Status::Succeeded && dirty.is_empty(), "{dirty:?} {:?}", report.error);

        let to = Place::new(System::PostgreSql, &format!("own_to_{}", target.name().replace(' ', "_")), folder).await;
        let reader = match target {
            Target::Delta => json!({"path": path}),
            _ => json!({"path": path, "format": target.format()}),
        };
        let (report, dirty) = run(&job_of(connector, reader, "postgresql", to.parameters("src")), folder).await;
        assert!(report.status == Status::Succeeded && dirty.is_empty(), "{dirty:?} {:?}", report.error);
        let of = to.types("src").await;
        assert_eq!(of, from.types("src").await, "{}", target.name());
        assert_eq!(to.values("src", &of[1..]).await, from.values("src", &of[1..]).await, "{}", target.name());
        // What the types themselves say has come along.
        let made = "SELECT string_agg(typname || coalesce(typdefault, '') || coalesce((SELECT string_agg(pg_get_constraintdef(c.oid), \
                    ' ') FROM pg_constraint c WHERE contypid = t.oid), ''), '; ' ORDER BY typname) FROM pg_type t \
                    WHERE typnamespace = 'public'::regnamespace AND typtype IN ('d', 'e', 'r', 'm')";
        assert_eq!(to.query(made).await, from.query(made).await, "{}", target.name());
    }
    assert_eq!(table.types.len(), own.len());
}
