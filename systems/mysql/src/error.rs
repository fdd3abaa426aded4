//! The server's and the driver's errors, as kinds with remedies.

use weir_core::{Error, ErrorKind};

/// A fault reported by mysql_async.
pub fn from_async(error: mysql_async::Error) -> Error {
    use mysql_async::Error as E;
    match error {
        E::Server(e) => of_server(e.code, &e.message),
        E::Io(mysql_async::IoError::Io(e)) => of_io(e),
        E::Io(mysql_async::IoError::Tls(e)) => of_tls(e.to_string()),
        E::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => of_tls("the server offers no TLS".into()),
        E::Driver(mysql_async::DriverError::ConnectionClosed) => {
            Error::new(ErrorKind::Unreachable, "the server closed the connection")
        }
        E::Driver(mysql_async::DriverError::PacketTooLarge) => Error::new(
            ErrorKind::Remote,
            "a packet is larger than the server takes: raise max_allowed_packet on the server",
        ),
        other => Error::new(ErrorKind::Remote, "the MySQL protocol failed").because(other),
    }
}

pub(crate) fn of_io(error: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    // So the TLS library says what is wrong with a certificate: trying again does not mend it.
    if error.kind() == Io::InvalidData {
        return of_tls(error.to_string());
    }
    let message = match error.kind() {
        Io::ConnectionRefused => "the server refuses connections: is it running, and is the port right?",
        Io::TimedOut => "the server did not answer in time: check host, port and firewall",
        Io::UnexpectedEof | Io::ConnectionReset | Io::BrokenPipe | Io::ConnectionAborted => {
            "the connection to the server broke"
        }
        Io::NotFound => "the server's socket does not exist: is it running?",
        _ if error.to_string().contains("lookup") => "the host name is unknown: check the URL",
        _ => "the server cannot be reached",
    };
    Error::new(ErrorKind::Unreachable, message).because(error)
}

const NO_TLS: &str = "no TLS session with the server";

pub(crate) fn of_tls(reason: String) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!("{NO_TLS} ({reason}): check sslMode, and sslCa for verify-ca and verify-identity"),
    )
    .retryable(false)
}

/// A certificate that verify-ca trusts and the driver cannot use.
pub fn nameless() -> Error {
    of_tls("its certificate is from the trusted authority, and names no host at all: it needs a subjectAltName".into())
}

/// Whether no TLS session could be had.
pub(crate) fn is_of_tls(error: &Error) -> bool {
    error.message().starts_with(NO_TLS)
}

pub(crate) fn of_server(code: u16, message: &str) -> Error {
    let (kind, remedy) = match code {
        // The server does not tell a login that must use TLS from a wrong password.
        1045 => (ErrorKind::Denied, "check username and password, and whether the login needs TLS (sslMode)"),
        1698 | 1862 | 3118 | 3955 | 4151 => (ErrorKind::Denied, "check username and password"),
        1044 => (ErrorKind::Denied, "grant the user access to the database"),
        1142 | 1143 | 1227 | 1370 | 1410 => (ErrorKind::Denied, "grant the missing privilege"),
        1130 | 1129 => (ErrorKind::Denied, "the server does not let this machine in: allow the host for the user"),
        1251 | 1524 | 2059 => (ErrorKind::Denied, "the login method is not supported on both sides"),
        3159 => (ErrorKind::Denied, "the server wants TLS: set sslMode to required"),
        1290 | 1836 => (ErrorKind::Denied, "the server is read-only or restricted; write to the primary"),
        1049 => (ErrorKind::NotFound, "check the database's name in the URL"),
        1146 => (ErrorKind::NotFound, "check the table's name, database and spelling"),
        1051 | 1305 => (ErrorKind::NotFound, "check the name"),
        1356 => (ErrorKind::NotFound, "check the view: what it rests on is gone, or its definer may not read it"),
        1054 => (ErrorKind::NotFound, "check the columns of the job against the table"),
        1064 => (ErrorKind::Remote, "check the SQL of the job: where, column expressions, querySql, preSql, session"),
        1040 | 1203 | 1226 => (ErrorKind::Unreachable, "the server has no connection left: use fewer channels"),
        1053 | 1077 | 1079 | 1080 | 1152 | 1158..=1161 | 1184 | 1927 | 4031 => {
            (ErrorKind::Unreachable, "the server ended the connection")
        }
        1205 | 3024 | 1969 => (ErrorKind::Timeout, "the server gave up waiting; look for locks held by others"),
        1213 => (ErrorKind::Conflict, "another transaction was in the way; run again"),
        // InnoDB says so of a deadlock on the table's counter too.
        1467 => (ErrorKind::Conflict, "another transaction was in the way, or the column has no number left"),
        // InnoDB keeps its locks in the buffer pool: those of other transactions end with them.
        1206 => (
            ErrorKind::Conflict,
            "wait until other transactions end, or raise innodb_buffer_pool_size on the server, for it holds the locks",
        ),
        // A run that is stopped kills its statements too, but does not wait for their end.
        1317 => (ErrorKind::Remote, "somebody killed the statement on the server"),
        1412 => (ErrorKind::Conflict, "the table was altered while it was read: run again"),
        1153 => (ErrorKind::Remote, "raise max_allowed_packet on the server"),
        1114 | 1021 => (ErrorKind::Remote, "the server's disk or table is full"),
        1451 | 1217 => (ErrorKind::Conflict, "rows of other tables refer to these"),
        1235 | 1148 | 3948 => (ErrorKind::Unsupported, "the server does not allow it"),
        _ => (ErrorKind::Remote, ""),
    };
    let text = if remedy.is_empty() { message.to_owned() } else { format!("{message}: {remedy}") };
    let error = Error::new(kind, text).with("code", code);
    // A deadlock's victim was rolled back whole, and so is whoever finds no room for a lock: trying again is right.
    if matches!(code, 1206 | 1213 | 1467) { error.retryable(true) } else { error }
}

/// Whether the server refused because of a row's values, with the column where the message names it. Everything else
/// fails the task.
pub fn is_row_fault(error: &mysql_async::Error) -> Option<(Option<String>, String)> {
    let mysql_async::Error::Server(e) = error else { return None };
    let of_row = matches!(
        e.code,
        // NULL, duplicates, foreign keys (with REPLACE those of others on this table), checks
        1048 | 1062 | 1169 | 1216 | 1452 | 1217 | 1451 | 1364 | 1557 | 1586 | 3819 | 4025 | 1748 | 1526
        // values that do not fit: truncated, out of range, wrong
        | 1264 | 1265 | 1292 | 1366 | 1367 | 1406 | 1411 | 1416 | 1263 | 1690 | 1441 | 1300 | 3140
            ..=3158
                | 3037
                | 3064
                | 3516
                | 3617
                | 3643
                | 3732
                | 6136
                | 6137
                | 6138
                | 1644
                | 1288
                | 3750
                | 1118
                | 4078
                | 4161
    );
    // TRUNCATED_WRONG_VALUE_FOR_FIELD and friends: `… for column 'c' at row 3`, in MariaDB `column `d`.`t`.`c``.
    let column = e.message.rsplit_once("olumn ").and_then(|(_, rest)| {
        let name = rest.split(" at row").next().unwrap_or(rest);
        let name = name.split_once("' cannot").map_or(name, |(n, _)| n);
        let name = name.trim_end_matches(['.', ' ']);
        let name = name.rsplit('.').next().unwrap_or(name).trim_matches(|c| matches!(c, '\'' | '`' | ' '));
        (!name.is_empty() && name.len() <= 64).then(|| name.to_owned())
    });
    // MariaDB's check of a JSON column: CONSTRAINT `t.c` failed for `d`.`t`.
    let checked = || {
        let (name, _) = e.message.strip_prefix("CONSTRAINT `")?.split_once('`')?;
        Some(name.rsplit_once('.')?.1.to_owned())
    };
    let column = column.or_else(|| checked().filter(|_| e.code == 4025));
    of_row.then(|| (column.filter(|_| e.code != 1062), e.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds_with_remedies() {
        assert_eq!(of_server(1045, "Access denied").kind(), ErrorKind::Denied);
        assert_eq!(of_server(1049, "Unknown database").kind(), ErrorKind::NotFound);
        assert!(of_server(1146, "Table 'a.b' doesn't exist").message().contains("check the table"));
        assert!(of_server(1213, "Deadlock").is_retryable());
        assert!(of_server(1467, "Failed to read auto-increment value").is_retryable());
        let locks = of_server(1206, "The total number of locks exceeds the lock table size");
        assert!(locks.is_retryable() && locks.message().contains("innodb_buffer_pool_size"), "{locks}");
    }

    #[test]
    fn a_row_is_to_blame_and_its_column_is_named() {
        let fault = |code, message: &str| {
            is_row_fault(&mysql_async::Error::Server(mysql_async::ServerError {
                code,
                message: message.into(),
                state: String::new(),
            }))
        };
        assert_eq!(fault(1264, "Out of range value for column 'n' at row 3").unwrap().0.as_deref(), Some("n"));
        assert_eq!(
            fault(1366, "Incorrect integer value: 'x' for column `d`.`t`.`n` at row 1").unwrap().0.unwrap(),
            "n"
        );
        assert_eq!(fault(1048, "Column 'n' cannot be null").unwrap().0.as_deref(), Some("n"));
        let json = "Invalid JSON text: \"The document is empty.\" at position 0 in value for column 't.n'.";
        assert_eq!(fault(3140, json).unwrap().0.as_deref(), Some("n"));
        assert_eq!(fault(4025, "CONSTRAINT `t.n` failed for `d`.`t`").unwrap().0.as_deref(), Some("n"));
        assert!(fault(1146, "Table 'd.t' doesn't exist").is_none());
    }
}
