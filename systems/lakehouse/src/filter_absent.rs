//! The stand-in for `filter` in a build without DataFusion: there is no filter, and asking for one says why.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use weir_core::{Error, ErrorKind, Result};

/// A condition; none can be made in this build.
#[derive(Clone)]
pub enum Filter {}

impl Filter {
    /// Refuses.
    ///
    /// # Errors
    /// Always [`Unsupported`](ErrorKind::Unsupported).
    pub fn new(condition: &str, _: &SchemaRef) -> Result<Self> {
        let message = "this build cannot evaluate a lakehouse table's `where`: build with the feature `datafusion`";
        Err(Error::new(ErrorKind::Unsupported, message).with("where", condition))
    }

    /// The columns that the condition looks at.
    pub fn columns(&self) -> &[String] {
        match *self {}
    }

    /// The rows for which the condition holds.
    ///
    /// # Errors
    /// None: there is no filter to call it on.
    pub fn apply(&self, _: &RecordBatch) -> Result<RecordBatch> {
        match *self {}
    }
}
