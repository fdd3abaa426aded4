//! Sessions between their uses: where the runtime keeps them, the next call on it finds them as good as new.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::{ConnectorContext, Keep, Kept, Seat};

/// A session that rested for less is taken to live; of others the server is asked.
const FRESH: Duration = Duration::from_millis(500);

/// A session that may rest.
#[async_trait]
pub trait Rests: Send + 'static {
    /// Says goodbye.
    async fn leave(self);

    /// What it takes, where sessions are counted.
    fn seat(&self) -> Option<&Seat>;
}

/// What a session was opened for, while it is as it was then, and where it rests.
pub struct Home<T> {
    of: Arc<T>,
    kept: Kept,
}

/// A session that rests until the next call on its runtime. It knows nothing of where: else neither would ever go.
struct Rested<S, T> {
    session: S,
    of: Arc<T>,
    since: Instant,
}

/// A session that has rested.
pub struct Woken<S, T> {
    /// The session.
    pub session: S,
    /// Where it rested.
    pub home: Home<T>,
    /// Whether it rested for so short a time that the server need not be asked for it.
    pub fresh: bool,
}

impl<T: Send + Sync + 'static> Home<T> {
    /// `None` where sessions are not kept.
    pub fn of(context: &ConnectorContext, of: impl FnOnce() -> T) -> Option<Self> {
        let kept = context.shared.kept()?.clone();
        Some(Self { of: Arc::new(of()), kept })
    }

    /// Takes a session out of its rest that was opened for what fits.
    pub fn wake<S: Rests>(context: &ConnectorContext, fits: impl Fn(&T) -> bool) -> Option<Woken<S, T>> {
        let kept = context.shared.kept()?;
        // Those of readers are counted, those of writers are not.
        let counted = context.shared.room().is_some();
        let Rested { session, of, since } =
            kept.take(|r: &Rested<S, T>| fits(&r.of) && r.session.seat().is_some() == counted)?;
        let home = Self { of, kept: kept.clone() };
        Some(Woken { session, home, fresh: since.elapsed() < FRESH })
    }

    /// Lays a session to rest.
    pub async fn rest<S: Rests>(self, session: S) {
        if let Some(other) = self.kept.put(Rested { session, of: self.of, since: Instant::now() }) {
            other.close().await;
        }
    }
}

#[async_trait]
impl<S: Rests, T: Send + Sync + 'static> Keep for Rested<S, T> {
    async fn close(self: Box<Self>) {
        self.session.leave().await;
    }

    fn seat(&self) -> Option<&Seat> {
        self.session.seat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Form, Shared};

    struct Session(u32);

    #[async_trait]
    impl Rests for Session {
        async fn leave(self) {}

        fn seat(&self) -> Option<&Seat> {
            None
        }
    }

    #[tokio::test]
    async fn a_session_wakes_for_what_it_was_opened_for() {
        let context = ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: Form::Native,
            time_zone: chrono_tz::UTC,
            shared: Shared::default().on(Some(Kept::default())),
        };
        for number in 0..2 {
            Home::of(&context, || ("here", number)).unwrap().rest(Session(number)).await;
        }
        let wake = |wanted: (&'static str, u32)| {
            Home::wake::<Session>(&context, move |of: &(&'static str, u32)| *of == wanted)
        };
        assert!(wake(("there", 0)).is_none());
        let woken = wake(("here", 0)).unwrap();
        assert!(woken.fresh && woken.session.0 == 0);
        assert!(wake(("here", 0)).is_none(), "it is at work");
        woken.home.rest(woken.session).await;
        assert!(wake(("here", 0)).is_some());
        let nowhere = ConnectorContext { shared: Shared::default(), ..context.clone() };
        assert!(Home::of(&nowhere, || 1).is_none());
    }
}
