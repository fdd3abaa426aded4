//! A database of a test's own, and the few things a test does in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use super::sqlserver::{self, Given, Litter};
use super::{Family, PASSWORD, Place, Server, USER};

/// An empty database on a shared server; it goes with the server, or with its last clone where the server stays.
#[derive(Clone)]
pub struct Database {
    server: Arc<Server>,
    name: String,
    /// Never read: dropping it drops the database.
    _litter: Option<Arc<Litter>>,
}

impl Database {
    pub(super) async fn create(server: Arc<Server>, name: &str) -> Result<Self, sqlx::Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let short: String =
            name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(24).collect();
        let name = format!("weir_{short}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = Self::home(&server);
        let _alone = if home.given().is_some() { Some(sqlserver::ALONE.lock().await) } else { None };
        // A process id may come again while an old server lives on.
        let quoted = home.quote(&name);
        home.try_execute(&format!("DROP DATABASE IF EXISTS {quoted}")).await?;
        let mut tries = 0;
        while let Err(error) = home.try_execute(&format!("CREATE DATABASE {quoted}")).await {
            // Other programs' tests make theirs at the same time, at which some servers fail.
            tries += 1;
            if home.given().is_none() || tries == 30 {
                return Err(error);
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let litter = home.given().map(|given| Arc::new(Litter::new(given.clone(), quoted)));
        Ok(Self { server, name, _litter: litter })
    }

    /// The database that one is in while others are made and dropped.
    fn home(server: &Arc<Server>) -> Self {
        // PostgreSQL connects to some database always, MySQL to none.
        let name = match &server.place {
            Place::Own(_) if server.family() == Family::PostgreSql => "postgres",
            Place::Own(_) => "",
            Place::Given(given) => &given.database,
        };
        Self { name: name.into(), server: server.clone(), _litter: None }
    }

    fn given(&self) -> Option<&Given> {
        match &self.server.place {
            Place::Own(_) => None,
            Place::Given(given) => Some(given),
        }
    }

    /// `postgresql://user:password@host:port/name`, `mysql://…` or `sqlserver://…`, with the password escaped.
    pub fn url(&self) -> String {
        self.url_with(self.server.user(), self.server.password())
    }

    /// The URL with other credentials.
    pub fn url_with(&self, user: &str, password: &str) -> String {
        let (scheme, host, port) = (self.scheme(), self.server.host(), self.server.port());
        let options = self.given().map(|given| given.options.as_str()).filter(|o| !o.is_empty());
        let options = options.map(|options| format!("?{options}")).unwrap_or_default();
        format!("{scheme}://{}:{}@{host}:{port}/{}{options}", escape(user), escape(password), self.name)
    }

    /// `jdbc:postgresql://host:port/name` or its sibling, without credentials as DataX jobs write it.
    pub fn jdbc_url(&self) -> String {
        let (scheme, host, port) = (self.scheme(), self.server.host(), self.server.port());
        match self.given() {
            None => format!("jdbc:{scheme}://{host}:{port}/{}", self.name),
            Some(given) => {
                let options = given.options.split('&').filter(|o| !o.is_empty()).map(|o| format!(";{o}"));
                format!("jdbc:{scheme}://{host}:{port};databaseName={}{}", self.name, options.collect::<String>())
            }
        }
    }

    fn scheme(&self) -> &'static str {
        match self.server.family() {
            Family::PostgreSql => "postgresql",
            Family::MariaDb | Family::MySql => "mysql",
            Family::SqlServer => "sqlserver",
        }
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host.
    pub fn host(&self) -> &str {
        self.server.host()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The user.
    pub fn user(&self) -> &str {
        self.server.user()
    }

    /// The password.
    pub fn password(&self) -> &str {
        self.server.password()
    }

    /// Drops the database, whoever is connected to it: for tests that make hundreds.
    ///
    /// # Errors
    /// The server's.
    pub async fn remove(&self) -> Result<(), sqlx::Error> {
        let home = Self::home(&self.server);
        let force = if self.server.family() == Family::PostgreSql { " WITH (FORCE)" } else { "" };
        home.try_execute(&format!("DROP DATABASE IF EXISTS {}{force}", home.quote(&self.name))).await
    }

    /// Runs one or more statements, separated by `;`.
    ///
    /// # Panics
    /// When the server refuses one: the test fails.
    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap_or_else(|e| panic!("{e}\nin: {sql}"));
    }

    /// As [`execute`](Self::execute), for statements that may fail.
    pub async fn try_execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        if let Some(given) = self.given() {
            sqlserver::query(given, &self.name, sql).await.map(|_| ())
        } else if self.server.family() == Family::PostgreSql {
            let mut connection = self.connect_postgresql().await?;
            connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
            connection.close().await
        } else {
            let mut connection = self.connect_mysql().await?;
            connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
            connection.close().await
        }
    }

    /// The rows of a query, every value in the server's own text form and NULL as `None`.
    ///
    /// # Panics
    /// When the server refuses it: the test fails.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_query(sql).await.unwrap_or_else(|e| panic!("{e}\nin: {sql}"))
    }

    /// As [`query`](Self::query), for statements that may fail.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn try_query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
        // The text protocol (`raw_sql`) makes both servers spell the values out themselves.
        let cells = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        if let Some(given) = self.given() {
            sqlserver::query(given, &self.name, sql).await
        } else if self.server.family() == Family::PostgreSql {
            let mut connection = self.connect_postgresql().await?;
            let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
            rows.iter()
                .map(|row| {
                    (0..row.len())
                        .map(|i| row.try_get_raw(i).map(|v| cells(v.as_bytes().ok())))
                        .collect::<Result<Vec<_>, _>>()
                })
                .collect()
        } else {
            let mut connection = self.connect_mysql().await?;
            let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
            rows.iter()
                .map(|row| (0..row.len()).map(|i| row.try_get_unchecked::<Option<&[u8]>, _>(i).map(cells)).collect())
                .collect()
        }
    }

    /// The first value of a query, `""` for NULL.
    ///
    /// # Panics
    /// When the server refuses the query or it gives no row.
    pub async fn value(&self, sql: &str) -> String {
        let rows = self.query(sql).await;
        match rows.first().and_then(|row| row.first()) {
            Some(value) => value.clone().unwrap_or_default(),
            None => panic!("no row from: {sql}"),
        }
    }

    async fn connect_postgresql(&self) -> Result<PgConnection, sqlx::Error> {
        postgresql_options(self.port()).database(&self.name).connect().await
    }

    async fn connect_mysql(&self) -> Result<MySqlConnection, sqlx::Error> {
        let options = mysql_options(self.port());
        let options = if self.name.is_empty() { options } else { options.database(&self.name) };
        options.connect().await
    }

    /// A name in the server's own quotes.
    pub fn quote(&self, name: &str) -> String {
        match self.server.family() {
            Family::PostgreSql => format!("\"{}\"", name.replace('"', "\"\"")),
            Family::MariaDb | Family::MySql => format!("`{}`", name.replace('`', "``")),
            Family::SqlServer => format!("[{}]", name.replace(']', "]]")),
        }
    }
}

pub(super) fn postgresql_options(port: u16) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(USER)
        .password(PASSWORD)
        .ssl_mode(sqlx::postgres::PgSslMode::Disable)
}

pub(super) fn mysql_options(port: u16) -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username(USER)
        .password(PASSWORD)
        .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled)
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}
