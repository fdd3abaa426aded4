//! Connections, and statements that end when the run is stopped.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tiberius::error::Error as Driver;
use tiberius::{AuthMethod, Config, EncryptionLevel, Row, SqlBrowser};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};
use weir_core::{ConnectorContext, Error, ErrorKind, Home, Rests, Result, Seat, Woken};

use crate::cells::{number, text};
use crate::databases::enter;
use crate::error::from_driver;
use crate::session::Setup;
use crate::url::{Encrypt, Options};

/// The driver's connection.
pub type Client = tiberius::Client<Compat<TcpStream>>;

/// How long the server is asked to stop a statement before the connection is dropped.
const STOP: Duration = Duration::from_millis(500);

/// A connection for everything.
pub struct Session {
    client: Client,
    watch: Watch,
    /// Whether nothing more can be said on it.
    broken: bool,
    /// The names of types by their numbers, once somebody has asked.
    types: Option<Arc<HashMap<i64, String>>>,
    /// What it was opened for, while it is as it was then, but for what [`Setup::renewal`] sets back.
    home: Option<Home<(Vec<Options>, Setup)>>,
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

/// A session of this runtime that rests, else a new one with the first of `all` that answers; a server that answers with a
/// refusal ends the search.
///
/// # Errors
/// The refusal, or why the last one cannot be reached.
pub async fn connect_first(all: &[Options], setup: &Setup, context: &ConnectorContext) -> Result<Session> {
    let fits = |of: &(Vec<Options>, Setup)| of.0 == all && of.1 == *setup;
    while let Some(Woken { mut session, home, .. }) = Home::wake::<Session>(context, fits) {
        session.serve(context);
        if session.renew(setup).await.is_ok_and(|renewed| renewed) {
            session.home = Some(home);
            return Ok(session);
        }
    }
    let mut last = Error::config("no server is named");
    let seat = context.seat(|| all.first().map(Options::place).unwrap_or_default()).await;
    for options in all {
        match connect(options, setup, context).await {
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => last = error,
            Err(error) => return Err(error),
            Ok(session) => {
                let home = Home::of(context, || (all.to_vec(), setup.clone()));
                return Ok(Session { home, seat, ..session });
            }
        }
    }
    Err(last)
}

async fn connect(options: &Options, setup: &Setup, context: &ConnectorContext) -> Result<Session> {
    let work = async {
        // Boxed, as every future of the driver's that is not awaited row by row: they are large, and stacks are not.
        let client = Box::pin(within(options, open(options))).await?;
        let watch = Watch { options: options.clone(), context: context.alone(), id: 0 };
        let mut session = Session { client, watch, broken: false, types: None, home: None, seat: None };
        session.run(Setup::essential()).await?;
        for statement in Setup::optional(options.lock_timeout) {
            // A relative that does not know a setting is no reason to give up.
            if let Err(error) = session.raw(&statement).await?
                && !matches!(error, Driver::Server(_))
            {
                return Err(from_driver(error));
            }
        }
        session.prepare(setup).await?;
        let id = session.row("SELECT CAST(@@SPID AS bigint)").await?;
        session.watch.id = id.as_ref().and_then(|row| number(row, 0)).unwrap_or_default();
        Ok(session)
    };
    context.until_cancelled(Box::pin(work)).await.map_err(|e| e.with("server", options.place()))
}

async fn within<T>(options: &Options, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(options.login_timeout, future).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Unreachable,
            format!(
                "no connection within {} s: check host, port and firewall, or raise loginTimeout",
                options.login_timeout.as_secs_f32()
            ),
        ))
    })
}

async fn open(options: &Options) -> Result<Client> {
    let mut options = options.clone();
    // Azure's gateways send their clients on to where the database is.
    for _ in 0..3 {
        match open_once(&options).await {
            Err(Driver::Routing { host, port }) => {
                tracing::debug!(%host, port, "sent on");
                // The certificate is still the one of the name that the user wrote.
                options.certificate_host.get_or_insert(options.host.clone());
                (options.host, options.port, options.instance) = (host, Some(port), None);
            }
            other => return other.map_err(from_driver),
        }
    }
    Err(Error::new(ErrorKind::Unreachable, "the server sends its clients round in circles"))
}

async fn open_once(options: &Options) -> Result<Client, Driver> {
    let mut config = Config::new();
    config.host(&options.host);
    config.application_name(&options.application);
    config.authentication(AuthMethod::sql_server(&options.user, options.password.reveal()));
    if let Some(database) = &options.database {
        config.database(database);
    }
    match (&options.instance, options.port) {
        // A port that is written down needs no looking up.
        (_, Some(port)) => config.port(port),
        (Some(instance), None) => config.instance_name(instance),
        (None, None) => config.port(1433),
    }
    config.encryption(match options.encrypt {
        Encrypt::Disabled => EncryptionLevel::NotSupported,
        Encrypt::Login => EncryptionLevel::Off,
        Encrypt::Preferred => EncryptionLevel::On,
        Encrypt::Required => EncryptionLevel::Required,
    });
    if options.trusts() {
        config.trust_cert();
    } else if let Some(ca) = &options.ca {
        config.trust_cert_ca(ca);
    }
    if let Some(host) = &options.certificate_host {
        config.hostname_in_certificate(host);
    }
    config.readonly(options.read_only);
    config.multi_subnet_failover(options.multi_subnet);
    config.packet_size(options.packet_size);
    // Waits have their own limits here.
    config.handshake_timeout(None);
    config.command_timeout(None);
    let tcp = TcpStream::connect_named(&config).await?;
    tcp.set_nodelay(true)?;
    tiberius::Client::connect(config, tcp.compat_write()).await
}

impl Session {
    /// Runs the job's own statements.
    async fn prepare(&mut self, setup: &Setup) -> Result<()> {
        for statement in &setup.session {
            self.run(statement).await.map_err(|e| e.with("statement", "session"))?;
        }
        if !setup.session.is_empty() {
            self.run(Setup::essential()).await?;
        }
        Ok(())
    }

    /// Makes a session that has rested as good as a new one; `false` where it is none. The job's own statements come again,
    /// as in every other session, for what was set back may be theirs.
    async fn renew(&mut self, setup: &Setup) -> Result<bool> {
        // Types may have come since.
        self.types = None;
        let open = self.row(&Setup::renewal(self.watch.options.lock_timeout)).await?;
        if open.as_ref().and_then(|row| number(row, 0)) != Some(0) {
            return Ok(false);
        }
        self.prepare(setup).await?;
        Ok(true)
    }

    /// Runs a batch and reads its results to the end.
    ///
    /// # Errors
    /// The server's, or that the run was stopped; the batch is then cancelled at the server.
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        self.raw(sql).await?.map_err(from_driver)
    }

    /// Runs a batch; the outer error is a stopped run, the inner one the driver's own.
    ///
    /// # Errors
    /// The run was stopped, or the server did not answer in time.
    pub async fn raw(&mut self, sql: &str) -> Result<Result<(), Driver>> {
        Ok(self.results(sql).await?.map(drop))
    }

    /// The rows of the batch's first result.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.raw_rows(sql).await?.map_err(from_driver)
    }

    /// As [`Session::rows`]; the inner error is the driver's own.
    ///
    /// # Errors
    /// The run was stopped, or the server did not answer in time.
    pub async fn raw_rows(&mut self, sql: &str) -> Result<Result<Vec<Row>, Driver>> {
        Ok(self.results(sql).await?.map(|results| results.into_iter().next().unwrap_or_default()))
    }

    /// The first row of the batch's first result.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn row(&mut self, sql: &str) -> Result<Option<Row>> {
        Ok(self.rows(sql).await?.into_iter().next())
    }

    /// The names of the server's types by their numbers (`user_type_id`), asked for once a session: to name the types of
    /// one column after another costs some servers more than all the rest.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub(crate) async fn type_names(&mut self) -> Result<Arc<HashMap<i64, String>>> {
        if let Some(known) = &self.types {
            return Ok(known.clone());
        }
        let rows = self.rows("SELECT CAST(user_type_id AS bigint), CAST(name AS nvarchar(128)) FROM sys.types").await?;
        let names = rows.iter().filter_map(|row| Some((number(row, 0)?, text(row, 1)?))).collect();
        Ok(self.types.insert(Arc::new(names)).clone())
    }

    /// Goes on in another database of the server.
    ///
    /// # Errors
    /// As [`Session::run`]: there is none of that name, or the user may not get in.
    pub(crate) async fn enter(&mut self, database: &str) -> Result<()> {
        // It has types of its own.
        self.types = None;
        self.spoil();
        self.run(&enter(database)).await
    }

    /// Runs one statement that changes rows, and says how many.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn change(&mut self, sql: &str) -> Result<u64> {
        self.try_change(sql).await?.map_err(from_driver)
    }

    /// As [`Session::change`]; the inner error is the driver's own.
    ///
    /// # Errors
    /// The run was stopped, or the server did not answer in time.
    pub async fn try_change(&mut self, sql: &str) -> Result<Result<u64, Driver>> {
        let counted = format!("{sql};\nSELECT ROWCOUNT_BIG()");
        Ok(self.results(&counted).await?.map(|results| {
            let row = results.last().and_then(|rows| rows.first());
            row.and_then(|row| number(row, 0)).unwrap_or_default().max(0) as u64
        }))
    }

    async fn results(&mut self, sql: &str) -> Result<Result<Vec<Vec<Row>>, Driver>> {
        if self.broken {
            return Err(Error::new(ErrorKind::Unreachable, "the connection to the server is lost"));
        }
        let (client, watch) = (&mut self.client, &self.watch);
        let ended = watch.until(Box::pin(async { client.simple_query(sql).await?.into_results().await })).await;
        match ended {
            Ok(result) => {
                self.broken = matches!(&result, Err(e) if !matches!(e, Driver::Server(_)));
                Ok(result)
            }
            Err(error) => {
                self.stop().await;
                Err(error)
            }
        }
    }

    /// The run that the session works for from now on: one that was opened ahead of its task ends with the task.
    pub fn serve(&mut self, context: &ConnectorContext) {
        self.watch.context = context.alone();
    }

    /// The driver's connection and what looks after waits on it. Whoever gives up a wait calls [`Session::stop`], and whoever
    /// meets an error that is not the server's own word [`Session::lose`].
    pub fn parts(&mut self) -> (&mut Client, &Watch) {
        (&mut self.client, &self.watch)
    }

    /// Asks the server to stop what it does, for a moment; nothing can be said on the connection afterwards.
    pub async fn stop(&mut self) {
        if !self.broken {
            self.broken = true;
            let _ = tokio::time::timeout(STOP, self.client.cancel_query()).await;
        }
    }

    /// Says that the connection is of no more use.
    pub fn lose(&mut self) {
        self.broken = true;
    }

    /// Says that the session is not what it was when it was opened, so that nobody uses it again: it is in another database,
    /// or a statement was run that is none of ours.
    pub fn spoil(&mut self) {
        self.home = None;
    }

    /// Ends the use of a session whose last statement has succeeded, which is in no transaction and has no table of its own
    /// left: where the runtime keeps sessions, the next call gets it, else it says goodbye.
    pub async fn rest(mut self) {
        match self.home.take().filter(|_| !self.broken && !self.watch.context.cancel.is_cancelled()) {
            Some(home) => home.rest(self).await,
            None => self.close().await,
        }
    }

    /// Says goodbye; an error no longer matters. What is not committed is rolled back.
    pub async fn close(self) {
        if !self.broken {
            let _ = tokio::time::timeout(STOP, self.client.close()).await;
        }
    }
}

/// Looks after a connection on which somebody waits for the server.
pub struct Watch {
    options: Options,
    context: ConnectorContext,
    id: i64,
}

impl Watch {
    /// Waits for `work`, until the run is stopped, the server is gone or has not answered in time.
    ///
    /// # Errors
    /// Any of these.
    pub async fn until<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        // A statement may rightly take hours: unless the URL says so, there is no limit.
        let limit = self.options.statement_timeout.unwrap_or(Duration::from_secs(10 * 365 * 86_400));
        tokio::select! {
            biased;
            result = work => Ok(result),
            () = self.context.cancel.cancelled() => Err(Error::cancelled()),
            error = self.silence() => Err(error),
            () = tokio::time::sleep(limit) => {
                Err(Error::new(ErrorKind::Timeout, "the server did not answer within queryTimeout or socketTimeout"))
            }
        }
    }

    /// Ends with an error when the server is gone without a word. A statement may rightly take hours, and a cut network
    /// looks the same from here; so, after a while of silence, another connection asks whether the server is there and
    /// still knows this one.
    async fn silence(&self) -> Error {
        let (mut known, mut unanswered) = (false, 0);
        loop {
            tokio::time::sleep(self.options.login_timeout * 3).await;
            match Box::pin(self.is_known()).await {
                // Who may not see others' sessions sees none: only one that was there once can be missed.
                Ok(false) if known => {
                    return Error::new(ErrorKind::Unreachable, "the server no longer knows the connection");
                }
                Ok(found) => (known, unanswered) = (known || found, 0),
                // A server that refuses is there.
                Err(error) if !matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => unanswered = 0,
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
            let mut client = open(&self.options).await?;
            let sql = format!("SELECT COUNT_BIG(*) FROM sys.dm_exec_sessions WHERE session_id = {}", self.id);
            let rows = client.simple_query(sql).await.map_err(from_driver)?.into_row().await.map_err(from_driver)?;
            Ok(rows.as_ref().and_then(|row| number(row, 0)) != Some(0))
        })
        .await
    }
}

/// A text literal. A backslash before a line's end would swallow both, so there the literal is cut in two; joined to an
/// empty text of any length, it may then have any too.
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 3);
    let mut before = ' ';
    let mut cut = false;
    for c in text.chars() {
        if before == '\\' && matches!(c, '\r' | '\n') {
            out.push_str("' + N'");
            cut = true;
        }
        out.push(c);
        if c == '\'' {
            out.push(c);
        }
        before = c;
    }
    if cut { format!("(CAST(N'' AS nvarchar(max)) + N'{out}')") } else { format!("N'{out}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_break_out() {
        assert_eq!(literal("a'b"), "N'a''b'");
        assert_eq!(literal("a\\\nb\\c"), "(CAST(N'' AS nvarchar(max)) + N'a\\' + N'\nb\\c')");
    }
}
