//! Connections of both drivers, and statements that end when the run is stopped.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder, SslOpts};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use weir_core::{ConnectorContext, Error, ErrorKind, Result};

use crate::error::{from_async, from_sqlx, nameless};
use crate::session::Setup;
use crate::url::{Options, Tls};

/// A connection for the catalogue and for writing.
pub struct Session {
    /// The driver's connection.
    pub conn: Conn,
    options: Options,
    context: ConnectorContext,
}

/// A connection for reading rows.
pub struct RowSession {
    /// The driver's connection.
    pub conn: MySqlConnection,
    id: u64,
    options: Options,
    context: ConnectorContext,
}

/// Connects to the first of `all` that answers; a server that answers with a refusal ends the search.
///
/// # Errors
/// The refusal, or why the last one cannot be reached.
pub async fn connect_first(all: &[Options], setup: &Setup, context: &ConnectorContext) -> Result<Session> {
    first(all, |options| connect(options, setup, context)).await
}

async fn first<'a, T, F: Future<Output = Result<T>>>(
    all: &'a [Options],
    attempt: impl Fn(&'a Options) -> F,
) -> Result<T> {
    let mut last = Error::config("no server is named");
    for options in all {
        match attempt(options).await {
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => last = error,
            other => return other,
        }
    }
    Err(last)
}

/// Connects with the driver that writes.
///
/// # Errors
/// Why there is no connection, with the server's place.
pub async fn connect(options: &Options, setup: &Setup, context: &ConnectorContext) -> Result<Session> {
    let work = async {
        let mut conn = within(options, async {
            let mut conn = open(options).await?;
            conn.query_drop(Setup::essential()).await.map_err(from_async)?;
            for statement in Setup::optional() {
                tolerate(conn.query_drop(statement).await.map_err(from_async))?;
            }
            Ok(conn)
        })
        .await?;
        for statement in options.session.iter().chain(&setup.session) {
            conn.query_drop(statement).await.map_err(|e| from_async(e).with("statement", "session"))?;
        }
        conn.query_drop(Setup::essential_again()).await.map_err(from_async)?;
        Ok(Session { conn, options: options.clone(), context: context.alone() })
    };
    context.until_cancelled(work).await.map_err(|e| e.with("server", options.place()))
}

/// Connects to the first of `all` that answers, with the driver that reads.
///
/// # Errors
/// As [`connect_first`].
pub async fn connect_rows(all: &[Options], setup: &Setup, context: &ConnectorContext) -> Result<RowSession> {
    first(all, |options| rows(options, setup, context)).await
}

async fn rows(options: &Options, setup: &Setup, context: &ConnectorContext) -> Result<RowSession> {
    let work = async {
        let run = async |conn: &mut MySqlConnection, sql: &str| {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.map(drop).map_err(from_sqlx)
        };
        let mut conn = within(options, async {
            let mut conn = open_rows(options).await?;
            run(&mut conn, Setup::essential()).await?;
            for statement in Setup::optional() {
                tolerate(run(&mut conn, statement).await)?;
            }
            Ok(conn)
        })
        .await?;
        for statement in options.session.iter().chain(&setup.session) {
            run(&mut conn, statement).await.map_err(|e| e.with("statement", "session"))?;
        }
        run(&mut conn, Setup::essential_again()).await?;
        let row = sqlx::raw_sql("SELECT CONNECTION_ID()").fetch_one(&mut conn).await.map_err(from_sqlx)?;
        let id: &[u8] = row.try_get_unchecked(0).map_err(from_sqlx)?;
        let id = std::str::from_utf8(id).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
        Ok(RowSession { conn, id, options: options.clone(), context: context.alone() })
    };
    context.until_cancelled(work).await.map_err(|e| e.with("server", options.place()))
}

/// A variable that a relative does not have, or does not let us set, is no reason to give up.
fn tolerate(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if matches!(e.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => Err(e),
        _ => Ok(()),
    }
}

async fn within<T>(options: &Options, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(options.connect_timeout, future).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Unreachable,
            format!(
                "no connection within {} s: check host, port and firewall, or raise connectTimeout",
                options.connect_timeout.as_secs_f32()
            ),
        ))
    })
}

async fn open(options: &Options) -> Result<Conn> {
    let builder = OptsBuilder::default()
        .user(Some(&options.user))
        .pass(Some(options.password.reveal()))
        .db_name(options.database.as_deref())
        .ip_or_hostname(&options.host)
        .tcp_port(options.port)
        .socket(options.socket.as_deref())
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .prefer_socket(false);
    let tls = (options.socket.is_none() && options.tls != Tls::Disabled).then(|| {
        provide_crypto();
        let mut ssl = SslOpts::default();
        if matches!(options.tls, Tls::Preferred | Tls::Required) {
            ssl = ssl.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
        } else if options.tls == Tls::VerifyCa {
            ssl = ssl.with_danger_skip_domain_validation(true);
        }
        match &options.ca {
            // With a CA of one's own the public ones have no say.
            Some(ca) => ssl
                .with_root_certs(vec![std::path::PathBuf::from(ca).into()])
                .with_disable_built_in_roots(matches!(options.tls, Tls::VerifyCa | Tls::VerifyIdentity)),
            None => ssl,
        }
    });
    match Conn::new(builder.clone().ssl_opts(tls.clone())).await {
        Err(error) if options.tls == Tls::Preferred && is_tls(&error) => Conn::new(builder).await.map_err(from_async),
        Err(error) if options.tls == Tls::VerifyCa => {
            let Some(names) = other_names(&error) else { return Err(from_async(error)) };
            // The authority is the right one. The driver cannot leave the name out, so it is told to expect the
            // certificate's own.
            let name = names.into_iter().next().ok_or_else(nameless)?;
            let tls = tls.map(|tls| tls.with_danger_tls_hostname_override(Some(name)));
            Conn::new(builder.ssl_opts(tls)).await.map_err(from_async)
        }
        other => other.map_err(from_async),
    }
}

/// The names in a certificate of a trusted authority that was refused only because the host is called otherwise.
fn other_names(error: &mysql_async::Error) -> Option<Vec<String>> {
    use rustls::{CertificateError, Error};
    let mysql_async::Error::Io(mysql_async::IoError::Io(error)) = error else { return None };
    let Error::InvalidCertificate(refusal) = error.get_ref()?.downcast_ref::<Error>()? else { return None };
    let presented = match refusal {
        CertificateError::NotValidForNameContext { presented, .. } => presented.as_slice(),
        CertificateError::NotValidForName => &[],
        _ => return None,
    };
    // Shown as `DnsName("db.example")` and `IpAddress(10.0.0.1)`; a wildcard stands for any label.
    let name = |shown: &String| {
        let inner = shown.split_once('(')?.1.strip_suffix(')')?.trim_matches('"').replace('*', "any");
        rustls::pki_types::ServerName::try_from(inner.as_str()).is_ok().then_some(inner)
    };
    Some(presented.iter().filter_map(name).collect())
}

fn is_tls(error: &mysql_async::Error) -> bool {
    use mysql_async::{DriverError, Error, IoError};
    match error {
        Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(IoError::Tls(_)) => true,
        // A failed handshake arrives as an I/O error around rustls' own.
        Error::Io(IoError::Io(e)) => e.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The driver asks for the process's cryptography, and a process that has not chosen one would panic.
fn provide_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost only when another thread was faster, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

async fn open_rows(options: &Options) -> Result<MySqlConnection> {
    let mut all = MySqlConnectOptions::new()
        .host(&options.host)
        .port(options.port)
        .username(&options.user)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .statement_cache_capacity(1)
        .disable_statement_logging()
        .ssl_mode(match options.tls {
            Tls::Disabled => MySqlSslMode::Disabled,
            Tls::Preferred => MySqlSslMode::Preferred,
            Tls::Required => MySqlSslMode::Required,
            Tls::VerifyCa => MySqlSslMode::VerifyCa,
            Tls::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        });
    // The driver answers the server's challenge even with an empty password, which is not what the server expects.
    if !options.password.reveal().is_empty() {
        all = all.password(options.password.reveal());
    }
    if let Some(database) = &options.database {
        all = all.database(database);
    }
    if let Some(ca) = &options.ca {
        all = all.ssl_ca(ca);
    }
    if let Some(socket) = &options.socket {
        all = all.socket(socket).ssl_mode(MySqlSslMode::Disabled);
    }
    match all.connect().await {
        Err(sqlx::Error::Tls(_) | sqlx::Error::Configuration(_)) if options.tls == Tls::Preferred => {
            all.ssl_mode(MySqlSslMode::Disabled).connect().await.map_err(from_sqlx)
        }
        other => other.map_err(from_sqlx),
    }
}

impl Session {
    /// Runs a statement.
    ///
    /// # Errors
    /// The server's, or that the run was stopped; the statement is then killed.
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        self.raw(sql).await?.map_err(from_async)
    }

    /// Runs a statement; the outer error is a stopped run, the inner one the driver's own.
    ///
    /// # Errors
    /// The run was stopped, or the server did not answer within `socketTimeout`.
    pub async fn raw(&mut self, sql: &str) -> Result<Result<(), mysql_async::Error>> {
        let (id, options, context) = (self.conn.id(), self.options.clone(), self.context.clone());
        let work = self.conn.query_drop(sql);
        guarded(&options, &context, u64::from(id), async { Ok(work.await) }).await
    }

    /// The rows of a query, converted by the driver.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn rows<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Vec<T>> {
        let (id, options, context) = (self.conn.id(), self.options.clone(), self.context.clone());
        let work = async { self.conn.query(sql).await.map_err(from_async) };
        guarded(&options, &context, u64::from(id), work).await
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn row<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Option<T>> {
        Ok(self.rows(sql).await?.into_iter().next())
    }

    /// Lets the server look at a statement without running it, and gives its columns. It takes the same privileges as
    /// to run it.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn prepare(&mut self, sql: &str) -> Result<Vec<mysql_async::Column>> {
        let (id, options, context) = (self.conn.id(), self.options.clone(), self.context.clone());
        let work = async {
            let statement = self.conn.prep(sql).await.map_err(from_async)?;
            let columns = statement.columns().to_vec();
            self.conn.close(statement).await.map_err(from_async)?;
            Ok(columns)
        };
        guarded(&options, &context, u64::from(id), work).await
    }

    /// Rows that the last statement inserted, changed or deleted.
    pub fn affected(&self) -> u64 {
        self.conn.affected_rows()
    }

    /// Says goodbye; an error no longer matters.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.conn.disconnect()).await;
    }
}

impl RowSession {
    /// Runs a statement without rows.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        let (id, options, context) = (self.id, self.options.clone(), self.context.clone());
        let work = async {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await.map(drop).map_err(from_sqlx)
        };
        guarded(&options, &context, id, work).await
    }

    /// All rows of a query for a few of them, as text.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn cells(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        let (id, options, context) = (self.id, self.options.clone(), self.context.clone());
        let work = async {
            let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.conn).await;
            let cell = |row: &sqlx::mysql::MySqlRow, i: usize| {
                let bytes = row.try_get_unchecked::<Option<&[u8]>, _>(i).ok().flatten();
                bytes.map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
            };
            Ok(rows.map_err(from_sqlx)?.iter().map(|row| (0..row.len()).map(|i| cell(row, i)).collect()).collect())
        };
        guarded(&options, &context, id, work).await
    }

    /// What a wait for rows needs besides the connection: server, context and the connection's id there.
    pub fn watch(&self) -> Watch {
        Watch { options: self.options.clone(), context: self.context.clone(), id: self.id, progress: AtomicU64::new(0) }
    }

    /// The run that the session works for from now on: one that was opened ahead of its task ends with the task.
    pub fn serve(&mut self, context: &ConnectorContext) {
        self.context = context.alone();
    }

    /// How long to wait for the server's next word.
    pub fn socket_timeout(&self) -> Option<Duration> {
        self.options.socket_timeout
    }
}

/// Looks after a connection on which somebody waits for the server.
pub struct Watch {
    options: Options,
    context: ConnectorContext,
    id: u64,
    progress: AtomicU64,
}

impl Watch {
    /// Something came.
    pub fn heard(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the running statement, some time.
    pub fn kill_later(&self) {
        kill_later(&self.options, &self.context, self.id);
    }

    /// Ends the running statement; the server has heard of it when this returns.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn kill(&self) -> Result<()> {
        kill(&self.options, self.id).await
    }

    /// Ends with an error when the server is gone without a word. A statement may rightly take hours, and a cut network
    /// looks the same from here; so, after a while of silence, another connection asks whether the server is there and
    /// still knows this one.
    pub async fn silence(&self) -> Error {
        let (mut heard, mut known) = (self.progress.load(Ordering::Relaxed), false);
        let mut unanswered = 0;
        loop {
            tokio::time::sleep(self.options.connect_timeout * 3).await;
            let now = self.progress.load(Ordering::Relaxed);
            if now != heard {
                heard = now;
                continue;
            }
            match self.is_known().await {
                // Behind a proxy the numbers of connections differ: only one that was there once can be missed.
                Ok(false) if known => {
                    return Error::new(ErrorKind::Unreachable, "the server no longer knows the connection");
                }
                Ok(found) => (known, unanswered) = (known || found, 0),
                // A server that refuses is there.
                Err(error) if !matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => unanswered = 0,
                Err(error) if error.context().iter().any(|(key, _)| *key == "code") => unanswered = 0,
                Err(error) => {
                    unanswered += 1;
                    if unanswered == 2 {
                        let text = "the server has fallen silent, and takes no new connection either";
                        return Error::new(ErrorKind::Unreachable, text).because(error);
                    }
                }
            }
        }
    }

    async fn is_known(&self) -> Result<bool> {
        within(&self.options, async {
            let mut conn = open(&self.options).await?;
            let sql = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {}", self.id);
            let found: Option<u64> = conn.query_first(sql).await.map_err(from_async)?;
            conn.disconnect().await.map_err(from_async)?;
            Ok(found != Some(0))
        })
        .await
    }
}

async fn guarded<T>(
    options: &Options,
    context: &ConnectorContext,
    id: u64,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // A statement of an INSERT … SELECT may rightly take hours: without `socketTimeout` there is no limit.
    let limit = options.socket_timeout.unwrap_or(Duration::from_secs(10 * 365 * 86_400));
    let watch = Watch { options: options.clone(), context: context.clone(), id, progress: AtomicU64::new(0) };
    let result = tokio::select! {
        result = work => return result,
        error = watch.silence() => error,
        () = context.cancel.cancelled() => Error::cancelled(),
        () = tokio::time::sleep(limit) => Error::new(ErrorKind::Timeout, "the server did not answer within socketTimeout"),
    };
    kill_later(options, context, id);
    Err(result)
}

/// Kills a running statement over a second connection. It runs on the job's runtime, for the task's own may be gone
/// the next moment.
fn kill_later(options: &Options, context: &ConnectorContext, id: u64) {
    let options = options.clone();
    context.io.spawn(async move {
        if let Err(error) = kill(&options, id).await {
            tracing::debug!(%error, "a running statement could not be killed");
        }
    });
}

async fn kill(options: &Options, id: u64) -> Result<()> {
    let work = async {
        let mut conn = open(options).await?;
        conn.query_drop(format!("KILL QUERY {id}")).await.map_err(from_async)?;
        conn.disconnect().await.map_err(from_async)
    };
    tokio::time::timeout(Duration::from_secs(10), work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "KILL QUERY was not answered")))
}

/// A string literal, quoted and escaped for a session whose SQL mode has no NO_BACKSLASH_ESCAPES.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}
