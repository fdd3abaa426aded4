//! The threads of a run's channels: each is kept from task to task, and with it the sessions that its tasks have opened.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use weir_core::{Error, ErrorKind, Kept, Result};

/// What a thread is given to do, once it has its runtime.
type Work = Box<dyn FnOnce(Kept) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Threads that drive a current-thread runtime each. Dropped, they end when their work has ended.
#[derive(Clone, Default)]
pub struct Threads {
    idle: Arc<Mutex<Vec<Thread>>>,
}

struct Thread {
    work: mpsc::UnboundedSender<Work>,
    ended: oneshot::Receiver<()>,
}

impl Threads {
    /// Runs a future on one of the threads, a new one where none is idle; a panic there becomes an internal error here.
    /// The future gets the place where sessions are kept on its thread.
    ///
    /// # Errors
    /// A thread that cannot be started, a panic.
    pub async fn run<T, F, W>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Kept) -> W + Send + 'static,
        W: Future<Output = T> + 'static,
    {
        let (done, result) = oneshot::channel();
        let body: Work = Box::new(move |kept| {
            Box::pin(async move {
                // Called inside, so that a panic of the closure itself is caught too.
                let outcome = AssertUnwindSafe(async move { work(kept).await }).catch_unwind().await;
                let _ = done.send(
                    outcome.map_err(|panic| Error::internal(format!("a connector panicked: {}", panic_text(&*panic)))),
                );
            })
        });
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let thread = match idle {
            Some(thread) => thread,
            None => start()?,
        };
        let silent = || Error::internal("a thread ended without a word");
        thread.work.send(body).map_err(|_| silent())?;
        let outcome = result.await.unwrap_or_else(|_| Err(silent()));
        if outcome.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        outcome
    }

    /// Ends the threads that are idle, and waits until their sessions are closed.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let ended: Vec<_> = idle.into_iter().map(|thread| thread.ended).collect();
        for ended in ended {
            let _ = ended.await;
        }
    }
}

/// A thread that works until nobody has anything for it any more.
fn start() -> Result<Thread> {
    let (done, ended) = oneshot::channel();
    let (work, mut receiver) = mpsc::unbounded_channel::<Work>();
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Io, "a channel's thread cannot be started").because(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let body = move || {
        runtime.block_on(async {
            let kept = Kept::default();
            // The runtime is driven meanwhile too: what a connector has left to it comes to its end.
            while let Some(work) = receiver.recv().await {
                work(kept.clone()).await;
            }
            kept.close().await;
        });
        let _ = done.send(());
    };
    std::thread::Builder::new().name("channel".into()).spawn(body).map_err(failed)?;
    Ok(Thread { work, ended })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|t| (*t).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_are_kept_and_a_panic_ends_its_own() {
        let threads = Threads::default();
        let name = || async { threads.run(|_| async { std::thread::current().id() }).await };
        let first = name().await.unwrap();
        assert_eq!(name().await.unwrap(), first, "it was idle");
        // Each is at work until the other is.
        let met = Arc::new(tokio::sync::Barrier::new(2));
        let meeting = || {
            let met = met.clone();
            threads.run(|_| async move {
                met.wait().await;
                std::thread::current().id()
            })
        };
        let both = tokio::join!(meeting(), meeting());
        assert_ne!(both.0.unwrap(), both.1.unwrap());
        let error = threads.run(|_| async { panic!("no {}", "way") }).await.unwrap_err();
        assert!(error.message().contains("no way"), "{error}");
        assert!(name().await.is_ok());
        threads.close().await;
        assert!(threads.idle.lock().unwrap().is_empty());
    }
}
