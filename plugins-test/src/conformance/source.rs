//! What a reader's test tells the library about its system.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::Value;

use super::Table;

/// A system to read from. Only [`plugin`](Self::plugin) and [`lay`](Self::lay) are always needed; the others open more
/// checks.
#[async_trait]
pub trait Source: Send + Sync {
    /// The reader's registered name.
    fn plugin(&self) -> &'static str;

    /// Makes the table, fills it, and gives the parameters that read it.
    async fn lay(&self, table: &Table) -> Laid;

    /// Every type that the reader claims to read, with the values it must give.
    async fn types(&self) -> Vec<TypeCase> {
        Vec::new()
    }

    /// Whether empty texts and line breaks are kept apart from NULL and from the end of a row.
    fn keeps_every_text(&self) -> bool {
        true
    }

    /// Parameters that name a table, file or object that does not exist.
    async fn missing(&self) -> Option<Value>;

    /// Parameters with a wrong password.
    async fn wrong_password(&self) -> Option<Value> {
        None
    }

    /// Parameters for a server at this address: one where nobody listens, then one where nobody answers.
    fn at(&self, address: SocketAddr) -> Option<Value> {
        let _ = address;
        None
    }

    /// Parameters of a read that keeps the server busy for at least ten seconds.
    async fn slow(&self) -> Option<Value> {
        None
    }
}

/// Where a table is.
pub enum Laid {
    /// These parameters read it.
    At(Value),
    /// The system cannot hold such a table, and why.
    Cannot(&'static str),
}

/// A type and its values.
pub struct TypeCase {
    /// The type as the source spells it.
    pub name: String,
    /// The parameters that read them; the values stand in the column [`column`](Self::column).
    pub parameters: Value,
    /// The column's name.
    pub column: String,
    /// What its canonical form must show as text, in any order.
    pub values: Vec<Option<String>>,
}

impl TypeCase {
    /// A type whose column holds these values; `parameters` read them.
    pub fn new<'a>(
        name: &str,
        parameters: Value,
        column: &str,
        values: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Self {
        let values = values.into_iter().map(|value| value.map(str::to_owned)).collect();
        Self { name: name.into(), parameters, column: column.into(), values }
    }
}
