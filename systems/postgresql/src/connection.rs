//! Sessions: how they are opened, what is set in them, and how a running statement is stopped.
//!
//! Everything that could make a server answer differently from another one (time zone, date and interval style, float
//! digits, encoding) is set in each session. A statement that is still running when the run is stopped is cancelled on
//! the server over a second connection; the first one is then dropped, never reused.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use weir_core::{ConnectorContext, Error, ErrorKind, Faults, Keep, Kept, Result, ResultExt, Secret};

use crate::error::map;
use crate::nodelay::without_delay;
use crate::url::PgUrl;

/// TLS parameters beside the URL.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct TlsConfig {
    /// disable, allow, prefer (default), require, verify-ca or verify-full; as the URL's `sslmode`.
    #[serde(alias = "sslMode")]
    #[schemars(extend("x-aliases" = ["sslMode"]))]
    pub sslmode: Option<String>,
    /// The file with the certificates of the authorities to trust; as the URL's `sslrootcert`.
    #[serde(alias = "sslRootCert")]
    #[schemars(extend("x-aliases" = ["sslRootCert"]))]
    pub sslrootcert: Option<String>,
}

/// One database: the ways to it, tried in order, and what to set in each session.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    urls: Vec<PgUrl>,
    session: Vec<String>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than this a stopped run does not wait for the server to take the cancellation.
const CANCEL_TIMEOUT: Duration = Duration::from_millis(700);

impl Endpoint {
    /// Reads the URLs. A login and TLS options beside the URL win over those in it.
    ///
    /// # Errors
    /// URLs that are none of PostgreSQL's, an unknown sslmode.
    pub fn new(
        urls: &[String],
        username: Option<&str>,
        password: Option<&Secret>,
        tls: &TlsConfig,
        session: &[String],
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut parsed = Vec::new();
        for text in urls {
            let mut url = match PgUrl::parse(text) {
                Ok(url) => url,
                Err(error) => {
                    faults.add("/url", error.message());
                    continue;
                }
            };
            url.username = username.map(str::to_owned).or(url.username);
            url.password = password.cloned().or(url.password);
            url.ssl_mode = tls.sslmode.clone().or(url.ssl_mode);
            url.ssl_root_cert = tls.sslrootcert.clone().or(url.ssl_root_cert);
            if let Some(mode) = &url.ssl_mode
                && mode.parse::<PgSslMode>().is_err()
            {
                faults.add(
                    if tls.sslmode.is_some() { "/sslmode" } else { "/url" },
                    format!("`{mode}` is no sslmode: use disable, allow, prefer, require, verify-ca or verify-full"),
                );
            }
            parsed.push(url);
        }
        faults.or(Self { urls: parsed, session: session.to_vec() })
    }

    /// What the URLs say that has no effect.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.urls.iter().flat_map(|u| u.warnings.clone()).collect();
        warnings.sort();
        warnings.dedup();
        warnings
    }

    /// `host:port/database`, without any secret.
    pub fn place(&self) -> String {
        let Some(url) = self.urls.first() else { return String::new() };
        let hosts: Vec<_> = url.hosts.iter().map(|(h, p)| format!("{h}:{p}")).collect();
        format!("{}/{}", hosts.join(","), url.database.as_deref().unwrap_or_default())
    }

    /// Which database as which user: equal for endpoints that see the same snapshots.
    pub fn identity(&self) -> String {
        let one = |url: &PgUrl| {
            let hosts: Vec<_> = url.hosts.iter().map(|(h, p)| format!("{h}:{p}")).collect();
            let user = url.username.as_deref().unwrap_or_default();
            format!("{user}@{}/{}", hosts.join(","), url.database.as_deref().unwrap_or(user))
        };
        self.urls.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// A session of this runtime that was closed before, else a new one on the first host that answers.
    ///
    /// # Errors
    /// The last host's error; a refused login at once.
    pub async fn connect(&self, context: &ConnectorContext) -> Result<Session> {
        if let Some(kept) = context.shared.kept() {
            while let Some(Rested { mut session, since }) = kept.take(|rested: &Rested| rested.session.is_of(self)) {
                session.stopper.context = context.alone();
                session.kept = Some(kept.clone());
                if since.elapsed() < FRESH || session.execute("SELECT").await.is_ok() {
                    return Ok(session);
                }
            }
        }
        let mut session = self.connect_anew(context).await?;
        session.kept = context.shared.kept().cloned();
        session.home = session.kept.is_some().then(|| Arc::new(self.clone()));
        Ok(session)
    }

    async fn connect_anew(&self, context: &ConnectorContext) -> Result<Session> {
        let mut last = None;
        for url in &self.urls {
            for host in &url.hosts {
                match self.connect_to(url, host, context).await {
                    Ok(session) => return Ok(session),
                    Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => {
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::config("no `url`: say where the database is")))
    }

    async fn connect_to(
        &self,
        url: &PgUrl,
        (host, port): &(String, u16),
        context: &ConnectorContext,
    ) -> Result<Session> {
        let options = options(url, host, *port)?;
        let wait = url.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let place = format!("{host}:{port}");
        let deadline = tokio::time::Instant::now() + wait;
        let silent = || {
            Error::new(
                ErrorKind::Timeout,
                format!(
                    "the PostgreSQL server does not answer within {} s: check host, port and firewall, or raise connectTimeout",
                    wait.as_secs_f64()
                ),
            )
        };
        let opened = context.until_cancelled(async {
            match tokio::time::timeout_at(deadline, PgConnection::connect_with(&options)).await {
                Ok(opened) => opened.map_err(map),
                Err(_) => Err(silent()),
            }
        });
        let connection = opened.await.context("server", &place)?;
        without_delay(*port);
        let stopper = Stopper {
            options: Arc::new(options),
            pid: 0,
            context: context.alone(),
            answer_within: url.socket_timeout,
            connect_within: wait,
        };
        let mut session = Session { connection, stopper, version: 0, altered: false, home: None, kept: None };
        match tokio::time::timeout_at(deadline, session.set_up(url)).await {
            Ok(done) => done.context("server", &place)?,
            Err(_) => return Err(silent()).context("server", &place),
        }
        session.run_statements(&self.session).await.context("server", &place)?;
        Ok(session)
    }
}

fn options(url: &PgUrl, host: &str, port: u16) -> Result<PgConnectOptions> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port)
        .application_name(url.application_name.as_deref().unwrap_or("weir"))
        .disable_statement_logging();
    if let Some(user) = &url.username {
        options = options.username(user);
    }
    if let Some(password) = &url.password {
        options = options.password(password.reveal());
    }
    let database = url.database.clone().unwrap_or_else(|| options.get_username().to_owned());
    options = options.database(&database);
    if let Some(mode) = &url.ssl_mode {
        options = options.ssl_mode(mode.parse().map_err(map)?);
    }
    if let Some(file) = &url.ssl_root_cert {
        std::fs::File::open(file)
            .map_err(|error| Error::config(format!("sslrootcert {file} cannot be read")).because(error))?;
        options = options.ssl_root_cert(file);
    }
    if let Some(file) = &url.ssl_cert {
        options = options.ssl_client_cert(file);
    }
    if let Some(file) = &url.ssl_key {
        options = options.ssl_client_key(file);
    }
    if let Some(text) = &url.options {
        options = options.options(settings(text)?);
    }
    Ok(options)
}

/// Reads the URL's `options` as the server does: `-c name=value` and `--name=value`, divided by spaces, where a backslash
/// keeps the next character.
fn settings(text: &str) -> Result<Vec<(String, String)>> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty())),
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(rest) => rest.to_owned(),
            None => word.clone(),
        };
        match setting.split_once('=') {
            Some((name, value)) if word.starts_with('-') && !name.is_empty() => {
                settings.push((name.replace('-', "_"), value.to_owned()));
            }
            _ => {
                return Err(Error::config(format!("`{word}` in the url's options is no setting: write -c name=value")));
            }
        }
    }
    Ok(settings)
}

/// Settings that answers depend on.
const FORMS: &[(&str, &str)] = &[
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "iso_8601"),
    ("extra_float_digits", "3"),
    ("client_encoding", "UTF8"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("xmlbinary", "base64"),
];

/// Timeouts that would break a long transfer.
const TIMEOUTS: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
];

/// By these the server notices a client that vanished, drops its transaction and with it the locks; and no firewall on the
/// way forgets a connection that is only held.
const WATCHFULNESS: &[(&str, &str)] = &[
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "6"),
    ("client_connection_check_interval", "10s"),
];

/// An open session. A call that fails because the run was stopped leaves it unusable: drop it.
pub struct Session {
    connection: PgConnection,
    stopper: Stopper,
    /// The server's version, 150004 for 15.4.
    pub version: u32,
    /// Whether the job's own statements may have changed what we set.
    altered: bool,
    /// What it was opened for, while it is as it was then.
    home: Option<Arc<Endpoint>>,
    /// Where it rests when it is closed.
    kept: Option<Kept>,
}

/// A session that rests until the next call on its runtime.
struct Rested {
    session: Session,
    since: Instant,
}

#[async_trait]
impl Keep for Rested {
    async fn close(self: Box<Self>) {
        self.session.close().await;
    }
}

/// A session that rested for less is taken to live; of others the server is asked.
const FRESH: Duration = Duration::from_millis(500);

impl Session {
    async fn set_up(&mut self, url: &PgUrl) -> Result<()> {
        let mut settings: Vec<(&str, &str)> = [FORMS, TIMEOUTS, WATCHFULNESS].concat();
        if let Some(schema) = &url.current_schema {
            settings.push(("search_path", schema));
        }
        self.configure(&settings).await?;
        let row = self
            .one(
                "SELECT pg_backend_pid(), current_setting('server_version_num')::int4, pg_is_in_recovery(), \
                 current_setting('server_encoding')",
            )
            .await?;
        self.stopper.pid = row.try_get(0).map_err(map)?;
        self.version = row.try_get::<i32, _>(1).map_err(map)?.max(0) as u32;
        let standby: bool = row.try_get(2).map_err(map)?;
        if let Some(primary) = url.primary
            && primary == standby
        {
            let role = if standby { "a standby" } else { "the primary" };
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("the server is {role}, and the url asks for another"),
            ));
        }
        Ok(())
    }

    async fn run_statements(&mut self, statements: &[String]) -> Result<()> {
        for statement in statements {
            self.execute(statement).await.map_err(|e| e.with("statement", "session"))?;
        }
        // The job's statements may set what they like, but not how values look on the wire.
        if !statements.is_empty() {
            self.altered = true;
            self.configure(FORMS).await?;
        }
        Ok(())
    }

    /// Sets what of these settings the server knows: older servers and relatives miss some.
    async fn configure(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        let values: Vec<_> = settings.iter().map(|(n, v)| format!("({}, {})", literal(n), literal(v))).collect();
        let sql = format!(
            "SELECT set_config(s.name, v.value, false) FROM (VALUES {}) v(name, value) \
             JOIN pg_catalog.pg_settings s ON lower(s.name) = lower(v.name) \
             WHERE v.name <> 'client_connection_check_interval' OR version() !~* 'mingw|visual c'",
            values.join(", ")
        );
        self.execute(&sql).await.map(drop)
    }

    /// Lets no timeout of the server end this session, whatever the job's own statements have set.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn keep_open(&mut self) -> Result<()> {
        if !self.altered {
            return Ok(());
        }
        self.spoil();
        self.configure(TIMEOUTS).await
    }

    /// Runs one or several statements without reading rows; gives the rows affected.
    pub async fn execute(&mut self, sql: &str) -> Result<u64> {
        self.try_execute(sql).await?.map_err(map)
    }

    /// As `execute`, but keeps the driver's error apart, for those who look inside.
    pub async fn try_execute(&mut self, sql: &str) -> Result<Result<u64, sqlx::Error>> {
        let running = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection);
        Ok(self.stopper.watch(running).await?.map(|done| done.rows_affected()))
    }

    /// Runs a query: one statement, whatever stands in it.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<PgRow>> {
        let running = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false).fetch_all(&mut self.connection);
        self.stopper.watch(running).await?.map_err(map)
    }

    /// Runs one or several statements of our own in one exchange of messages, where [`rows`](Self::rows) takes two for
    /// each; gives the rows of them all. Nothing that comes from elsewhere may stand in them but as a literal or a quoted
    /// name.
    pub async fn answers(&mut self, sql: &str) -> Result<Vec<PgRow>> {
        let running = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        self.stopper.watch(running).await?.map_err(map)
    }

    /// As [`answers`](Self::answers), for one value.
    pub async fn answer<T>(&mut self, sql: &str) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let rows = self.answers(sql).await?;
        let row = rows.first().ok_or_else(|| Error::internal("a catalogue query gave no row"))?;
        row.try_get(0).map_err(map)
    }

    /// Runs a query that gives a row.
    pub async fn one(&mut self, sql: &str) -> Result<PgRow> {
        let rows = self.rows(sql).await?;
        rows.into_iter().next().ok_or_else(|| Error::internal("a catalogue query gave no row"))
    }

    /// Runs a query for one value.
    pub async fn value<T>(&mut self, sql: &str) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.one(sql).await?.try_get(0).map_err(map)
    }

    /// The driver's connection, for COPY, and what to wrap each wait on it in.
    pub fn parts(&mut self) -> (&mut PgConnection, &Stopper) {
        (&mut self.connection, &self.stopper)
    }

    /// Says that the session is not what it was when it was opened: settings or objects of its own were changed, so nobody
    /// may use it again.
    pub fn spoil(&mut self) {
        self.home = None;
    }

    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.home.as_deref() == Some(endpoint)
    }

    /// Ends the use of a session that is in no transaction: where the runtime keeps sessions, the next call gets it, else
    /// it says goodbye. Errors do not matter any more.
    pub async fn rest(mut self) {
        let kept = self.kept.take().filter(|_| self.home.is_some() && !self.stopper.context.cancel.is_cancelled());
        let Some(kept) = kept else { return self.close().await };
        if let Some(other) = kept.put(Rested { session: self, since: Instant::now() }) {
            other.close().await;
        }
    }

    /// Says goodbye; errors do not matter any more.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_millis(300), self.connection.close()).await;
    }
}

/// Ends waits when the run is stopped, and the statement on the server with them.
#[derive(Clone)]
pub struct Stopper {
    options: Arc<PgConnectOptions>,
    pid: i32,
    context: ConnectorContext,
    answer_within: Option<Duration>,
    connect_within: Duration,
}

impl Stopper {
    /// Waits for `future`, an answer of the server.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] when the run is stopped first, [`ErrorKind::Timeout`] after the URL's socketTimeout,
    /// [`ErrorKind::Unreachable`] when the server has gone without a word.
    pub async fn watch<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let timeout = async {
            match self.answer_within {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let stopped = tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => Error::cancelled(),
            done = future => return Ok(done),
            () = timeout => Error::new(
                ErrorKind::Timeout,
                "the server did not answer within socketTimeout: raise it in the url, or leave it out",
            ),
            error = self.lost() => error,
        };
        self.cancel_on_server().await;
        Err(stopped)
    }

    /// Ends when the server does not work on our statement any more. A statement may take hours and say nothing, and a
    /// network may drop a connection and say nothing: only the server itself can tell them apart. It is asked over a
    /// second connection, each time after half as long again as a connection may take.
    async fn lost(&self) -> Error {
        let mut misses = 0;
        while misses < 2 {
            tokio::time::sleep(self.connect_within * 3 / 2).await;
            let works = self.pid == 0 || self.server_works().await;
            misses = if works { 0 } else { misses + 1 };
        }
        Error::new(
            ErrorKind::Unreachable,
            "the PostgreSQL server has lost our connection, or cannot be reached any more: check the network and the server",
        )
    }

    /// Whether the server answers on a second connection and knows the first.
    async fn server_works(&self) -> bool {
        let (options, pid) = (self.options.clone(), self.pid);
        let asking = self.context.io.spawn(async move {
            let mut second = PgConnection::connect_with(&options).await?;
            let query = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE pid = $1";
            let known: i64 = sqlx::query_scalar(query).bind(pid).fetch_one(&mut second).await?;
            let _ = second.close().await;
            Ok::<_, sqlx::Error>(known > 0)
        });
        match tokio::time::timeout(self.connect_within, asking).await {
            Ok(Ok(Ok(known))) => known,
            // It answers, be it that it has no room for another connection.
            Ok(Ok(Err(sqlx::Error::Database(_)))) => true,
            _ => false,
        }
    }

    async fn cancel_on_server(&self) {
        if self.pid == 0 {
            return;
        }
        let (options, pid) = (self.options.clone(), self.pid);
        let cancelling = self.context.io.spawn(async move {
            let mut second = PgConnection::connect_with(&options).await?;
            sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(&mut second).await?;
            second.close().await
        });
        if !matches!(tokio::time::timeout(CANCEL_TIMEOUT, cancelling).await, Ok(Ok(Ok(())))) {
            tracing::debug!(pid, "the running statement could not be cancelled on the server");
        }
    }
}

/// A text as an SQL literal, right under any setting of standard_conforming_strings.
pub fn literal(text: &str) -> String {
    let mut sql = String::with_capacity(text.len() + 3);
    if text.contains('\\') {
        sql.push_str(" E");
    }
    sql.push('\'');
    for c in text.chars() {
        if c == '\'' || c == '\\' {
            sql.push(c);
        }
        sql.push(c);
    }
    sql.push('\'');
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_hold_any_text() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b"), r" E'a\\b'");
    }

    #[test]
    fn options_are_read_word_by_word() {
        let read = |text: &str| settings(text).ok().map(|s| s.into_iter().map(|(n, v)| format!("{n}:{v}")).collect());
        let read = |text: &str| -> Option<Vec<String>> { read(text) };
        assert_eq!(
            read("-c search_path=my-custom  -cwork_mem=8MB --lock-timeout=5s").unwrap(),
            ["search_path:my-custom", "work_mem:8MB", "lock_timeout:5s"]
        );
        assert_eq!(read(r"-c search_path=a\ b,\\c").unwrap(), [r"search_path:a b,\c"]);
        assert_eq!(read("").unwrap().len(), 0);
        assert_eq!(read("-c"), None);
        assert_eq!(read("work_mem=1"), None);
    }

    #[test]
    fn what_stands_beside_the_url_wins() {
        let tls = TlsConfig { sslmode: Some("nonsense".into()), ..TlsConfig::default() };
        let faults = Endpoint::new(&["postgres://h/d".into(), "nope".into()], None, None, &tls, &[]).unwrap_err();
        assert_eq!(faults.0.len(), 2, "{faults}");
        let endpoint =
            Endpoint::new(&["postgres://a:b@h/d?x=1".into()], Some("u"), None, &TlsConfig::default(), &[]).unwrap();
        assert_eq!(endpoint.urls[0].username.as_deref(), Some("u"));
        assert_eq!(endpoint.place(), "h:5432/d");
        assert_eq!(endpoint.warnings().len(), 1);
    }
}
