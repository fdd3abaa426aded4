//! How connectors take part in whole-database jobs. A crate submits one of these beside its plugin, under the plugin's name.

use crate::{Faults, ObjectName, Parameters, Result, WriteMode};

/// A source of whole databases: its plugin also has a catalogue with [`objects`](crate::Catalog::objects).
pub struct DatabaseReader {
    /// The plugin's name.
    pub name: &'static str,
    /// The parameters with which the plugin reads these tables as one, each of them one of the reader's
    /// [`tables`](crate::SourceSchema::tables), in this order.
    ///
    /// # Errors
    /// Shards that one reader cannot read, because their sources are not to be read in the same way.
    pub parameters: fn(&SourceTables<'_>) -> Result<Parameters>,
    /// Whether windows may go by a column of this type, as the catalogue describes it; `true` also where only the reader can
    /// tell.
    pub has_order: fn(native_type: &str) -> bool,
}

/// What one entry of a whole-database job reads: one table, or several of equal columns.
pub struct SourceTables<'a> {
    /// The tables by the places they are in. Several places are shards on several servers; each has a table at least.
    pub shards: &'a [Shard<'a>],
    /// Only these columns, by their names at the source; all of them when empty.
    pub columns: &'a [String],
    /// A condition in the source's own words.
    pub condition: Option<&'a str>,
    /// The column by which large tables are cut.
    pub split_key: Option<&'a str>,
}

/// Tables of one place.
pub struct Shard<'a> {
    /// What the job calls the source.
    pub name: &'a str,
    /// The parameters that the job gives for the source.
    pub source: &'a Parameters,
    /// The connection's own database, where that is known and tables of others may be among these.
    pub database: Option<&'a str>,
    /// The tables, as the catalogue has them.
    pub tables: &'a [ObjectName],
}

/// A target of whole databases.
pub struct DatabaseWriter {
    /// The plugin's name.
    pub name: &'static str,
    /// The parameters with which the plugin writes one table.
    ///
    /// # Errors
    /// What the target cannot do: a partition where there are none, a mode that it does not have.
    pub parameters: fn(&TargetTable<'_>) -> Result<Parameters, Faults>,
    /// What names it takes.
    pub names: NameRules,
    /// Whether a row of a key that came before is found when many tables are merged into one in this mode, at a target of
    /// these parameters: by the table's own key, or by the writer.
    pub finds_equal_keys: fn(&Parameters, WriteMode) -> bool,
}

/// What one entry of a whole-database job writes.
pub struct TargetTable<'a> {
    /// The parameters that the job gives for the target.
    pub target: &'a Parameters,
    /// The table.
    pub name: &'a TargetName,
    /// How rows meet what the table holds.
    pub mode: WriteMode,
    /// The columns by which rows are told apart, by their names at the target; empty for a keyless table.
    pub key: &'a [String],
    /// A column with one value for the whole run, by which the table is partitioned.
    pub partition: Option<(&'a str, &'a str)>,
    /// Whether the rows are those of several tables that were not one, so that one key may come twice: an upsert must not
    /// let one row take another one's place.
    pub merged: bool,
    /// Whether the source itself tells its rows apart by the key: two rows of one key are equal for the target alone, as by a
    /// collation, and an upsert must not let one take the other one's place.
    pub distinct: bool,
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
            write!(f, "{}.", Part(schema))?;
        }
        Part(&self.table).fmt(f)
    }
}

/// A part of a name beside others: with a dot in it, it stands between quotation marks.
pub(crate) struct Part<'a>(pub &'a str);

impl std::fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.contains('.') { write!(f, "\"{}\"", self.0) } else { f.write_str(self.0) }
    }
}

/// What names of tables and namespaces a target takes.
#[derive(Debug, Clone, Copy)]
pub struct NameRules {
    /// The most that a name may hold.
    pub longest: usize,
    /// Whether that counts bytes of UTF-8; characters else.
    pub in_bytes: bool,
    /// Characters that no name may have; [`NameRules::NARROW`] stands for more of them.
    pub forbidden: &'static [char],
    /// Whether names that differ only in the case of letters are one.
    pub ignores_case: bool,
    /// The same of the names of columns.
    pub columns_ignore_case: bool,
    /// Whether it has namespaces at all (SQLite has none).
    pub schemas: bool,
    /// Whether columns too may have `longest` at most.
    pub columns: bool,
    /// Whether names are folders, so that a table without a namespace holds the tables of the namespace of its name.
    pub nests: bool,
}

impl NameRules {
    /// Among `forbidden`: all characters beyond U+FFFF, and a blank at the end, in columns too.
    pub const NARROW: char = char::MAX;

    /// The rules for names of columns: what no table may have in its name, columns may.
    pub fn of_columns(&self) -> Self {
        let forbidden: &[char] = if self.is_narrow() { &[Self::NARROW] } else { &[] };
        Self { forbidden, ..*self }
    }

    /// What is wrong with the name of a column, if anything.
    pub fn column_fault(&self, name: &str) -> Option<String> {
        let size = self.size_fault(name).filter(|_| self.columns || name.is_empty());
        size.or_else(|| self.of_columns().narrow_fault(name))
    }

    /// Whether a name may have this character.
    pub fn takes(&self, c: char) -> bool {
        !(c.is_control() || self.forbidden.contains(&c) || self.is_narrow() && c > '\u{FFFF}')
    }

    fn is_narrow(&self) -> bool {
        self.forbidden.contains(&Self::NARROW)
    }

    /// What is wrong with a name, if anything.
    pub fn fault(&self, name: &str) -> Option<String> {
        let odd = || name.chars().find(|c| !self.takes(*c));
        self.size_fault(name).or_else(|| odd().map(refused)).or_else(|| self.narrow_fault(name))
    }

    fn narrow_fault(&self, name: &str) -> Option<String> {
        if !self.is_narrow() {
            return None;
        }
        let beyond = name.chars().find(|c| *c > '\u{FFFF}').map(refused);
        beyond.or_else(|| name.ends_with(' ').then(|| "the target takes no blank at the end of a name".into()))
    }

    /// What is wrong with the size of a name, if anything.
    pub fn size_fault(&self, name: &str) -> Option<String> {
        let length = if self.in_bytes { name.len() } else { name.chars().count() };
        let unit = if self.in_bytes { "bytes" } else { "characters" };
        if name.is_empty() {
            return Some("it is empty".into());
        }
        (length > self.longest).then(|| format!("it has {length} {unit}, the target takes {}", self.longest))
    }
}

fn refused(c: char) -> String {
    format!("the target takes no {c:?} in a name")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_a_part_makes_another_name() {
        let name = |schema: Option<&str>, table: &str| {
            TargetName { schema: schema.map(str::to_owned), table: table.to_owned() }.to_string()
        };
        assert_eq!(name(Some("a"), "b.c"), "a.\"b.c\"");
        assert_eq!(name(Some("a.b"), "c"), "\"a.b\".c");
        assert_eq!((name(Some("a"), "b"), name(None, "a.b")), ("a.b".into(), "\"a.b\"".into()));
    }
}
