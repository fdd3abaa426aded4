//! What catalogues tell of tables, on real servers.

use serde_json::json;
use weir::core::{ColumnDefault, Identity, ObjectKind, ObjectName, TableDescription};
use weir_plugins_test::harness::{control, open_catalog};
use weir_plugins_test::servers::{self, Database};

use super::carried::RENTALS;

async fn describe(plugin: &str, database: &Database, names: Vec<ObjectName>) -> Vec<TableDescription> {
    let catalog = open_catalog(plugin, json!({"url": database.url()})).unwrap();
    control(async move { catalog.describe(&names).await }).await.unwrap()
}

fn literal(text: &str) -> Option<ColumnDefault> {
    Some(ColumnDefault::Literal(text.into()))
}

#[tokio::test]
async fn postgresql_tells_everything_of_many_tables() {
    let database = servers::postgresql().await.fresh_database("describe").await;
    database.execute(RENTALS).await;
    database
        .execute("CREATE SCHEMA \"o'dd\"; CREATE TABLE \"o'dd\".\"T.x\" (\"A b\" int, PRIMARY KEY (\"A b\"))")
        .await;
    let name = |schema: &str, table: &str| ObjectName {
        database: database.name().into(),
        schema: Some(schema.into()),
        table: table.into(),
    };
    let names = ["rental", "gone", "film_list", "film", "actor", "customer"].map(|table| name("public", table));
    let names: Vec<_> = names.into_iter().chain([name("o'dd", "T.x")]).collect();
    let found = describe("postgresql", &database, names).await;
    // In the order of the question; what is not there is left out.
    let order: Vec<_> = found.iter().map(|t| t.name.table.as_str()).collect();
    assert_eq!(order, ["rental", "film_list", "film", "actor", "customer", "T.x"]);
    let [rental, view, film, actor, customer, odd] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!((view.kind, film.kind), (ObjectKind::View, ObjectKind::Table));
    assert_eq!((odd.primary_key.as_slice(), odd.columns.len()), (&["A b".to_owned()][..], 1));
    assert_eq!(film.comment.as_deref(), Some("What there is to rent; it's the heart of the shop"));
    let column = |table: &TableDescription, name: &str| table.column(name).unwrap().clone();
    assert_eq!(column(film, "minutes").comment.as_deref(), Some("Running time, without the trailers"));
    assert_eq!(column(film, "minutes").default, literal("90"));
    assert_eq!(column(film, "price").native_type, "numeric(6,2)");
    assert_eq!(column(film, "rating").default, literal("all"));
    assert_eq!(column(film, "available").default, literal("true"));
    assert_eq!(column(film, "changed").default, Some(ColumnDefault::Now));
    assert_eq!(column(customer, "since").default, Some(ColumnDefault::Now));
    let computed = column(film, "price_per_hour");
    assert!(computed.generated.is_some_and(|g| g.contains("price")) && computed.default.is_none());
    assert_eq!(column(film, "film_id").identity, Some(Identity { always: false, next: Some(501), increment: 1 }));
    assert_eq!(column(actor, "actor_id").identity, Some(Identity { always: false, next: Some(1001), increment: 1 }));
    assert!(column(actor, "actor_id").default.is_none());
    assert!(column(film, "released").nullable && !column(film, "title").nullable);
    assert_eq!(rental.unique.len(), 1);
    assert_eq!(rental.unique[0].columns, ["film_id", "customer_id", "at"]);
    assert_eq!(customer.unique[0].name, "customer_mail");
    let key = film.foreign_keys.iter().find(|key| key.columns == ["language_id"]).unwrap();
    assert_eq!((&key.to, key.to_columns.as_slice()), (&name("public", "language"), &["language_id".to_owned()][..]));
    assert_eq!((key.on_update.as_str(), key.on_delete.as_str()), ("CASCADE", "NO ACTION"));
    assert_eq!(customer.foreign_keys[0].on_delete, "SET NULL");
    // 2,000 names are one question like any other.
    let many = (0..2_000).map(|i| name("public", &format!("t{i}"))).chain([name("public", "film")]).collect();
    assert_eq!(describe("postgresql", &database, many).await.len(), 1);
}

#[tokio::test]
async fn mariadb_and_mysql_tell_the_same() {
    for server in [servers::mariadb().await, servers::mysql().await] {
        let database = server.fresh_database("describe").await;
        database
            .execute(
                "CREATE TABLE parent (id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, code varchar(10) NOT NULL DEFAULT 'it''s', \
                   n int DEFAULT 5, price decimal(6,2) DEFAULT 4.99, kind enum('a','b') NOT NULL DEFAULT 'a', doc json, \
                   at datetime(3) DEFAULT CURRENT_TIMESTAMP(3), flag tinyint(1) DEFAULT 1, free text, \
                   twice int GENERATED ALWAYS AS (n * 2) STORED, UNIQUE KEY by_code (code), UNIQUE KEY by_part (free(5))) \
                   COMMENT='the parent' AUTO_INCREMENT=77; \
                 CREATE TABLE child (id bigint PRIMARY KEY, parent int unsigned COMMENT 'whose', \
                   FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE); \
                 CREATE VIEW both_of AS SELECT id FROM parent",
            )
            .await;
        let name = |table: &str| ObjectName { database: database.name().into(), schema: None, table: table.into() };
        let names = ["child", "nothing", "both_of", "parent"].map(name).to_vec();
        let found = describe("mysql", &database, names).await;
        let [child, view, parent] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((child.kind, view.kind), (ObjectKind::Table, ObjectKind::View));
        assert_eq!((parent.comment.as_deref(), view.comment.as_deref()), (Some("the parent"), None));
        let column = |name: &str| parent.column(name).unwrap().clone();
        assert_eq!(column("id").identity, Some(Identity { always: false, next: Some(77), increment: 1 }));
        assert_eq!(column("code").default, literal("it's"));
        assert_eq!(column("n").default, literal("5"));
        assert_eq!(column("price").default, literal("4.99"));
        assert_eq!(column("kind").default, literal("a"));
        assert_eq!(column("flag").default, literal("1"));
        assert_eq!(column("at").default, Some(ColumnDefault::Now));
        assert_eq!((column("doc").native_type.as_str(), column("doc").default), ("json", None));
        assert!(column("twice").generated.is_some_and(|g| g.contains('n')) && column("twice").default.is_none());
        assert!(column("free").nullable && column("free").default.is_none());
        // A key on the beginning of a text tells no rows apart.
        assert_eq!(parent.unique.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["by_code"]);
        assert_eq!((parent.primary_key.as_slice(), child.primary_key.len()), (&["id".to_owned()][..], 1));
        assert_eq!(child.column("parent").unwrap().comment.as_deref(), Some("whose"));
        let key = &child.foreign_keys[0];
        assert_eq!((&key.to, key.to_columns.as_slice()), (&name("parent"), &["id".to_owned()][..]));
        assert_eq!(key.on_delete, "CASCADE");
    }
}
