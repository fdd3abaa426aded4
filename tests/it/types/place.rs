//! A database of a test, whichever it is: what the matrix asks of all four.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, TypeInfo, ValueRef};
use tokio::sync::Mutex;
use weir_plugins_test::servers::{self, Database};

/// The systems that types come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    PostgreSql,
    MariaDb,
    MySql,
    Sqlite,
    /// Only where somebody provides one, so it is not among [`ALL`](Self::ALL).
    SqlServer,
}

impl System {
    /// Those that are installed wherever the tests run.
    pub const ALL: [Self; 4] = [Self::PostgreSql, Self::MariaDb, Self::MySql, Self::Sqlite];

    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL 9",
            Self::Sqlite => "SQLite",
            Self::SqlServer => "SQL Server",
        }
    }

    /// The connector, which MariaDB and MySQL share.
    pub fn connector(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MariaDb | Self::MySql => "mysql",
            Self::Sqlite => "sqlite",
            Self::SqlServer => "sqlserver",
        }
    }

    pub fn is_mysql(self) -> bool {
        matches!(self, Self::MariaDb | Self::MySql)
    }
}

/// A database of its own, and one connection to it.
#[derive(Clone)]
pub struct Place {
    pub system: System,
    server: Option<Database>,
    file: PathBuf,
    link: Arc<Mutex<Option<Link>>>,
}

enum Link {
    PostgreSql(PgConnection),
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

impl Place {
    /// A new, empty database; an SQLite file stands in `folder`.
    pub async fn new(system: System, name: &str, folder: &Path) -> Self {
        let server = match system {
            System::PostgreSql => Some(servers::postgresql().await.fresh_database(name).await),
            System::MariaDb => Some(servers::mariadb().await.fresh_database(name).await),
            System::MySql => Some(servers::mysql().await.fresh_database(name).await),
            System::Sqlite => None,
            System::SqlServer => {
                let server =
                    servers::sqlserver().expect("whoever asks for a SQL Server looks first whether there is one");
                Some(server.fresh_database(name).await)
            }
        };
        Self { system, server, file: folder.join(format!("{name}.db")), link: Arc::default() }
    }

    /// The parameters of a reader or writer of `table`.
    pub fn parameters(&self, table: &str) -> Value {
        match &self.server {
            Some(database) => json!({"url": database.url(), "table": table}),
            None => json!({"path": self.file, "table": table}),
        }
    }

    async fn connect(&self) -> Link {
        let url = self.server.as_ref().map(Database::url).unwrap_or_default();
        let mut link = match self.system {
            System::PostgreSql => {
                let options: PgConnectOptions = url.parse().expect("a URL");
                Link::PostgreSql(options.ssl_mode(PgSslMode::Disable).connect().await.expect("a connection"))
            }
            System::MariaDb | System::MySql => {
                let options: MySqlConnectOptions = url.parse().expect("a URL");
                Link::MySql(options.ssl_mode(MySqlSslMode::Disabled).connect().await.expect("a connection"))
            }
            System::Sqlite => {
                let options = SqliteConnectOptions::new().filename(&self.file).create_if_missing(true);
                Link::Sqlite(options.connect().await.unwrap_or_else(|e| panic!("{}: {e}", self.file.display())))
            }
            System::SqlServer => unreachable!("its statements have connections of their own"),
        };
        match &mut link {
            Link::PostgreSql(to) => _ = to.execute("SET TIME ZONE 'UTC'").await.expect("a setting"),
            // A session that takes every value as it is.
            Link::MySql(to) => {
                _ = to.execute("SET SESSION sql_mode = '', time_zone = '+00:00'").await.expect("a setting");
            }
            Link::Sqlite(_) => {}
        }
        link
    }

    /// Runs statements; MySQL's in a session that takes every value as it is.
    pub async fn execute(&self, sql: &str) {
        if sql.is_empty() {
            return;
        }
        if let (System::SqlServer, Some(database)) = (self.system, &self.server) {
            return database.execute(sql).await;
        }
        let mut link = self.link.lock().await;
        let link = match &mut *link {
            Some(link) => link,
            none => none.insert(self.connect().await),
        };
        let statement = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = match link {
            Link::PostgreSql(to) => to.execute(statement).await.map(|_| ()),
            Link::MySql(to) => to.execute(statement).await.map(|_| ()),
            Link::Sqlite(to) => to.execute(statement).await.map(|_| ()),
        };
        done.unwrap_or_else(|e| panic!("{e}\nin: {}", sql.chars().take(2_000).collect::<String>()));
    }

    /// The rows of a query, as the server spells them.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        if let (System::SqlServer, Some(database)) = (self.system, &self.server) {
            return database.query(sql).await;
        }
        let mut link = self.link.lock().await;
        let link = match &mut *link {
            Some(link) => link,
            none => none.insert(self.connect().await),
        };
        // The text protocol (`raw_sql`) makes both servers spell the values out themselves.
        let statement = sqlx::raw_sql(AssertSqlSafe(sql));
        let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        let rows = match link {
            Link::PostgreSql(to) => statement.fetch_all(to).await.map(|rows| {
                let cell = |row: &PgRow, i| text(row.try_get_raw(i).ok().and_then(|value| value.as_bytes().ok()));
                rows.iter().map(|row| (0..row.len()).map(|i| cell(row, i)).collect()).collect()
            }),
            Link::MySql(to) => statement.fetch_all(to).await.map(|rows| {
                let cell = |row: &MySqlRow, i| text(row.get_unchecked::<Option<&[u8]>, _>(i));
                rows.iter().map(|row| (0..row.len()).map(|i| cell(row, i)).collect()).collect()
            }),
            Link::Sqlite(to) => statement.fetch_all(to).await.map(|rows| {
                let cell = |row: &SqliteRow, i: usize| {
                    let real =
                        row.try_get_raw(i).is_ok_and(|value| !value.is_null() && value.type_info().name() == "REAL");
                    // SQLite's own text of a real has fewer digits.
                    if real {
                        return Some(format!("real:{:?}", row.get::<f64, _>(i)));
                    }
                    text(row.get_unchecked::<Option<&[u8]>, _>(i))
                };
                rows.iter().map(|row| (0..row.len()).map(|i| cell(row, i)).collect()).collect()
            }),
        };
        rows.unwrap_or_else(|e| panic!("{e}\nin: {sql}"))
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> usize {
        let rows = self.query(&format!("SELECT CAST(COUNT(*) AS CHAR(20)) FROM {}", self.quote(table))).await;
        rows[0][0].as_deref().and_then(|text| text.trim().parse().ok()).expect("a count")
    }

    /// Removes all tables but the writers' own records, for those who make many.
    pub async fn clear(&self) {
        let sql = match self.system {
            System::PostgreSql => "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
            System::MariaDb | System::MySql => {
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
            }
            System::SqlServer => "SELECT name FROM sys.tables",
            System::Sqlite => {
                *self.link.lock().await = None;
                _ = std::fs::remove_file(&self.file);
                return;
            }
        };
        let rows = self.query(sql).await;
        let names = rows.into_iter().filter_map(|mut row| row.remove(0));
        let names: Vec<_> = names.filter(|name| !name.starts_with("weir_")).map(|name| self.quote(&name)).collect();
        if !names.is_empty() {
            self.execute(&format!("DROP TABLE {}", names.join(", "))).await;
        }
    }

    pub fn quote(&self, name: &str) -> String {
        match self.system {
            System::MariaDb | System::MySql => format!("`{name}`"),
            System::SqlServer => format!("[{name}]"),
            _ => format!("\"{name}\""),
        }
    }

    /// The columns of a table with the server's own texts of their types; none if there is no table.
    pub async fn types(&self, table: &str) -> Vec<(String, String)> {
        let sql = match self.system {
            System::PostgreSql => format!(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute \
                 WHERE attrelid = to_regclass('\"{table}\"') AND attnum > 0 ORDER BY attnum"
            ),
            // A MariaDB JSON column is told from a longtext by its check; both servers hide what is the table's default.
            System::MariaDb | System::MySql => format!(
                "SELECT column_name, CONCAT(column_type, \
                 IF(character_set_name IS NULL OR character_set_name = 'utf8mb4', '', CONCAT(' ', character_set_name)), \
                 IF(collation_name LIKE '%\\_bin' AND data_type <> 'longtext', CONCAT(' ', collation_name), ''){}) \
                 FROM information_schema.columns c WHERE table_schema = DATABASE() AND table_name = '{table}' \
                 ORDER BY ordinal_position",
                if self.system == System::MariaDb {
                    ", IF(EXISTS (SELECT 1 FROM information_schema.check_constraints k WHERE k.constraint_schema = DATABASE() \
                     AND k.table_name = c.table_name AND k.constraint_name = c.column_name AND k.check_clause LIKE 'json_valid%'), \
                     ' json', '')"
                } else {
                    ""
                }
            ),
            System::Sqlite => format!("SELECT name, type FROM pragma_table_info('{table}')"),
            System::SqlServer => sqlserver_types(table),
        };
        let rows = self.query(&sql).await;
        if self.system == System::SqlServer {
            let name = |row: &[Option<String>]| row.first().cloned().flatten().unwrap_or_default();
            return rows.iter().map(|row| (name(row), sqlserver_type(row))).collect();
        }
        rows.into_iter()
            .map(|row| {
                let mut cells = row.into_iter().map(Option::unwrap_or_default);
                (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
            })
            .collect()
    }

    /// An expression that spells every value of a column out, each differently.
    fn text_of(&self, column: &str, type_text: &str) -> String {
        let column = self.quote(column);
        let lower = type_text.to_lowercase();
        let is = |names: &[&str]| names.iter().any(|name| lower.starts_with(name));
        match self.system {
            System::PostgreSql => format!("{column}::text"),
            System::Sqlite => format!(
                "CASE typeof({column}) WHEN 'real' THEN {column} WHEN 'blob' THEN 'blob:' || hex({column}) \
                 ELSE typeof({column}) || ':' || {column} END"
            ),
            System::SqlServer => sqlserver_text(&column, &lower),
            _ if is(&["vector"]) => format!("HEX(CAST({column} AS BINARY))"),
            // The server rounds a float to six digits where it spells it itself.
            _ if is(&["float"]) => format!("CAST({column} * 1E0 AS CHAR)"),
            _ if lower.contains("blob")
                || is(&["binary", "varbinary", "bit", "point", "geometry", "linestring", "polygon"]) =>
            {
                format!("HEX({column})")
            }
            _ => format!("CAST({column} AS CHAR)"),
        }
    }

    /// Every value of the columns of a table by row: `id`, then the columns in the order of `types`.
    pub async fn values(&self, table: &str, types: &[(String, String)]) -> Vec<(i64, Vec<Option<String>>)> {
        let texts: Vec<_> = types.iter().map(|(column, text)| self.text_of(column, text)).collect();
        let texts: String = texts.iter().map(|text| format!(", {text}")).collect();
        let sql = format!("SELECT {}{texts} FROM {} ORDER BY 1", self.quote("id"), self.quote(table));
        let rows = self.query(&sql).await;
        rows.into_iter()
            .map(|mut row| {
                let values = row.split_off(1);
                (row.remove(0).and_then(|id| id.parse().ok()).expect("an id"), values)
            })
            .collect()
    }
}

/// The columns of a SQL Server table: name, type, length, digits, decimals, decimals of a second. Not from `sys.columns`,
/// which some relatives take half a minute to join with the types' names.
fn sqlserver_types(table: &str) -> String {
    format!(
        "SELECT COLUMN_NAME, DATA_TYPE, CAST(CHARACTER_MAXIMUM_LENGTH AS int), CAST(NUMERIC_PRECISION AS int), \
         CAST(NUMERIC_SCALE AS int), CAST(DATETIME_PRECISION AS int) FROM INFORMATION_SCHEMA.COLUMNS \
         WHERE TABLE_NAME = N'{table}' ORDER BY ORDINAL_POSITION"
    )
}

/// Such a column's type as one declares it.
fn sqlserver_type(row: &[Option<String>]) -> String {
    let cell = |i: usize| row.get(i).and_then(Option::as_deref).unwrap_or_default();
    match (cell(1), cell(2)) {
        (name @ ("varchar" | "nvarchar" | "varbinary"), "-1") => format!("{name}(max)"),
        (name @ ("char" | "nchar" | "varchar" | "nvarchar" | "binary" | "varbinary"), length) => {
            format!("{name}({length})")
        }
        (name @ ("decimal" | "numeric"), _) => format!("{name}({},{})", cell(3), cell(4)),
        (name @ ("time" | "datetime2" | "datetimeoffset"), _) => format!("{name}({})", cell(5)),
        (name, _) => name.to_owned(),
    }
}

/// An expression whose value every SQL Server spells alike, or that the test's own connection spells.
fn sqlserver_text(column: &str, type_text: &str) -> String {
    let base = type_text.split('(').next().unwrap_or_default();
    match base {
        "money" | "smallmoney" => format!("CAST({column} AS decimal(19,4))"),
        "date" => format!("CONVERT(varchar(10), {column}, 23)"),
        "time" | "datetime" | "smalldatetime" | "datetime2" => format!("CONVERT(varchar(30), {column}, 121)"),
        // An instant; which zone it was written in is not compared.
        "datetimeoffset" => {
            format!("REPLACE(CONVERT(varchar(40), SWITCHOFFSET({column}, '+00:00'), 121), ' +00:00', '')")
        }
        "text" | "ntext" | "xml" => format!("CAST({column} AS nvarchar(max))"),
        "varchar" | "char" => format!("CAST({column} AS nvarchar(max))"),
        _ => column.to_owned(),
    }
}
