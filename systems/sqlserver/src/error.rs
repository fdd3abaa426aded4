//! The server's and the driver's errors, as kinds with remedies.

use tiberius::error::{Error as Driver, IoErrorKind};
use weir_core::{Error, ErrorKind};

/// A fault reported by the driver.
pub fn from_driver(error: Driver) -> Error {
    match error {
        Driver::Server(e) => of_server(e.code(), e.message()),
        Driver::Io { kind, message } => of_io(kind, message),
        Driver::Tls(reason) => of_tls(&reason),
        Driver::Encoding(reason) => Error::new(
            ErrorKind::Data,
            format!("a text cannot be decoded ({reason}): read the column as CAST(… AS nvarchar(max))"),
        ),
        Driver::Utf16 | Driver::Utf8 => broken_text(),
        Driver::Protocol(reason) if reason.to_ascii_lowercase().contains("utf") => broken_text(),
        Driver::Routing { host, port } => Error::new(
            ErrorKind::Unreachable,
            format!("the server sends its clients to {host}:{port}: put that into the URL"),
        )
        .retryable(false),
        Driver::Conversion(reason) if reason.contains("SQL browser") => Error::new(
            ErrorKind::Unreachable,
            "the server's browser service does not answer (UDP port 1434), which knows the port of a named instance: \
             start it, or write the port into the URL",
        ),
        // The driver's own words for a server that hangs up while it is greeted.
        other if other.to_string().contains("eof") => {
            Error::new(ErrorKind::Unreachable, "the server closed the connection").because(other)
        }
        other => Error::new(ErrorKind::Remote, "the TDS protocol failed").because(other),
    }
}

fn broken_text() -> Error {
    Error::new(
        ErrorKind::Data,
        "a text is no valid UTF-16 (half of a character stands alone), so the rows after it cannot be read: find it with \
         CAST(… AS varbinary(max)), or leave the column out",
    )
}

fn of_io(kind: IoErrorKind, message: String) -> Error {
    let text = match kind {
        IoErrorKind::ConnectionRefused => "the server refuses connections: is it running, and is the port right?",
        IoErrorKind::TimedOut => "the server did not answer in time: check host, port and firewall",
        IoErrorKind::UnexpectedEof
        | IoErrorKind::ConnectionReset
        | IoErrorKind::BrokenPipe
        | IoErrorKind::ConnectionAborted
        | IoErrorKind::NotConnected => "the connection to the server broke",
        // So the TLS library says what is wrong with a certificate: trying again does not mend it.
        IoErrorKind::InvalidData => return of_tls(&message),
        _ if message.contains("lookup") || message.contains("resolve") => "the host name is unknown: check the URL",
        _ => "the server cannot be reached",
    };
    Error::new(ErrorKind::Unreachable, text).because(std::io::Error::new(kind, message))
}

fn of_tls(reason: &str) -> Error {
    // The driver's own advice names its functions, which help nobody here.
    let reason = reason.split(" To connect anyway").next().unwrap_or(reason).trim_end_matches('.');
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "no TLS session with the server ({reason}): name the file of its authority in sslCa, or say \
             trustServerCertificate=true where the network is trusted"
        ),
    )
    .retryable(false)
}

/// Babelfish's code for every error of PostgreSQL's that has none of its own here.
const UNMAPPED: u32 = 33_557_097;

fn of_server(code: u32, message: &str) -> Error {
    let says = |words: &str| message.contains(words);
    if says("(BulkLoadBCP) protocol stream is incorrect") {
        // Babelfish stops reading where the last word of a load begins, and takes what of it lies in the next packet for
        // another load. Another attempt has other packets.
        return Error::new(ErrorKind::Remote, format!("{message}: try again, in other packets"))
            .with("code", code)
            .retryable(true);
    }
    let (kind, remedy) = match code {
        UNMAPPED if says("does not exist") => (ErrorKind::NotFound, "check the job's names against the database"),
        UNMAPPED if says("Cannot open database") || says("is not able to access the database") => {
            (ErrorKind::Denied, "check the database's name, and that the login may use it")
        }
        UNMAPPED if says("permission denied") => (ErrorKind::Denied, "grant the missing permission"),
        18456 | 18452 | 18486..=18488 | 18470 => (ErrorKind::Denied, "check username and password"),
        4060 | 4064 | 911 => (ErrorKind::NotFound, "check the database's name, and that the login may use it"),
        40615 | 40914 => (ErrorKind::Denied, "let this machine through the server's firewall"),
        229 | 230 | 262 | 297 | 300 | 916 | 1088 | 15151 | 15247 | 3704 => {
            (ErrorKind::Denied, "grant the missing permission")
        }
        3906 => (ErrorKind::Denied, "the database is read-only; write to the primary"),
        208 | 4902 | 3701 => (ErrorKind::NotFound, "check the table's name, schema and spelling"),
        207 => (ErrorKind::NotFound, "check the columns of the job against the table"),
        2812 => (ErrorKind::NotFound, "check the name of the procedure"),
        102 | 105 | 156 | 195 | 319 | 4104 => {
            (ErrorKind::Remote, "check the SQL of the job: where, column expressions, querySql, preSql, session")
        }
        1205 => (ErrorKind::Conflict, "another transaction was in the way; run again"),
        1222 => (ErrorKind::Conflict, "the server gave up waiting for a lock; look for who holds it"),
        3960 | 3961 => (ErrorKind::Conflict, "the table was changed while it was read: run again"),
        3951 | 3952 => (ErrorKind::Unsupported, "the database allows no snapshot isolation"),
        1101 | 1105 | 9002 => (ErrorKind::Remote, "the server's disk, file group or log is full"),
        596 | 6005 | 17142 | 10928 | 10929 | 40197 | 40501 | 40549..=40553 | 40613 | 49918..=49920 | 233 => {
            (ErrorKind::Unreachable, "the server ended the connection, or has no room for it now")
        }
        _ => (ErrorKind::Remote, ""),
    };
    let text = if remedy.is_empty() { message.to_owned() } else { format!("{message}: {remedy}") };
    let error = Error::new(kind, text).with("code", code);
    // A deadlock's victim was rolled back whole, and who has waited in vain rolls back: trying again is right.
    if matches!(code, 1205 | 1222 | 3960 | 3961) { error.retryable(true) } else { error }
}

/// Whether the server refused because of a row's values: the column where the message names it, and the message.
/// Everything else fails the task.
pub fn is_row_fault(error: &Driver) -> Option<(Option<String>, String)> {
    let Driver::Server(e) = error else { return None };
    row_fault(e.code(), e.message())
}

fn row_fault(code: u32, message: &str) -> Option<(Option<String>, String)> {
    let of_row = matches!(
        code,
        // NULL, foreign keys and checks, duplicates, rules
        515 | 547 | 2601 | 2627 | 513
        // values that do not fit: truncated, out of range, wrong
        | 220 | 232 | 236 | 237 | 241 | 242 | 244 | 245 | 248 | 293 | 295 | 296 | 517 | 535 | 1007 | 2628 | 8114 | 8115
        | 8152 | 8169 | 8170
        // bulk loads' words for the same
        | 4815 | 4863 | 4864 | 4867 | 4879
        // XML and JSON
        | 6603 | 6909 | 6936 | 9400..=9499 | 13608..=13614
        // What a trigger of the table says.
        | 50000..=99_999
    );
    let words = ["violates", "invalid input", "out of range", "too long", "cannot be represented"];
    let of_row = of_row || (code == UNMAPPED && words.iter().any(|w| message.contains(w)));
    let column = message.rsplit_once("column '").and_then(|(_, rest)| rest.split('\'').next());
    let column = column.map(|c| c.rsplit('.').next().unwrap_or(c)).filter(|c| !c.is_empty() && c.len() <= 128);
    let column = column.map(str::to_owned).filter(|_| !matches!(code, 2601 | 2627));
    of_row.then(|| (column, message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_wire_say_what_to_do() {
        let io = |kind| from_driver(Driver::Io { kind, message: "x".into() });
        assert!(io(IoErrorKind::ConnectionRefused).is_retryable());
        let tls = from_driver(Driver::Tls("bad certificate. To connect anyway you can: (1) `Config`".into()));
        assert!(!tls.is_retryable() && !tls.message().contains("Config"), "{tls}");
        assert!(tls.message().contains("sslCa"));
        assert_eq!(from_driver(Driver::Utf16).kind(), ErrorKind::Data);
        assert!(is_row_fault(&Driver::Utf16).is_none());
    }

    #[test]
    fn codes_become_kinds_with_remedies() {
        assert_eq!(of_server(18456, "Login failed for user 'x'.").kind(), ErrorKind::Denied);
        assert_eq!(of_server(4060, "Cannot open database").kind(), ErrorKind::NotFound);
        assert!(of_server(208, "Invalid object name 't'.").message().contains("check the table"));
        let cut =
            "The incoming tabular data stream (TDS) Bulk Load Request (BulkLoadBCP) protocol stream is incorrect. x";
        assert!(of_server(UNMAPPED, cut).is_retryable());
        let waited = of_server(1222, "Lock request time out period exceeded.");
        assert!(waited.kind() == ErrorKind::Conflict && waited.is_retryable(), "{waited}");
        assert!(of_server(1205, "deadlock").is_retryable() && !of_server(547, "x").is_retryable());
    }

    #[test]
    fn a_row_is_to_blame_and_its_column_is_named() {
        let fault = |code, message: &str| row_fault(code, message);
        let null = "Cannot insert the value NULL into column 'n', table 'd.dbo.t'; column does not allow nulls.";
        assert_eq!(fault(515, null).unwrap().0.as_deref(), Some("n"));
        let check = "The INSERT statement conflicted with the CHECK constraint \"ck\". The conflict occurred in database \
                     \"d\", table \"dbo.t\", column 'n'.";
        assert_eq!(fault(547, check).unwrap().0.as_deref(), Some("n"));
        let twice = "Violation of PRIMARY KEY constraint 'pk'. Cannot insert duplicate key in object 'dbo.t'.";
        assert_eq!(fault(2627, twice).unwrap().0, None);
        assert!(fault(208, "Invalid object name 't'.").is_none());
    }
}
