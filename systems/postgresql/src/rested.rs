//! Sessions between their uses: where the runtime keeps them, the next call on it finds them as good as new.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use weir_core::{ConnectorContext, Keep, Kept};

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

/// A session that rests until the next call on its runtime.
pub(crate) struct Rested<S> {
    pub(crate) session: S,
    pub(crate) home: Home,
    since: Instant,
}

impl<S: Send + 'static> Rested<S>
where
    Self: Keep,
{
    /// Takes a session out of its rest.
    pub(crate) fn take(endpoint: &Endpoint, context: &ConnectorContext) -> Option<Self> {
        context.shared.kept()?.take(|rested: &Self| *rested.home.endpoint == *endpoint)
    }

    /// Lays a session to rest.
    pub(crate) async fn put(session: S, home: Home) {
        let kept = home.kept.clone();
        if let Some(other) = kept.put(Self { session, home, since: Instant::now() }) {
            other.close().await;
        }
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
}

#[async_trait]
impl Keep for Rested<RowSession> {
    async fn close(self: Box<Self>) {
        self.session.close().await;
    }
}
