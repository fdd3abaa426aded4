//! Tables of PostgreSQL that inherit from each other: each has rows of its own.

use serde_json::json;
use weir::VerifyOptions;
use weir_plugins_test::servers;

use super::{database_job, run_ok};
use crate::support::{job_of, load};

const FAMILY: &str = "
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
INSERT INTO parent VALUES (1, 'a'), (2, 'b');
INSERT INTO child VALUES (3, 'c'), (4, 'd');
CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts VALUES (1, 'x'), (11, 'y');
";

#[tokio::test]
async fn a_mirror_reads_each_table_by_itself_and_replaces_no_other() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("family").await, server.fresh_database("families").await);
    source.execute(FAMILY).await;
    // What inherits at the target is no table of the job; the second parent's rows are compared by their key.
    target
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE elsewhere () INHERITS (parent); \
             INSERT INTO parent VALUES (7, 'old'); INSERT INTO elsewhere VALUES (100, 'kept'); \
             CREATE TABLE child (id int PRIMARY KEY, v text); CREATE TABLE elsewhere2 () INHERITS (child); \
             INSERT INTO child VALUES (3, 'old'); INSERT INTO elsewhere2 VALUES (3, 'kept'), (200, 'kept'); \
             CREATE TABLE referring (id int REFERENCES child); INSERT INTO referring VALUES (3); \
             CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
             CREATE TABLE all_parts PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (5, 'old')",
        )
        .await;
    let ends = (("postgresql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})));
    let job = database_job(ends.0, ends.1, json!({}));
    let rows = "SELECT string_agg(t.name || ' ' || t.id || ' ' || t.v, ', ' ORDER BY t.name, t.id) FROM ( \
                  SELECT tableoid::regclass::text AS name, id, v FROM parent UNION ALL \
                  SELECT tableoid::regclass::text, id, v FROM child UNION ALL SELECT 'parts', id, v FROM parts) t";
    for _ in 0..2 {
        run_ok(&job).await;
        assert_eq!(
            target.value(rows).await,
            "child 3 c, child 4 d, elsewhere 100 kept, elsewhere2 3 kept, elsewhere2 200 kept, parent 1 a, parent 2 b, \
             parts 1 x, parts 11 y"
        );
        let verified = weir::verify(&load(&job), &VerifyOptions::default()).await.unwrap();
        assert!(verified.equal, "{verified:#?}");
    }
}

#[tokio::test]
async fn a_merge_of_a_parent_and_its_children_has_each_row_once() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("family").await, server.fresh_database("merged").await);
    source.execute(FAMILY).await;
    let ends = (("postgresql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})));
    let job =
        database_job(ends.0, ends.1, json!({"objects": {"merge": [{"into": "one", "from": ["parent", "child"]}]}}));
    run_ok(&job).await;
    assert_eq!(target.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM one").await, "1 2 3 4");
}

#[tokio::test]
async fn one_table_is_read_as_select_does_unless_the_job_says_only() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("family").await, server.fresh_database("single").await);
    source.execute(FAMILY).await;
    for (only, ids) in [(json!({}), "1 2 3 4"), (json!({"only": true}), "1 2")] {
        let mut from = json!({"url": source.url(), "table": "parent", "splitPk": "id"});
        from.as_object_mut().unwrap().extend(only.as_object().unwrap().clone());
        let to = json!({"url": target.url(), "table": "t", "writeMode": "overwrite"});
        crate::support::run_ok(&job_of("postgresql", from, "postgresql", to)).await;
        assert_eq!(target.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t").await, ids);
    }
}
