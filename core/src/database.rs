//! How connectors take part in whole-database jobs. A crate submits one of these beside its plugin, under the plugin's name.

use crate::{Faults, ObjectName, Parameters, Result};

/// A source of whole databases: its plugin also has a catalogue with [`objects`](crate::Catalog::objects).
pub struct DatabaseReader {
    /// The plugin's name.
    pub name: &'static str,
    /// The parameters with which the plugin reads these tables as one: those that the job gives for the source, with the
    /// tables named as the plugin wants them. Several places are shards on several servers; each has one table or more.
    pub parameters: fn(shards: &[Shard<'_>]) -> Result<Parameters>,
}

/// Tables of one place.
pub struct Shard<'a> {
    /// The parameters that the job gives for the source.
    pub source: &'a Parameters,
    /// The tables, as the catalogue has them.
    pub tables: &'a [ObjectName],
}

/// A target of whole databases.
pub struct DatabaseWriter {
    /// The plugin's name.
    pub name: &'static str,
    /// The parameters with which the plugin writes one table, out of those that the job gives for the target.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub parameters: fn(target: &Parameters, name: &TargetName) -> Result<Parameters, Faults>,
    /// What names it takes.
    pub names: NameRules,
}

/// A table of the target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TargetName {
    /// The namespace: a schema, a MySQL database, a folder. `None` for the connection's own.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl std::fmt::Display for TargetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.table)
    }
}

/// What names of tables and namespaces a target takes.
#[derive(Debug, Clone, Copy)]
pub struct NameRules {
    /// The most that a name may hold.
    pub longest: usize,
    /// Whether that counts bytes of UTF-8; characters else.
    pub in_bytes: bool,
    /// Characters that no name may have.
    pub forbidden: &'static [char],
    /// Whether names that differ only in the case of letters are one.
    pub ignores_case: bool,
    /// Whether it has namespaces at all (SQLite has none).
    pub schemas: bool,
    /// Whether namespaces are made by the job when missing (folders are; schemas are too where the login may).
    pub makes_schemas: bool,
}

impl NameRules {
    /// What is wrong with a name, if anything.
    pub fn fault(&self, name: &str) -> Option<String> {
        let length = if self.in_bytes { name.len() } else { name.chars().count() };
        let unit = if self.in_bytes { "bytes" } else { "characters" };
        if name.is_empty() {
            return Some("it is empty".into());
        }
        if length > self.longest {
            return Some(format!("it has {length} {unit}, the target takes {}", self.longest));
        }
        let odd = name.chars().find(|c| c.is_control() || self.forbidden.contains(c));
        odd.map(|c| format!("the target takes no {c:?} in a name"))
    }
}

inventory::collect!(DatabaseReader);
inventory::collect!(DatabaseWriter);

/// How a reader takes part in whole-database jobs, if it does.
pub fn database_reader(name: &str) -> Option<&'static DatabaseReader> {
    inventory::iter::<DatabaseReader>.into_iter().find(|plugin| plugin.name == name)
}

/// How a writer takes part in whole-database jobs, if it does.
pub fn database_writer(name: &str) -> Option<&'static DatabaseWriter> {
    inventory::iter::<DatabaseWriter>.into_iter().find(|plugin| plugin.name == name)
}
