//! Faults of Delta, Parquet and the object store in our words.

use deltalake::kernel::transaction::TransactionError;
use deltalake::parquet::errors::ParquetError;
use deltalake::{DeltaTableError, ObjectStoreError};
use weir_core::{Error, ErrorKind};
use weir_files::unanswered;

/// A fault of the Delta library.
pub fn delta_error(error: DeltaTableError) -> Error {
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
        _ if is_refused(&error) => (ErrorKind::Denied, REFUSED),
        DeltaTableError::ObjectStore { source } => store_kind(source),
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
fn is_refused(error: &DeltaTableError) -> bool {
    let text = error.to_string();
    ["status code: 401", "status code: 403"].iter().any(|status| text.contains(status))
}

fn store_kind(error: &ObjectStoreError) -> (ErrorKind, &'static str) {
    match error {
        ObjectStoreError::NotFound { .. } => (ErrorKind::NotFound, "a file of the table is missing"),
        ObjectStoreError::PermissionDenied { .. } | ObjectStoreError::Unauthenticated { .. } => {
            (ErrorKind::Denied, REFUSED)
        }
        _ => (ErrorKind::Unreachable, "the storage does not answer as it should"),
    }
}

/// The operating system's own fault, when there is one among the causes: the innermost, for stores wrap one in another.
fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
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
