//! Sessions of the driver: how they are opened, what is set in them, and what can be asked of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, Connection, Row};
use weir_core::{ConnectorContext, Error, ErrorKind, Faults, Home, Rests, Result, ResultExt, Seat, Secret, Woken};

use crate::error::map;
use crate::nodelay::without_delay;
use crate::options::{TlsConfig, options};
use crate::settings::{self, Encoding};
use crate::stopper::Stopper;
use crate::url::PgUrl;

/// One database: the ways to it, tried in order, and what to set in each session.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    urls: Vec<PgUrl>,
    pub(crate) session: Vec<String>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
        format!("{}/{}", url.servers(), url.database.as_deref().unwrap_or_default())
    }

    /// The servers, of which one is connected to: sessions are counted there, whatever their databases and users.
    pub(crate) fn servers(&self) -> String {
        self.urls.iter().map(PgUrl::servers).collect::<Vec<_>>().join(" ")
    }

    /// The database: full names of tables are unique in it.
    pub fn home(&self) -> String {
        let database = self.urls.first().and_then(|url| url.database.as_deref().or(url.username.as_deref()));
        weir_sql::home("postgresql", &self.servers(), database)
    }

    /// Which database as which user: equal for endpoints that see the same snapshots.
    pub fn identity(&self) -> String {
        let one = |url: &PgUrl| {
            let user = url.username.as_deref().unwrap_or_default();
            format!("{user}@{}/{}", url.servers(), url.database.as_deref().unwrap_or(user))
        };
        self.urls.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// A session of this runtime that was closed before, else a new one on the first host that answers.
    ///
    /// # Errors
    /// The last host's error; a refused login at once.
    pub async fn connect(&self, context: &ConnectorContext) -> Result<Session> {
        while let Some(Woken { mut session, home, fresh }) = Home::wake::<Session>(context, |of: &Self| of == self) {
            session.stopper.context = context.alone();
            if fresh || session.execute("SELECT").await.is_ok() {
                session.home = Some(home);
                return Ok(session);
            }
        }
        let seat = context.seat(|| self.servers()).await;
        let mut session = self.first(|place| open(self, place, context)).await?;
        (session.home, session.seat) = (Home::of(context, || self.clone()), seat);
        Ok(session)
    }

    /// What `attempt` makes of the first host that answers.
    pub(crate) async fn first<'a, T, F: Future<Output = Result<T>>>(
        &'a self,
        attempt: impl Fn(Place<'a>) -> F,
    ) -> Result<T> {
        let mut last = None;
        for url in &self.urls {
            for (host, port) in &url.hosts {
                match attempt(Place::new(url, host, *port)).await.context("server", format!("{host}:{port}")) {
                    Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => {
                        last = Some(error);
                    }
                    other => return other,
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::config("no `url`: say where the database is")))
    }
}

/// One host of a URL, and how long it may take until a session with it is ready.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) url: &'a PgUrl,
    host: &'a str,
    port: u16,
    /// The URL's connectTimeout.
    pub(crate) wait: Duration,
    deadline: tokio::time::Instant,
}

impl<'a> Place<'a> {
    fn new(url: &'a PgUrl, host: &'a str, port: u16) -> Self {
        let wait = url.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        Self { url, host, port, wait, deadline: tokio::time::Instant::now() + wait }
    }

    pub(crate) fn options(&self) -> Result<PgConnectOptions> {
        options(self.url, self.host, self.port)
    }

    /// Waits for a step of the way to a session.
    pub(crate) async fn within<T>(&self, step: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout_at(self.deadline, step).await.unwrap_or_else(|_| {
            let message = format!(
                "the PostgreSQL server does not answer within {} s: check host, port and firewall, or raise connectTimeout",
                self.wait.as_secs_f64()
            );
            Err(Error::new(ErrorKind::Timeout, message))
        })
    }
}

async fn open(endpoint: &Endpoint, place: Place<'_>, context: &ConnectorContext) -> Result<Session> {
    let options = place.options()?;
    let connecting = async { PgConnection::connect_with(&options).await.map_err(map) };
    let connection = context.until_cancelled(place.within(connecting)).await?;
    without_delay(place.port);
    let stopper = Stopper {
        options: Arc::new(options),
        pid: 0,
        context: context.alone(),
        answer_within: place.url.socket_timeout,
        connect_within: place.wait,
    };
    let mut session = Session { connection, stopper, version: 0, altered: false, home: None, seat: None };
    place.within(session.set_up(place.url)).await?;
    session.run_statements(&endpoint.session).await?;
    Ok(session)
}

/// Refuses a server that is not what the URL asks for.
pub(crate) fn check_role(url: &PgUrl, standby: bool) -> Result<()> {
    if url.primary != Some(standby) {
        return Ok(());
    }
    let role = if standby { "a standby" } else { "the primary" };
    Err(Error::new(ErrorKind::Unreachable, format!("the server is {role}, and the url asks for another")))
}

/// An open session. A call that fails because the run was stopped leaves it unusable: drop it.
pub struct Session {
    connection: PgConnection,
    stopper: Stopper,
    /// The server's version, 150004 for 15.4.
    pub version: u32,
    /// Whether the job's own statements may have changed what we set.
    altered: bool,
    /// What it was opened for, while it is as it was then.
    home: Option<Home<Endpoint>>,
    /// What it takes, where sessions are counted.
    seat: Option<Seat>,
}

#[async_trait]
impl Rests for Session {
    async fn leave(self) {
        self.close().await;
    }

    fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }
}

impl Session {
    async fn set_up(&mut self, url: &PgUrl) -> Result<()> {
        self.execute(&settings::all(url, Encoding::Utf8)).await?;
        let row = self
            .one("SELECT pg_backend_pid(), current_setting('server_version_num')::int4, pg_is_in_recovery()")
            .await?;
        self.stopper.pid = row.try_get(0).map_err(map)?;
        self.version = row.try_get::<i32, _>(1).map_err(map)?.max(0) as u32;
        let standby: bool = row.try_get(2).map_err(map)?;
        check_role(url, standby)
    }

    async fn run_statements(&mut self, statements: &[String]) -> Result<()> {
        for statement in statements {
            self.execute(statement).await.map_err(|e| e.with("statement", "session"))?;
        }
        // The job's statements may set what they like, but not how values look on the wire.
        if !statements.is_empty() {
            self.altered = true;
            self.execute(&settings::forms(Encoding::Utf8)).await?;
        }
        Ok(())
    }

    /// Lets no timeout of the server end this session, whatever the job's own statements have set; for a lock it waits as long as
    /// others.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn keep_open(&mut self) -> Result<()> {
        if !self.altered {
            return Ok(());
        }
        self.spoil();
        self.execute(&settings::timeouts()).await.map(drop)
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

    /// Ends the use of a session that is in no transaction: where the runtime keeps sessions, the next call gets it, else
    /// it says goodbye. Errors do not matter any more.
    pub async fn rest(mut self) {
        match self.home.take().filter(|_| !self.stopper.context.cancel.is_cancelled()) {
            Some(home) => home.rest(self).await,
            None => self.close().await,
        }
    }

    /// Says goodbye; errors do not matter any more.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_millis(300), self.connection.close()).await;
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
