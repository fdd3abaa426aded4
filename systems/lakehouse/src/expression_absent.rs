//! The stand-in for `expression` in a build without DataFusion: there are none, and asking for one says why.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use weir_core::{Error, ErrorKind, Result};

/// An expression; none can be made in this build.
#[derive(Clone)]
pub enum Expression {}

impl Expression {
    /// Refuses.
    ///
    /// # Errors
    /// Always [`Unsupported`](ErrorKind::Unsupported).
    pub fn new(text: &str, _: &SchemaRef) -> Result<Self> {
        let message = format!(
            "`{text}` is no column of the table, and this build cannot compute expressions over a lakehouse table: name a \
             column, or build with the feature `datafusion`"
        );
        Err(Error::new(ErrorKind::Unsupported, message).with("column", text))
    }

    /// The columns that the expression looks at.
    pub fn columns(&self) -> &[String] {
        match *self {}
    }

    /// Its name and type.
    pub fn field(&self) -> &Field {
        match *self {}
    }

    /// Its values.
    ///
    /// # Errors
    /// None: there is no expression to call it on.
    pub fn evaluate(&self, _: &RecordBatch) -> Result<ArrayRef> {
        match *self {}
    }
}

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
