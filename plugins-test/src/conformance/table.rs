//! The tables that the checks lay into a system.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use weir_core::field::{KEY, with_metadata};

use super::Cells;
use crate::harness::cells;

/// A table of two columns: `key` (int64 or text) and `value`, a text. In most databases `key` is a reserved word.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name, new for each check; some need quoting.
    pub name: String,
    /// Whether the key is a primary key; if not, it may hold NULLs and equal values.
    pub primary: bool,
    /// Its rows: the first column is the key.
    pub rows: RecordBatch,
}

impl Table {
    pub(super) fn of_numbers(name: &str, primary: bool, rows: Vec<(Option<i64>, Option<String>)>) -> Self {
        let (keys, values): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Self::of(name, primary, DataType::Int64, Arc::new(Int64Array::from(keys)), values)
    }

    pub(super) fn of_texts(name: &str, primary: bool, rows: Vec<(Option<String>, Option<String>)>) -> Self {
        let (keys, values): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Self::of(name, primary, DataType::Utf8, Arc::new(StringArray::from(keys)), values)
    }

    fn of(name: &str, primary: bool, data_type: DataType, keys: ArrayRef, values: Vec<Option<String>>) -> Self {
        let mut field = Field::new("key", data_type, !primary);
        if primary {
            field = with_metadata(field, KEY, "1");
        }
        let schema = Arc::new(Schema::new(vec![field, Field::new("value", DataType::Utf8, true)]));
        let columns: Vec<ArrayRef> = vec![keys, Arc::new(StringArray::from(values))];
        let rows = RecordBatch::try_new(schema, columns).unwrap_or_else(|e| panic!("a table of a check: {e}"));
        Self { name: name.into(), primary, rows }
    }

    /// The key column's name.
    pub fn key(&self) -> &str {
        self.rows.schema_ref().field(0).name()
    }

    /// Whether the key is a text, else it is an int64.
    pub fn key_is_text(&self) -> bool {
        *self.rows.schema_ref().field(0).data_type() == DataType::Utf8
    }

    /// Its rows as text.
    pub fn cells(&self) -> Cells {
        cells([&self.rows])
    }

    /// The name between `quote`s.
    pub fn quoted(&self, quote: char) -> String {
        format!("{quote}{}{quote}", self.name)
    }

    /// `CREATE TABLE` and `INSERT` statements, separated by `;`.
    pub fn sql(&self, dialect: &Dialect) -> String {
        let quote = |name: &str| format!("{0}{name}{0}", dialect.quote);
        let name = self.quoted(dialect.quote);
        let key = if self.key_is_text() { dialect.text_key } else { dialect.integer };
        let primary = if self.primary { " PRIMARY KEY" } else { "" };
        let (key_name, value) = (quote(self.key()), quote("value"));
        let mut sql = format!("CREATE TABLE {name} ({key_name} {key}{primary}, {value} {})", dialect.text);
        // Many rows in one statement, but not more than a server takes.
        for start in (0..self.rows.num_rows()).step_by(1000) {
            let chunk = self.rows.slice(start, 1000.min(self.rows.num_rows() - start));
            let values = chunk.column(1).as_string::<i32>();
            let rows: Vec<_> = (0..chunk.num_rows())
                .map(|row| {
                    let key = match chunk.column(0).as_primitive_opt::<Int64Type>() {
                        _ if chunk.column(0).is_null(row) => "NULL".to_owned(),
                        Some(numbers) => numbers.value(row).to_string(),
                        None => dialect.literal(chunk.column(0).as_string::<i32>().value(row)),
                    };
                    let value = values.is_valid(row).then(|| dialect.literal(values.value(row)));
                    format!("({key}, {})", value.as_deref().unwrap_or("NULL"))
                })
                .collect();
            sql += &format!(";\nINSERT INTO {name} VALUES {}", rows.join(", "));
        }
        sql
    }
}

/// How a database spells what [`Table::sql`] needs.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// Around names.
    pub quote: char,
    /// The type of a 64-bit integer.
    pub integer: &'static str,
    /// The type of a text.
    pub text: &'static str,
    /// The type of a text that can be a key and tells upper from lower case.
    pub text_key: &'static str,
    /// Whether a backslash in a literal has to be doubled.
    pub backslash: bool,
    /// What stands before a literal, so that it may hold every character.
    pub before: &'static str,
}

impl Dialect {
    /// PostgreSQL, SQLite and whoever keeps to the standard.
    pub const STANDARD: Self =
        Self { quote: '"', integer: "bigint", text: "text", text_key: "text", backslash: false, before: "" };
    /// The MySQL family.
    pub const MYSQL: Self = Self {
        quote: '`',
        integer: "bigint",
        text: "longtext",
        text_key: "varchar(100) COLLATE utf8mb4_bin",
        backslash: true,
        before: "",
    };
    /// SQL Server.
    pub const SQLSERVER: Self = Self {
        quote: '"',
        integer: "bigint",
        text: "nvarchar(max)",
        text_key: "nvarchar(100) COLLATE Latin1_General_BIN2",
        backslash: false,
        before: "N",
    };

    fn literal(&self, text: &str) -> String {
        let text = if self.backslash { text.replace('\\', "\\\\") } else { text.to_owned() };
        format!("{}'{}'", self.before, text.replace('\'', "''"))
    }
}

/// Texts that are easy to get wrong.
pub(super) const TEXTS: [&str; 12] = [
    "plain",
    "Ünïcödé",
    "日本語",
    "😀 four bytes",
    "it's \"quoted\"",
    "back\\slash",
    "tab\tinside",
    "comma, semicolon; pipe|",
    " spaces around ",
    "NULL",
    "\\N",
    "100%",
];

/// Texts that only systems with a real text type keep.
pub(super) const HARD_TEXTS: [&str; 3] = ["", "line\nbreak", "carriage\r\nreturn"];

/// Keys that collations like to mix up.
pub(super) const KEYS: [&str; 16] =
    ["a", "A", "b", "B", "aa", "AA", "aA", "z", "Z", "ä", "Ä", "é", "ß", "日", "😀", "_"];

/// Rows for [`Refused`](super::Refused) at a target whose key takes no NULL, and which of them it must refuse.
pub fn rows_with_null_keys() -> (RecordBatch, Vec<usize>) {
    rows_with_keys(None)
}

/// The same for one whose key takes no such text.
pub fn rows_with_keys(bad: Option<&str>) -> (RecordBatch, Vec<usize>) {
    let refused = vec![0, 7, 8, 41];
    let row = |i: usize| if refused.contains(&i) { bad.map(str::to_owned) } else { Some(format!("key {i}")) };
    let rows = (0..60).map(|i| (row(i), Some(format!("value {i}")))).collect();
    (Table::of_texts("rows", false, rows).rows, refused)
}
