//! What the driver and the server say, as [`weir_core::Error`] with a remedy.

use sqlx::postgres::PgDatabaseError;
use weir_core::{Error, ErrorKind, Refusal};

/// The server's own error inside a driver error.
pub fn database_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    match error {
        sqlx::Error::Database(e) => e.try_downcast_ref::<PgDatabaseError>(),
        _ => None,
    }
}

/// Whether the server gave one of these SQLSTATEs for this error.
pub fn is_state(error: &Error, codes: &[&str]) -> bool {
    error.context().iter().any(|(key, code)| *key == "sqlstate" && codes.contains(&code.as_str()))
}

/// Whether a unique key of `table` refused a row.
pub fn is_duplicate(error: &sqlx::Error, table: &str) -> bool {
    database_error(error).is_some_and(|db| db.code() == "23505" && db.table() == Some(table))
}

/// Turns a driver error into ours. SQLSTATE decides the kind; the message says what to do where we know it.
pub fn map(error: sqlx::Error) -> Error {
    if let Some(db) = database_error(&error) {
        return of_server(&Said {
            code: db.code(),
            message: db.message(),
            detail: db.detail(),
            hint: db.hint(),
            table: db.table(),
        });
    }
    match error {
        // So the TLS library says what is wrong with a certificate.
        sqlx::Error::Io(e) => of_io(e),
        sqlx::Error::Tls(e) => of_tls(&e.to_string()),
        sqlx::Error::Configuration(e) => Error::config(format!("the connection options are wrong: {e}")),
        sqlx::Error::Protocol(text) => {
            Error::new(ErrorKind::Unreachable, format!("the PostgreSQL connection is out of step: {text}"))
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            Error::internal("an answer of the server's catalogue could not be read").because(error)
        }
        other => Error::new(ErrorKind::Remote, "the PostgreSQL driver failed").because(other),
    }
}

pub(crate) fn of_io(error: std::io::Error) -> Error {
    let message = match error.kind() {
        // So the TLS library says what is wrong with a certificate.
        std::io::ErrorKind::InvalidData => return of_tls(&error.to_string()),
        std::io::ErrorKind::ConnectionRefused => {
            "the PostgreSQL server refuses connections: check host and port, and whether it is running"
        }
        std::io::ErrorKind::NotFound => "the host or socket does not exist: check the host in the url",
        std::io::ErrorKind::TimedOut => "the PostgreSQL server does not answer: check host, port and firewall",
        _ if error.to_string().contains("lookup") || error.to_string().contains("resolve") => {
            "the host name is unknown: check the host in the url"
        }
        _ => "the connection to the PostgreSQL server broke or could not be made: check host, port and network",
    };
    Error::new(ErrorKind::Unreachable, message).because(error)
}

/// Trying again mends no certificate.
pub(crate) fn of_tls(reason: &str) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "TLS with the PostgreSQL server failed ({reason}): check sslmode and sslrootcert, and whether the server has TLS on"
        ),
    )
    .retryable(false)
}

/// What the server says of an error.
pub(crate) struct Said<'a> {
    /// SQLSTATE.
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) detail: Option<&'a str>,
    pub(crate) hint: Option<&'a str>,
    /// The table that it is about.
    pub(crate) table: Option<&'a str>,
}

/// What to do about rows that policies hide.
const ROW_SECURITY: &str = "its policies hide rows from this login: use one with BYPASSRLS or the table's owner, or, where the \
                            rows that the policies show are all that is meant, `\"session\": [\"SET row_security = on\"]`";

pub(crate) fn of_server(said: &Said<'_>) -> Error {
    let code = said.code;
    let (kind, remedy): (ErrorKind, &str) = match code {
        "28P01" | "28000" => (ErrorKind::Denied, "check username and password, and pg_hba.conf on the server"),
        "3D000" => (ErrorKind::NotFound, "check the database name in the url"),
        // A server of another language gets the general remedy.
        "42501" if said.message.contains("row-level security") => (ErrorKind::Denied, ROW_SECURITY),
        "42501" => (ErrorKind::Denied, "ask for the privilege, or use another login"),
        "42P01" => (ErrorKind::NotFound, "check the table's name and schema, and the session's search_path"),
        "42703" => (ErrorKind::NotFound, "check the column names"),
        "3F000" => (ErrorKind::NotFound, "check the schema's name, or create it"),
        "42883" | "42704" => (ErrorKind::NotFound, "check the name, and whether the extension is installed"),
        "42601" => (ErrorKind::Remote, "correct the SQL text in the job"),
        "42P07" | "42710" => (ErrorKind::Conflict, "it exists already"),
        "55P03" => (ErrorKind::Conflict, "somebody else holds a lock on it, or waits for one: try again later"),
        "25006" => (ErrorKind::Denied, "the session is read-only: write to the primary server"),
        // Our own cancellations never come this far.
        "57014" => (ErrorKind::Remote, "somebody else cancelled the statement on the server: run again"),
        "53100" => (ErrorKind::Remote, "the server's disk is full: free some space and run again"),
        "53300" => (ErrorKind::Unreachable, "the server has no free connection: use fewer channels or try again later"),
        "57P01" | "57P02" | "57P03" => (ErrorKind::Unreachable, "the server is starting or stopping"),
        "57P05" | "25P03" | "25P04" => (ErrorKind::Unreachable, "the server's own timeout ended the session"),
        "53200" => (
            ErrorKind::Remote,
            "the server is out of memory: use fewer channels or try again later; where it speaks of locks, raise max_locks_per_transaction",
        ),
        "40001" | "40P01" => (ErrorKind::Conflict, "another transaction got in the way: run again"),
        _ => match code.get(..2).unwrap_or(code) {
            "08" => (ErrorKind::Unreachable, "check the network and the server"),
            "28" => (ErrorKind::Denied, "check username and password"),
            "0A" => (ErrorKind::Unsupported, ""),
            _ => (ErrorKind::Remote, ""),
        },
    };
    let mut message = format!("PostgreSQL says: {}", said.message);
    for part in [said.detail, said.hint].into_iter().flatten() {
        message.push_str("; ");
        message.push_str(part);
    }
    if !remedy.is_empty() {
        message.push_str("; ");
        message.push_str(remedy);
    }
    let mut error = Error::new(kind, message).with("sqlstate", code);
    if matches!(code, "40001" | "40P01" | "55P03" | "53200") {
        error = error.retryable(true);
    }
    if let Some(table) = said.table {
        error = error.with("table", table);
    }
    error
}

/// The refusal, when the server blames the data of some row and not the statement or the server's state.
/// `table` is the relation's bare name, as the server's CONTEXT has it.
pub fn refusal(error: &sqlx::Error, table: &str) -> Option<Refusal> {
    let db = database_error(error)?;
    let code = db.code();
    let of_data = match code.get(..2).unwrap_or(code) {
        // 22P04: the COPY stream itself is malformed, which no row is to blame for.
        "22" => code != "22P04",
        "23" | "44" => true,
        // RAISE in a trigger, and text that the column's type does not take.
        _ => matches!(code, "P0001" | "42804"),
    };
    if !of_data {
        return None;
    }
    let (row, column) = db.r#where().map_or((None, None), |context| place(context, table));
    let mut reason = db.message().to_owned();
    if let Some(detail) = db.detail() {
        reason.push_str("; ");
        reason.push_str(detail);
    }
    Some(Refusal { row, column: db.column().map(str::to_owned).or(column), reason })
}

/// Reads `COPY t, line N, column c: …`. Servers translate the words, so only numbers, commas and the order count.
fn place(context: &str, table: &str) -> (Option<usize>, Option<String>) {
    let Some(rest) = context.lines().find_map(|l| l.strip_prefix("COPY ")?.strip_prefix(table)?.strip_prefix(", "))
    else {
        return (None, None);
    };
    let (line, rest) = rest.split_once(", ").unwrap_or((rest, ""));
    let digits: String = line.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let row = digits.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    // The column's word, its name, and in text format the value after a colon.
    let column = rest.split_once(' ').map(|(_, name)| name.split(": ").next().unwrap_or(name).to_owned());
    (row, column.filter(|c| !c.is_empty() && row.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_any_language() {
        assert_eq!(place("COPY t1, line 7, column b", "t1"), (Some(6), Some("b".into())));
        assert_eq!(place("COPY t1, Zeile 7, Spalte b c: \"x\"", "t1"), (Some(6), Some("b c".into())));
        assert_eq!(place("COPY t1, line 12", "t1"), (Some(11), None));
        assert_eq!(place("SQL function f", "t1"), (None, None));
    }
}
