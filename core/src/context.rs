//! What a connector is given besides its parameters.

use chrono_tz::Tz;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// In whose words a connector was named. It decides defaults, never abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// By its plain name (`mysql`): our defaults.
    Native,
    /// By its DataX name (`mysqlreader`) or as a step of a DataWorks script: DataX's defaults.
    DataX,
}

/// What lives outside a task's serialisable input: made anew wherever the task runs.
#[derive(Debug, Clone)]
pub struct ConnectorContext {
    /// Fires when the run is to stop. Every wait of a connector ends with it within a second.
    pub cancel: CancellationToken,
    /// The job's multi-thread runtime, for clients that spawn work of their own (object stores, Delta, DataFusion).
    pub io: Handle,
    /// Whose defaults hold.
    pub form: Form,
    /// The job's time zone.
    pub time_zone: Tz,
}

impl ConnectorContext {
    /// Waits for `future`, but no longer than until the run is stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) when the run is stopped first; else those of `future`.
    pub async fn until_cancelled<T>(
        &self,
        future: impl std::future::Future<Output = crate::Result<T>>,
    ) -> crate::Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(crate::Error::cancelled()),
            result = future => result,
        }
    }
}
