//! How a running statement is stopped.
//!
//! A statement that is still running when the run is stopped is cancelled on the server over a second connection; the first
//! one is then dropped, never reused.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use weir_core::{ConnectorContext, Error, ErrorKind, Result};

/// Longer than this a stopped run does not wait for the server to take the cancellation.
const CANCEL_TIMEOUT: Duration = Duration::from_millis(700);

/// Ends waits when the run is stopped, and the statement on the server with them.
#[derive(Clone)]
pub struct Stopper {
    /// How the second connection is made.
    pub(crate) options: Arc<PgConnectOptions>,
    /// The server's process that works for us; 0 while it is not known.
    pub(crate) pid: i32,
    pub(crate) context: ConnectorContext,
    /// The URL's socketTimeout.
    pub(crate) answer_within: Option<Duration>,
    /// The URL's connectTimeout.
    pub(crate) connect_within: Duration,
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
