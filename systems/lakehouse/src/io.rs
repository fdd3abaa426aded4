//! Runs work on the job's I/O runtime.

use std::future::Future;

use tokio::task::AbortHandle;
use weir_core::{ConnectorContext, Error, Result};

/// Runs `future` on the I/O runtime and waits for it, but no longer than until the run is stopped. Work that nobody
/// waits for any more is dropped.
///
/// # Errors
/// [`Cancelled`](weir_core::ErrorKind::Cancelled) when the run is stopped first; else those of `future`.
pub async fn on_io<T, F>(context: &ConnectorContext, future: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    struct AbortOnDrop(AbortHandle);
    impl Drop for AbortOnDrop {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let handle = context.io.spawn(future);
    let _guard = AbortOnDrop(handle.abort_handle());
    context
        .until_cancelled(async {
            handle.await.unwrap_or_else(|e| Err(Error::internal("work on the table ended unexpectedly").because(e)))
        })
        .await
}
