//! What every session says to the server before anything else.

/// How many milliseconds a statement waits for a lock where the URL says nothing: a minute. The server itself would wait for
/// ever.
const LOCK_WAIT: i32 = 60_000;

/// The statements that set up a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// The job's own statements, run last.
    pub session: Vec<String>,
}

impl Setup {
    /// Statements that must succeed, or values would change on their way and errors would take transactions with them.
    /// Run again after the job's own.
    pub(crate) fn essential() -> &'static str {
        "SET ANSI_NULLS ON; SET ANSI_PADDING ON; SET ANSI_WARNINGS ON; SET ARITHABORT ON; \
         SET CONCAT_NULL_YIELDS_NULL ON; SET QUOTED_IDENTIFIER ON; SET NUMERIC_ROUNDABORT OFF; SET XACT_ABORT OFF; \
         SET IMPLICIT_TRANSACTIONS OFF; SET NOCOUNT OFF; SET ROWCOUNT 0; SET TEXTSIZE 2147483647"
    }

    /// Statements that some relatives do not know.
    pub(crate) fn optional(lock_timeout: Option<i32>) -> Vec<String> {
        vec!["SET LANGUAGE us_english".into(), "SET DATEFORMAT ymd".into(), lock_wait(lock_timeout)]
    }

    /// Sets back what our own calls set for a while, and asks how many transactions are open.
    pub(crate) fn renewal(lock_timeout: Option<i32>) -> String {
        format!(
            "{}; {}; SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT CAST(@@TRANCOUNT AS bigint)",
            Self::essential(),
            lock_wait(lock_timeout)
        )
    }
}

fn lock_wait(lock_timeout: Option<i32>) -> String {
    format!("SET LOCK_TIMEOUT {}", lock_timeout.unwrap_or(LOCK_WAIT))
}
