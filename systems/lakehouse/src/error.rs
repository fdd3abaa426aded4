//! Faults of Delta, Parquet and the object store in our words.

use deltalake::kernel::transaction::TransactionError;
use deltalake::parquet::errors::ParquetError;
use deltalake::{DeltaTableError, ObjectStoreError};
use weir_core::{Error, ErrorKind};
use weir_files::unanswered;

/// A fault of the Delta library.
pub fn delta_error(error: DeltaTableError) -> Error {
    // The library calls each of them a failed read of the log, also where something was written.
    if let DeltaTableError::ObjectStore { source } = error {
        return store_error(source);
    }
    if let Some(unanswered) = unanswered(&error) {
        return unanswered.because(error);
    }
    if let Some(io) = io_error(&error) {
        return Error::from(std::io::Error::new(io.kind(), io.to_string())).because(error);
    }
    let (kind, message) = match &error {
        DeltaTableError::NotATable(_) => (ErrorKind::NotFound, "there is no Delta table at this place"),
        DeltaTableError::InvalidVersion(_) => (ErrorKind::NotFound, "the table has no such version, or no longer"),
        DeltaTableError::VersionAlreadyExists(_)
        | DeltaTableError::Transaction {
            source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_),
        } => (
            ErrorKind::Conflict,
            "another writer changed the table at the same time in a way that does not go together: run the job again",
        ),
        DeltaTableError::Transaction { source: TransactionError::DeltaTableAppendOnly } => {
            (ErrorKind::Conflict, "the table is append-only (delta.appendOnly): use writeMode append")
        }
        DeltaTableError::Transaction {
            source: TransactionError::UnsupportedTableFeatures(_) | TransactionError::TableFeaturesRequired(_),
        } => (ErrorKind::Unsupported, "the table uses Delta features that cannot be written here"),
        _ if is_refused(&error.to_string()) => (ErrorKind::Denied, REFUSED),
        DeltaTableError::Parquet { .. } => (ErrorKind::Data, "a data file cannot be read"),
        DeltaTableError::SchemaMismatch { .. } => (ErrorKind::Schema, "the rows do not fit the table"),
        DeltaTableError::KernelError(inner) if inner.to_string().contains("nsupported") => {
            (ErrorKind::Unsupported, "the table uses Delta features that cannot be read here")
        }
        DeltaTableError::KernelError(_) | DeltaTableError::InvalidJsonLog { .. } => {
            (ErrorKind::Data, "the table's log cannot be read")
        }
        _ => (ErrorKind::Remote, "the Delta table refused the operation"),
    };
    Error::new(kind, message).because(error)
}

/// A fault while reading or writing a Parquet file.
pub fn parquet_error(error: ParquetError) -> Error {
    if let Some(unanswered) = unanswered(&error) {
        return unanswered.because(error);
    }
    if let Some(io) = io_error(&error) {
        return Error::from(std::io::Error::new(io.kind(), io.to_string())).because(error);
    }
    Error::new(ErrorKind::Data, "a data file cannot be read: it is damaged or no Parquet file").because(error)
}

const REFUSED: &str = "the storage refuses access: check credentials and permissions in `storageOptions`";

/// Whether the storage refused a request, which the library may pass on as text only.
fn is_refused(text: &str) -> bool {
    ["status code: 401", "status code: 403"].iter().any(|status| text.contains(status))
}

fn store_error(error: ObjectStoreError) -> Error {
    if let Some(unanswered) = unanswered(&error) {
        return unanswered.because(error);
    }
    if let Some(io) = io_error(&error) {
        return Error::from(std::io::Error::new(io.kind(), io.to_string())).because(error);
    }
    let (kind, message) = match &error {
        _ if is_refused(&error.to_string()) => (ErrorKind::Denied, REFUSED),
        ObjectStoreError::NotFound { .. } => (ErrorKind::NotFound, "a file of the table is missing"),
        ObjectStoreError::PermissionDenied { .. } | ObjectStoreError::Unauthenticated { .. } => {
            (ErrorKind::Denied, REFUSED)
        }
        _ => (ErrorKind::Unreachable, "the storage does not answer as it should"),
    };
    Error::new(kind, message).because(error)
}

/// The operating system's own fault, when there is one among the causes: the innermost, for stores wrap one in another.
pub fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut found = None;
    let mut cause = Some(error);
    while let Some(error) = cause {
        cause = error.source();
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            found = Some(io);
            // An I/O error shows the cause of what it wraps, not what it wraps.
            cause = io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library's own words would be of a log that cannot be read.
    #[test]
    fn a_failed_write_is_not_called_a_failed_read() {
        let read_only = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
        let error = delta_error(ObjectStoreError::Generic { store: "local", source: read_only.into() }.into());
        assert_eq!(error.kind(), ErrorKind::Denied);
        let said = error.full();
        assert!(said.contains("read-only") && !said.contains("delta log"), "{said}");
    }
}
