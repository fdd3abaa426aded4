//! What a writer's test tells the library about its system.

use std::net::SocketAddr;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde_json::Value;
use weir_core::WriteMode;

use super::{Cells, Table};

/// A system to write to. The methods without a default are always needed; the others open more checks.
#[async_trait]
pub trait Target: Send + Sync {
    /// The writer's registered name.
    fn plugin(&self) -> &'static str;

    /// The parameters to write to a table in a mode, `None` where the system does not have the mode. The writer is to
    /// create the table if it can.
    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value>;

    /// Makes the table and fills it, past the writer; gives the reason where that cannot be done.
    async fn lay(&self, table: &Table) -> Result<(), &'static str>;

    /// The rows of a table as text in any order, its columns in their order; `None` where there is no such table.
    async fn contents(&self, table: &str) -> Option<Cells>;

    /// The names of everything that stands at the target: tables, files, staging too; so that litter shows.
    async fn inventory(&self) -> Vec<String>;

    /// Whether the writer creates a table that is missing; if not, the library lays it first.
    fn creates(&self) -> bool {
        true
    }

    /// Whether empty texts and line breaks are kept apart from NULL and from the end of a row.
    fn keeps_every_text(&self) -> bool {
        true
    }

    /// Every type that the writer claims to write; [`samples`](super::samples) has values of all canonical ones.
    async fn types(&self) -> Vec<WriteCase> {
        Vec::new()
    }

    /// Why a column that takes no NULL cannot begin to take it, on a server that is not able to.
    fn keeps_not_null(&self) -> Option<&'static str> {
        None
    }

    /// Why a table that somebody else makes after the plan is written to like one that was there before it: where none has a
    /// shape that the plan could have seen.
    fn takes_what_is_there(&self) -> Option<&'static str> {
        None
    }

    /// A write in which the target must refuse some rows, into a table without any; written more than once.
    async fn refused(&self) -> Option<Refused> {
        None
    }

    /// Parameters that name a table that does not exist and must not be created.
    async fn missing(&self) -> Option<Value> {
        None
    }

    /// Parameters with a wrong password.
    async fn wrong_password(&self) -> Option<Value> {
        None
    }

    /// Parameters for a server at this address: one where nobody listens, then one where nobody answers.
    fn at(&self, address: SocketAddr) -> Option<Value> {
        let _ = address;
        None
    }
}

/// Values of a type, and how they must look at the target.
pub struct WriteCase {
    /// For messages.
    pub name: String,
    /// The table to write to.
    pub table: String,
    /// What to write, with all the fields' metadata.
    pub rows: RecordBatch,
    /// What must stand there then, in any order.
    pub expected: Cells,
}

/// A write with rows that the target must refuse.
pub struct Refused {
    /// The parameters.
    pub parameters: Value,
    /// The table, as [`Target::contents`] takes it.
    pub table: String,
    /// What to write.
    pub rows: RecordBatch,
    /// Which of the rows must come back, counted from 0, in this order. The others must stand at the target, and nothing else.
    pub refused: Vec<usize>,
}
