//! Results on stdout.

use std::io::{self, Write};

use weir::core::{Error, ErrorKind};

/// Writes to stdout. Nobody reading on (`weir connectors | head -1`) is no fault.
///
/// # Errors
/// A full disk behind a redirection, and the like.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::Io, "stdout cannot be written").because(error)),
        Ok(()) => Ok(()),
    }
}

/// Writes a value as JSON.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    print(&format!("{}\n", json(value)?))
}

/// A value as indented JSON.
///
/// # Errors
/// [`ErrorKind::Internal`]; our own types always serialise.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map_err(|error| Error::internal("a result is no JSON").because(error))
}

/// Writes to stderr; nobody reading there is no fault either.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
