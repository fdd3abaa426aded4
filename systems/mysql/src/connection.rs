//! Connections for statements and for rows, and statements that end when the run is stopped.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder, Row, SslOpts};
use weir_core::{ConnectorContext, Error, ErrorKind, Home, Rests, Result, Seat, Woken};

use crate::error::{from_async, nameless};
use crate::session::Setup;
use crate::url::{Options, Tls};
use crate::wire::{Answer, Next, Wire};

/// A connection for the catalogue and for writing.
pub struct Session {
    /// The driver's connection.
    pub conn: Conn,
    options: Options,
    context: ConnectorContext,
    /// What it was opened for, and where it rests between calls.
    home: Option<Home<Opened>>,
    /// What it takes, where sessions are counted.
    seat: Option<Seat>,
}

/// A connection for reading rows.
pub struct RowSession {
    /// The connection.
    pub wire: Wire,
    id: u64,
    options: Options,
    context: ConnectorContext,
    home: Option<Home<Opened>>,
    seat: Option<Seat>,
}

/// The servers, of which a session is one's, and what it said first.
type Opened = (Vec<Options>, Setup);

fn home(all: &[Options], setup: &Setup, context: &ConnectorContext) -> Option<Home<Opened>> {
    Home::of(context, || (all.to_vec(), setup.clone()))
}

fn wake<S: Rests>(all: &[Options], setup: &Setup, context: &ConnectorContext) -> Option<Woken<S, Opened>> {
    Home::wake(context, |of: &Opened| of.0 == all && of.1 == *setup)
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

#[async_trait]
impl Rests for RowSession {
    async fn leave(self) {
        self.close().await;
    }

    fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }
}

/// A session of this runtime that rests, else a new one with the first of `all` that answers; a server that answers with
/// a refusal ends the search.
///
/// # Errors
/// The refusal, or why the last one cannot be reached.
pub async fn connect_first(all: &[Options], setup: &Setup, context: &ConnectorContext) -> Result<Session> {
    while let Some(Woken { mut session, home, fresh }) = wake::<Session>(all, setup, context) {
        session.context = context.alone();
        if fresh || session.run("DO 0").await.is_ok() {
            session.home = Some(home);
            return Ok(session);
        }
    }
    let seat = context.seat(|| place(all)).await;
    let mut session = first(all, |options| connect(options, setup, context)).await?;
    (session.home, session.seat) = (home(all, setup, context), seat);
    Ok(session)
}

/// Where sessions of these servers are counted.
fn place(all: &[Options]) -> String {
    all.first().map(Options::place).unwrap_or_default()
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
        Ok(Session { conn, options: options.clone(), context: context.alone(), home: None, seat: None })
    };
    context.until_cancelled(work).await.map_err(|e| e.with("server", options.place()))
}

/// Connects to the first of `all` that answers, with the driver that reads.
///
/// # Errors
/// As [`connect_first`].
pub async fn connect_rows(all: &[Options], setup: &Setup, context: &ConnectorContext) -> Result<RowSession> {
    while let Some(Woken { mut session, home, fresh }) = wake::<RowSession>(all, setup, context) {
        session.context = context.alone();
        if fresh || session.run("DO 0").await.is_ok() {
            session.home = Some(home);
            return Ok(session);
        }
    }
    let seat = context.seat(|| place(all)).await;
    let mut session = first(all, |options| rows(options, setup, context)).await?;
    (session.home, session.seat) = (home(all, setup, context), seat);
    Ok(session)
}

async fn rows(options: &Options, setup: &Setup, context: &ConnectorContext) -> Result<RowSession> {
    let work = async {
        let mut wire = within(options, async {
            let mut wire = open_rows(options).await?;
            wire.run(Setup::essential()).await?;
            for statement in Setup::optional() {
                tolerate(wire.run(statement).await)?;
            }
            Ok(wire)
        })
        .await?;
        for statement in options.session.iter().chain(&setup.session) {
            wire.run(statement).await.map_err(|e| e.with("statement", "session"))?;
        }
        if !(options.session.is_empty() && setup.session.is_empty()) {
            tolerate(wire.run(Setup::isolation()).await)?;
        }
        wire.run(Setup::essential_again()).await?;
        let row = cells(&mut wire, "SELECT CONNECTION_ID()").await?;
        let id = row.first().and_then(|row| row.first()?.as_ref()?.parse().ok()).unwrap_or(0);
        Ok(RowSession { wire, id, options: options.clone(), context: context.alone(), home: None, seat: None })
    };
    context.until_cancelled(work).await.map_err(|e| e.with("server", options.place()))
}

/// All rows of a query for a few of them, as text.
async fn cells(wire: &mut Wire, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    if let Answer::Done = wire.query(sql).await? {
        return Ok(rows);
    }
    loop {
        cells.clear();
        match wire.next_row(&mut cells)? {
            Next::Row => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                rows.push(cells.iter().map(|c| c.of(wire.bytes()).map(text)).collect());
            }
            Next::End => break,
            Next::Wait => wire.fill().await?,
        }
    }
    wire.drain().await?;
    Ok(rows)
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
    let encrypts = options.socket.is_none() && options.tls != Tls::Disabled;
    if let Some(ca) = options.ca.as_ref().filter(|_| encrypts) {
        // The driver does not say of a file that it is missing, nor which. What is in it, PEM or DER, it reads itself.
        std::fs::read(ca).map_err(|reason| Error::config(format!("sslCa: {ca} cannot be read: {reason}")))?;
    }
    let tls = encrypts.then(|| {
        weir_sql::stream::provide_crypto();
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

async fn open_rows(options: &Options) -> Result<Wire> {
    match Wire::connect(options).await {
        // As the other driver has it: what is only preferred may fail.
        Err(error) if options.tls == Tls::Preferred && crate::error::is_of_tls(&error) => {
            Wire::connect(&Options { tls: Tls::Disabled, ..options.clone() }).await
        }
        other => other,
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

    /// Ends the use of a session whose last statement has succeeded, which is in no transaction, and whose settings are as
    /// they were when it was opened: where the runtime keeps sessions, the next call gets it, else it says goodbye.
    pub async fn rest(mut self) {
        match self.home.take().filter(|_| !self.context.cancel.is_cancelled()) {
            Some(home) => home.rest(self).await,
            None => self.close().await,
        }
    }

    /// Says goodbye; an error no longer matters.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.conn.disconnect()).await;
    }
}

impl RowSession {
    /// As [`Session::rest`].
    pub async fn rest(mut self) {
        match self.home.take().filter(|_| !self.context.cancel.is_cancelled()) {
            Some(home) => home.rest(self).await,
            None => self.close().await,
        }
    }

    /// Says goodbye; an error no longer matters.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.wire.quit()).await;
    }

    /// Runs a statement without rows.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        let (id, options, context) = (self.id, self.options.clone(), self.context.clone());
        guarded(&options, &context, id, self.wire.run(sql)).await
    }

    /// Sends a statement and waits until its rows begin; of a statement without rows nothing follows.
    ///
    /// # Errors
    /// The server's or the connection's. Whoever stops to wait has to kill the statement.
    pub async fn begin(&mut self, sql: &str) -> Result<bool> {
        Ok(matches!(self.wire.query(sql).await?, Answer::Rows))
    }

    /// All rows of a query for a few of them, as text.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn cells(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let (id, options, context) = (self.id, self.options.clone(), self.context.clone());
        guarded(&options, &context, id, cells(&mut self.wire, sql)).await
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
            // Not by INFORMATION_SCHEMA: MySQL answers no query of its list as long as a statement of anybody on the server
            // has a character of four bytes. One's own connections are listed without any privilege.
            let listed: Vec<Row> = conn.query("SHOW PROCESSLIST").await.map_err(from_async)?;
            conn.disconnect().await.map_err(from_async)?;
            Ok(listed.iter().any(|row| matches!(row.get_opt::<u64, _>(0), Some(Ok(id)) if id == self.id)))
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
