//! What every session says to the server before anything else.

/// The statements that set up a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// The job's own statements, run last.
    pub session: Vec<String>,
}

impl Setup {
    /// Statements that must succeed, or values would change on their way.
    pub(crate) fn essential() -> &'static str {
        "SET NAMES utf8mb4, SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', \
         SESSION time_zone = '+00:00', SESSION autocommit = 1"
    }

    /// Run after the job's own `session` statements: these may choose modes of their own, but not any that would let
    /// values change on their way or end a literal early.
    pub(crate) fn essential_again() -> &'static str {
        "SET NAMES utf8mb4, SESSION time_zone = '+00:00', SESSION autocommit = 1, SESSION sql_mode = \
         CONCAT_WS(',', NULLIF(TRIM(BOTH ',' FROM REPLACE(REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', ''), \
         ',,', ',')), ''), 'STRICT_ALL_TABLES', 'NO_AUTO_VALUE_ON_ZERO')"
    }

    /// What a snapshot needs: with any other isolation the server begins none, and says so in a warning only. For sessions that
    /// read, after the job's own statements; some relatives do not know it.
    pub(crate) fn isolation() -> &'static str {
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    }

    /// Statements that some relatives do not know.
    pub(crate) fn optional() -> [&'static str; 5] {
        [
            // The servers' own default is a day, or a year: a table that somebody locks would hold up the whole run.
            "SET SESSION lock_wait_timeout = LEAST(@@SESSION.lock_wait_timeout, 60)",
            // A target that is slow, or rate-limited, must not look like a dead client.
            "SET SESSION net_read_timeout = 86400, SESSION net_write_timeout = 86400, SESSION wait_timeout = 86400",
            // MariaDB's own: a transaction that waits for a slow source must live.
            "SET SESSION idle_transaction_timeout = 0, SESSION idle_write_transaction_timeout = 0, \
             SESSION idle_readonly_transaction_timeout = 0",
            Self::isolation(),
            "SET SESSION sql_select_limit = DEFAULT",
        ]
    }
}
