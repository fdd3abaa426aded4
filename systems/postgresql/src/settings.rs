//! What is set in every session, so that no server answers differently from another one.

use crate::connection::literal;
use crate::url::PgUrl;

/// Settings that answers depend on.
const FORMS: &[(&str, &str)] = &[
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "iso_8601"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("xmlbinary", "base64"),
];

/// The encoding in which text comes and goes, as SQL.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    /// UTF-8: the server converts to it, and refuses what it cannot convert.
    Utf8,
    /// The same, but for a database in SQL_ASCII: of its text nobody knows what it is, so that the server has nothing to
    /// convert and would refuse a whole table for one value. It gives the bytes as they are, and takes ours as they are.
    AsStored,
}

impl Encoding {
    fn sql(self) -> &'static str {
        match self {
            Self::Utf8 => "'UTF8'",
            Self::AsStored => {
                "CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END"
            }
        }
    }
}

/// How long a statement waits for a lock: a table that somebody holds must not hold up a run for good.
pub const LOCK_TIMEOUT: &str = "60s";

/// Timeouts that would break a long transfer, and the one for locks.
const TIMEOUTS: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("lock_timeout", LOCK_TIMEOUT),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
];

/// What row level security would hide is refused, as pg_dump has it: rows that nobody sees would go, at both ends.
const WHOLENESS: &[(&str, &str)] = &[("row_security", "off")];

/// By these the server notices a client that vanished, drops its transaction and with it the locks; and no firewall on the
/// way forgets a connection that is only held.
const WATCHFULNESS: &[(&str, &str)] = &[
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "6"),
    ("client_connection_check_interval", "10s"),
];

/// The statement that begins a session.
pub(crate) fn all(url: &PgUrl, encoding: Encoding) -> String {
    let mut settings = [FORMS, TIMEOUTS, WHOLENESS, WATCHFULNESS].concat();
    if let Some(schema) = &url.current_schema {
        settings.push(("search_path", schema));
    }
    statement(&settings, Some(encoding))
}

/// The one that says again how values look on the wire.
pub(crate) fn forms(encoding: Encoding) -> String {
    statement(FORMS, Some(encoding))
}

/// The one that says again that no timeout of the server ends the session.
pub(crate) fn timeouts() -> String {
    statement(TIMEOUTS, None)
}

/// Sets what of these settings the server knows: older servers and relatives miss some.
fn statement(settings: &[(&str, &str)], encoding: Option<Encoding>) -> String {
    let encoding = encoding.map(|encoding| format!("('client_encoding', {})", encoding.sql()));
    let values = settings.iter().map(|(n, v)| format!("({}, {})", literal(n), literal(v)));
    let values: Vec<_> = encoding.into_iter().chain(values).collect();
    format!(
        "SELECT set_config(s.name, v.value, false) FROM (VALUES {}) v(name, value) \
         JOIN pg_catalog.pg_settings s ON lower(s.name) = lower(v.name) \
         WHERE v.name <> 'client_connection_check_interval' OR version() !~* 'mingw|visual c'",
        values.join(", ")
    )
}
