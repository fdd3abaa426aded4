//! SIGINT and SIGTERM: the first stops the run in order, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

/// What arrived so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals(Arc<AtomicU8>);

impl Signals {
    /// Watches from now on; must be called inside a runtime.
    pub fn watch(cancel: CancellationToken) -> Self {
        let signals = Self::default();
        let seen = signals.clone();
        let mut listener = Listener::new();
        tokio::spawn(async move {
            loop {
                let code = listener.next().await;
                if seen.0.swap(code, Ordering::SeqCst) != 0 {
                    std::process::exit(i32::from(code));
                }
                tracing::warn!("stopping; a second signal ends the program at once");
                cancel.cancel();
            }
        });
        signals
    }

    /// The exit code of the signal that arrived, if one did.
    pub fn code(&self) -> Option<u8> {
        Some(self.0.load(Ordering::SeqCst)).filter(|code| *code != 0)
    }
}

/// Listens from its making on, so no signal between two waits is lost.
struct Listener {
    #[cfg(unix)]
    streams: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl Listener {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            streams: {
                use tokio::signal::unix::{SignalKind, signal};
                signal(SignalKind::interrupt()).ok().zip(signal(SignalKind::terminate()).ok())
            },
        }
    }

    /// The exit code of the next signal; waits for ever where there is none to listen to.
    #[cfg(unix)]
    async fn next(&mut self) -> u8 {
        match &mut self.streams {
            Some((interrupt, terminate)) => tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            },
            None => std::future::pending().await,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> u8 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => 130,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Waits for `work`, and ends the program with the signal's code when one arrives first.
pub(crate) async fn until_stopped<T>(work: impl Future<Output = T>) -> T {
    let mut listener = Listener::new();
    tokio::select! {
        result = work => result,
        code = listener.next() => std::process::exit(i32::from(code)),
    }
}
