//! Sessions between their uses: where the runtime keeps them, the next call on it finds them as good as new.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use weir_core::{ConnectorContext, Keep, Kept, Seat};

use crate::connection::{Endpoint, Session};
use crate::rows::RowSession;

/// A session that rested for less is taken to live; of others the server is asked.
const FRESH: Duration = Duration::from_millis(500);

/// What a session was opened for, while it is as it was then, and where it rests.
pub(crate) struct Home {
    endpoint: Arc<Endpoint>,
    kept: Kept,
}

impl Home {
    /// `None` where sessions are not kept.
    pub(crate) fn of(endpoint: &Endpoint, context: &ConnectorContext) -> Option<Self> {
        Some(Self { endpoint: Arc::new(endpoint.clone()), kept: context.shared.kept()?.clone() })
    }
}

/// A session that rests until the next call on its runtime. It knows nothing of where: else neither would ever go.
pub(crate) struct Rested<S> {
    pub(crate) session: S,
    endpoint: Arc<Endpoint>,
    since: Instant,
}

impl<S: Send + 'static> Rested<S>
where
    Self: Keep,
{
    /// Takes a session out of its rest.
    pub(crate) fn take(endpoint: &Endpoint, context: &ConnectorContext) -> Option<Self> {
        // Those of readers are counted, those of writers are not.
        let counted = context.shared.room().is_some();
        let fits = |rested: &Self| *rested.endpoint == *endpoint && rested.seat().is_some() == counted;
        context.shared.kept()?.take(fits)
    }

    /// Lays a session to rest.
    pub(crate) async fn put(session: S, Home { endpoint, kept }: Home) {
        if let Some(other) = kept.put(Self { session, endpoint, since: Instant::now() }) {
            other.close().await;
        }
    }

    /// The home that it had.
    pub(crate) fn home(&self, context: &ConnectorContext) -> Option<Home> {
        Some(Home { endpoint: self.endpoint.clone(), kept: context.shared.kept()?.clone() })
    }

    /// Whether it needs no asking.
    pub(crate) fn is_fresh(&self) -> bool {
        self.since.elapsed() < FRESH
    }
}

#[async_trait]
impl Keep for Rested<Session> {
    async fn close(self: Box<Self>) {
        self.session.close().await;
    }

    fn seat(&self) -> Option<&Seat> {
        self.session.seat.as_ref()
    }
}

#[async_trait]
impl Keep for Rested<RowSession> {
    async fn close(self: Box<Self>) {
        self.session.close().await;
    }

    fn seat(&self) -> Option<&Seat> {
        self.session.seat.as_ref()
    }
}
