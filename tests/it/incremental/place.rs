//! A database of a test's own, of any of the systems that read windows.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use weir_plugins_test::servers::{self, Database, Family};

/// Rows as text, NULL as `None`.
pub type Rows = Vec<Vec<Option<String>>>;

pub enum Place {
    Server(Database),
    File(PathBuf),
}

impl Place {
    pub async fn postgresql(name: &str) -> Self {
        Self::Server(servers::postgresql().await.fresh_database(name).await)
    }

    pub async fn mariadb(name: &str) -> Self {
        Self::Server(servers::mariadb().await.fresh_database(name).await)
    }

    pub fn sqlite(folder: &Path, name: &str) -> Self {
        Self::File(folder.join(format!("{name}.db")))
    }

    /// One of each system.
    pub async fn all(folder: &Path, name: &str) -> [Self; 3] {
        [Self::postgresql(name).await, Self::mariadb(name).await, Self::sqlite(folder, name)]
    }

    pub fn plugin(&self) -> &'static str {
        match self {
            Self::Server(database) if database.server().family() == Family::PostgreSql => "postgresql",
            Self::Server(_) => "mysql",
            Self::File(_) => "sqlite",
        }
    }

    /// Parameters for a table, and more.
    pub fn parameter(&self, table: &str, more: Value) -> Value {
        let mut parameter = match self {
            Self::Server(database) => json!({"url": database.url(), "table": table}),
            Self::File(path) => json!({"path": path, "table": table}),
        };
        let all: &mut Map<String, Value> = parameter.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        parameter
    }

    /// The type of a moment, and how a statement writes the present one.
    pub fn moment(&self) -> (&'static str, &'static str) {
        match self.plugin() {
            "postgresql" => ("timestamptz", "clock_timestamp()"),
            "mysql" => ("timestamp(6)", "now(6)"),
            _ => ("DATETIME", "strftime('%Y-%m-%d %H:%M:%f', 'now')"),
        }
    }

    /// Waits until what was stamped so far lies in the past of the system's clock, as windows see it.
    pub async fn settle(&self) {
        if let Self::File(_) = self {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            tokio::time::sleep(std::time::Duration::from_nanos(u64::from(1_000_000_000 - now.subsec_nanos()))).await;
        }
    }

    pub async fn execute(&self, sql: &str) {
        match self {
            Self::Server(database) => database.execute(sql).await,
            Self::File(path) => {
                let ran = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut open(path).await).await;
                ran.unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
            }
        }
    }

    pub async fn rows(&self, sql: &str) -> Rows {
        match self {
            Self::Server(database) => database.query(sql).await,
            Self::File(path) => {
                let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut open(path).await).await;
                let rows = rows.unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
                let cell =
                    |row: &sqlx::sqlite::SqliteRow, i: usize| row.try_get_unchecked::<Option<String>, _>(i).unwrap();
                rows.iter().map(|row| (0..row.len()).map(|i| cell(row, i)).collect()).collect()
            }
        }
    }
}

async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).disable_statement_logging();
    SqliteConnection::connect_with(&options).await.unwrap()
}
