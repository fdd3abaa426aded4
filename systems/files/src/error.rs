//! Faults of stores and formats as [`weir_core::Error`].

use weir_core::{Error, ErrorKind};

use crate::unanswered;

/// A fault of an object store. `path` is the file as reports show it; the store's own text may hold URLs of requests
/// but never credentials.
pub fn store_error(error: object_store::Error, path: &str) -> Error {
    use object_store::Error as Store;
    if let Some(unanswered) = unanswered(&error) {
        return unanswered.because(error).with("file", path);
    }
    let (kind, message) = match &error {
        Store::NotFound { .. } => (ErrorKind::NotFound, "no such object or bucket"),
        Store::PermissionDenied { .. } => {
            (ErrorKind::Denied, "the store refuses access: check the permissions of the key for this bucket")
        }
        Store::Unauthenticated { .. } => {
            (ErrorKind::Denied, "the store does not know the credentials: check accessKeyId and secretAccessKey")
        }
        Store::AlreadyExists { .. } | Store::Precondition { .. } => {
            (ErrorKind::Conflict, "the object exists or was changed meanwhile")
        }
        Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            (ErrorKind::Unsupported, "the store cannot do this")
        }
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => {
            (ErrorKind::Config, "the path or the store's options are not valid")
        }
        _ => (ErrorKind::Unreachable, "the store cannot be reached or failed: check endpoint, region and bucket"),
    };
    Error::new(kind, message).because(error).with("file", path)
}

/// A fault found while decoding Arrow or Parquet data of the file `path`.
pub fn arrow_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, path: &str) -> Error {
    Error::new(ErrorKind::Data, "the file is damaged, truncated, or not of the format that its name or `format` says")
        .because(error)
        .with("file", path)
}
