//! Pieces of SQL that read the same in every dialect.

use crate::names::{Quoting, TableName};

/// A job's `where` or `querySql` without surrounding space and trailing semicolons.
pub fn trimmed(sql: &str) -> &str {
    sql.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

/// `SELECT … FROM … [WHERE …]` with all conditions joined by AND, each in parentheses.
pub fn select(columns: &[&str], from: &str, conditions: &[&str]) -> String {
    let mut sql = format!("SELECT {} FROM {from}", columns.join(", "));
    for (i, condition) in conditions.iter().enumerate() {
        sql.push_str(if i == 0 { " WHERE (" } else { " AND (" });
        sql.push_str(condition);
        // A comment at the end of a condition must not swallow the parenthesis.
        sql.push_str(if condition.contains("--") || condition.contains('#') { "\n)" } else { ")" });
    }
    sql
}

/// A column of a table to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewColumn<'a> {
    /// The name.
    pub name: &'a str,
    /// The type as the target writes it.
    pub native_type: &'a str,
    /// Whether NULL is allowed.
    pub nullable: bool,
}

/// `CREATE TABLE IF NOT EXISTS …` with columns, NOT NULL and primary key. `options` is what the dialect adds after the
/// closing parenthesis.
pub fn create_table(
    table: &TableName,
    columns: &[NewColumn<'_>],
    key: &[String],
    quoting: Quoting,
    options: &str,
) -> String {
    let mut lines: Vec<String> = columns
        .iter()
        .map(|c| {
            let null = if c.nullable { "" } else { " NOT NULL" };
            format!("  {} {}{null}", quoting.quote(c.name), c.native_type)
        })
        .collect();
    if !key.is_empty() {
        lines.push(format!("  PRIMARY KEY ({})", quoting.quote_all(key)));
    }
    format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n){options}", table.quoted(quoting), lines.join(",\n"))
}

/// The same statement as [`create_table`]'s, which fails where the table is there.
pub fn plain_create(sql: &str) -> String {
    sql.replacen("CREATE TABLE IF NOT EXISTS", "CREATE TABLE", 1)
}

/// The statements of preSql or postSql, with DataX's `@table` replaced by the quoted table.
pub fn with_table(statements: &[String], table: &TableName, quoting: Quoting) -> Vec<String> {
    let quoted = table.quoted(quoting);
    statements.iter().map(|s| trimmed(s).replace("@table", &quoted)).filter(|s| !s.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_to_themselves() {
        assert_eq!(trimmed(" a = 1 ; ; "), "a = 1");
        assert_eq!(
            select(&["\"a\""], "\"t\"", &["x = 1 OR y = 2", "id < 5"]),
            "SELECT \"a\" FROM \"t\" WHERE (x = 1 OR y = 2) AND (id < 5)"
        );
    }

    #[test]
    fn tables_are_created_with_keys() {
        let columns = [
            NewColumn { name: "id", native_type: "bigint", nullable: false },
            NewColumn { name: "t", native_type: "text", nullable: true },
        ];
        assert_eq!(
            create_table(&TableName::bare("x"), &columns, &["id".into()], Quoting::DOUBLE, ""),
            "CREATE TABLE IF NOT EXISTS \"x\" (\n  \"id\" bigint NOT NULL,\n  \"t\" text,\n  PRIMARY KEY (\"id\")\n)"
        );
    }
}
