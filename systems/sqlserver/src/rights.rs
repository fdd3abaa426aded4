//! What the session's user may do.

use weir_core::Result;

use crate::connection::{Session, literal};
use crate::{QUOTING, cells};
use weir_sql::TableName;

/// The user's permissions on one table, and on the schema of Weir's own tables.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// Those asked for that are missing, as messages name them: `INSERT on dbo.orders`.
    pub missing: Vec<String>,
}

impl Rights {
    /// Asks for `permissions` on an object that is there.
    ///
    /// # Errors
    /// The server's.
    pub async fn on_table(session: &mut Session, table: &TableName, permissions: &[&str]) -> Result<Self> {
        Self::ask(session, &table.quoted(QUOTING), "OBJECT", permissions, &table.to_string()).await
    }

    /// Asks whether tables can be made in `schema`.
    ///
    /// # Errors
    /// The server's.
    pub async fn to_create(session: &mut Session, schema: &str) -> Result<Self> {
        let mut rights = Self::ask(session, "", "DATABASE", &["CREATE TABLE"], "the database").await?;
        let own = Self::ask(session, &QUOTING.quote(schema), "SCHEMA", &["ALTER"], &format!("schema {schema}")).await?;
        rights.missing.extend(own.missing);
        Ok(rights)
    }

    async fn ask(session: &mut Session, on: &str, class: &str, permissions: &[&str], shown: &str) -> Result<Self> {
        // Of the database itself the name is NULL.
        let on = if on.is_empty() { "DB_NAME()".to_owned() } else { literal(on) };
        let asked = permissions.iter().map(|p| format!("HAS_PERMS_BY_NAME({on}, '{class}', '{p}')"));
        let sql = format!("SELECT {}", asked.collect::<Vec<_>>().join(", "));
        let row = session.row(&sql).await?;
        // NULL: the server does not say. Then it is tried.
        let has = |i: usize| row.as_ref().and_then(|row| cells::number(row, i)).is_none_or(|n| n != 0);
        let missing = permissions.iter().enumerate().filter(|(i, _)| !has(*i));
        Ok(Self { missing: missing.map(|(_, p)| format!("{p} on {shown}")).collect() })
    }

    /// Whether nothing is missing.
    pub fn complete(&self) -> bool {
        self.missing.is_empty()
    }
}
