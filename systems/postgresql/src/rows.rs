//! Sessions that read: without the driver, so that a row costs what its bytes cost.

use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures::poll;
use weir_core::{ConnectorContext, Home, Rests, Result, Seat, Woken};

use crate::connection::{Endpoint, Place, check_role};
use crate::settings::{self, Encoding};
use crate::stopper::Stopper;
use crate::wire::{Login, Next, Wire};

/// An open session. A call that fails because the run was stopped, or in the midst of a COPY, leaves it unusable: drop it.
pub struct RowSession {
    wire: Wire,
    stopper: Stopper,
    /// What it was opened for, while it is as it was then.
    home: Option<Home<Endpoint>>,
    /// What it takes, where sessions are counted.
    seat: Option<Seat>,
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

impl Endpoint {
    /// A session of this runtime that was closed before, else a new one on the first host that answers.
    ///
    /// # Errors
    /// The last host's error; a refused login at once.
    pub async fn connect_rows(&self, context: &ConnectorContext) -> Result<RowSession> {
        while let Some(Woken { mut session, home, fresh }) = Home::wake::<RowSession>(context, |of: &Self| of == self) {
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
}

async fn open(endpoint: &Endpoint, place: Place<'_>, context: &ConnectorContext) -> Result<RowSession> {
    let options = place.options()?;
    let login = Login::new(place.url, &options);
    let wire = context.until_cancelled(place.within(Wire::connect(&login))).await?;
    let stopper = Stopper {
        options: Arc::new(options),
        pid: 0,
        context: context.alone(),
        answer_within: place.url.socket_timeout,
        connect_within: place.wait,
    };
    let mut session = RowSession { wire, stopper, home: None, seat: None };
    // The login names a process too, but of a pooler it is none of the server's.
    let begin = format!("{}; SELECT pg_backend_pid()", settings::all(place.url, Encoding::AsStored));
    let pid = place.within(session.value(&begin)).await?;
    session.stopper.pid = pid.and_then(|pid| pid.parse().ok()).unwrap_or(0);
    if place.url.primary.is_some() {
        let standby = place.within(session.value("SELECT pg_is_in_recovery()")).await?;
        check_role(place.url, standby.as_deref() == Some("t"))?;
    }
    if !endpoint.session.is_empty() {
        for statement in &endpoint.session {
            session.execute(statement).await.map_err(|e| e.with("statement", "session"))?;
        }
        // The job's statements may set what they like, but not how values look on the wire.
        session.execute(&settings::forms(Encoding::AsStored)).await?;
    }
    Ok(session)
}

impl RowSession {
    /// Runs one or several statements and throws their rows away.
    ///
    /// # Errors
    /// The server's, after which the session is as good as before; the connection's.
    pub async fn execute(&mut self, sql: &str) -> Result<()> {
        self.value(sql).await.map(drop)
    }

    /// Runs one or several statements; gives the first value of the last row as text, if there is one.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>> {
        self.stopper.watch(self.wire.run(sql)).await?
    }

    /// Begins a COPY … TO STDOUT.
    ///
    /// # Errors
    /// The server's or the connection's.
    pub async fn copy(&mut self, sql: &str) -> Result<()> {
        self.stopper.watch(self.wire.copy(sql)).await?
    }

    /// Puts the next pieces of the COPY that was begun into `pieces`, as far as they are here, as ranges of
    /// [`bytes`](Self::bytes): each is a row, or the header before the first.
    ///
    /// # Errors
    /// The server's word that it goes no further, and then the pieces before it count no more; what is no message of a COPY.
    pub fn pieces(&mut self, pieces: &mut Vec<Range<usize>>) -> Result<Next> {
        self.wire.pieces(pieces)
    }

    /// What pieces are ranges of, until [`fill`](Self::fill) is called.
    pub fn bytes(&self) -> &[u8] {
        self.wire.bytes()
    }

    /// Waits until more of the COPY has been received.
    ///
    /// # Errors
    /// The connection broke, or the run was stopped.
    pub async fn fill(&mut self) -> Result<()> {
        if self.stopper.context.cancel.is_cancelled() {
            // As any wait that a stopped run ends: the statement on the server ends with it.
            return self.stopper.watch(std::future::pending()).await?;
        }
        let mut filling = std::pin::pin!(self.wire.fill());
        // What has arrived needs no watching.
        match poll!(&mut filling) {
            Poll::Ready(filled) => filled,
            Poll::Pending => self.stopper.watch(filling).await?,
        }
    }

    /// Ends the use of a session whose last statement has succeeded and which is in no transaction: where the runtime keeps
    /// sessions, the next call gets it, else it says goodbye. Errors do not matter any more.
    pub async fn rest(mut self) {
        match self.home.take().filter(|_| !self.stopper.context.cancel.is_cancelled()) {
            Some(home) => home.rest(self).await,
            None => self.close().await,
        }
    }

    /// Says goodbye; errors do not matter any more.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_millis(300), self.wire.quit()).await;
    }
}
