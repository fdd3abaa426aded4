//! A staging table with the constraints of the table it stands for, so that a row is refused when it is written and not
//! when everything is published.

use weir_sql::{TableName, own_name};
use weir_sqlite::QUOTING;

use crate::known::Found;

/// The name of a run's staging table.
pub fn name(run_id: &str, table: &TableName) -> TableName {
    table.sibling(own_name(run_id, table, "_s"))
}

/// The statements that make the staging table of an existing table.
pub(crate) fn statements(table: &Found, stage: &TableName) -> Vec<String> {
    let quoted = stage.quoted(QUOTING);
    let Some(create) = table.definition.as_ref().and_then(|sql| renamed_table(sql, &quoted)) else {
        // A definition that is not read here (a virtual table's): its columns alone.
        let from = table.table.name.quoted(QUOTING);
        return vec![format!("CREATE TABLE IF NOT EXISTS {quoted} AS SELECT * FROM {from} WHERE 0")];
    };
    let mut statements = vec![create];
    let names = (0..).map(|i| stage.sibling(format!("{}_{i}", stage.name)).quoted(QUOTING));
    let own_name = QUOTING.quote(&stage.name);
    let indexes = table.indexes.iter().zip(names);
    statements.extend(indexes.filter_map(|(sql, name)| renamed_index(sql, &name, &own_name)));
    statements
}

/// SQLite keeps `CREATE TABLE ` and then the text as it was written.
pub(crate) fn renamed_table(sql: &str, name: &str) -> Option<String> {
    let rest = after_name(word(sql, "CREATE TABLE")?)?;
    Some(format!("CREATE TABLE IF NOT EXISTS {name} {rest}"))
}

fn renamed_index(sql: &str, name: &str, table: &str) -> Option<String> {
    let rest = after_name(word(sql, "CREATE UNIQUE INDEX")?)?;
    let rest = after_name(word(rest, "ON")?)?;
    Some(format!("CREATE UNIQUE INDEX IF NOT EXISTS {name} ON {table} {rest}"))
}

fn word<'a>(sql: &'a str, words: &str) -> Option<&'a str> {
    let mut rest = sql.trim_start();
    for word in words.split(' ') {
        let start = rest.get(..word.len())?;
        if !start.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = rest[word.len()..].trim_start();
    }
    Some(rest)
}

/// The text after the identifier at its start, which may be quoted in any of SQLite's ways.
fn after_name(sql: &str) -> Option<&str> {
    let close = match sql.chars().next()? {
        '"' => '"',
        '\'' => '\'',
        '`' => '`',
        '[' => ']',
        _ => {
            let end = sql.find(|c: char| c.is_whitespace() || c == '(')?;
            return Some(&sql[end..]);
        }
    };
    let mut at = 1;
    loop {
        at += sql[at..].find(close)? + 1;
        // Twice the mark is the mark itself, except in brackets.
        if close != ']' && sql[at..].starts_with(close) {
            at += 1;
        } else {
            return Some(&sql[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_get_another_name() {
        for sql in [
            "CREATE TABLE t(a)",
            "CREATE TABLE t (a)",
            "CREATE TABLE \"t \"\"(x\"(a)",
            "CREATE TABLE [t](a)",
            "CREATE TABLE `t`\n(a)",
            "CREATE TABLE 't'(a)",
        ] {
            let renamed = renamed_table(sql, "\"s\"").unwrap();
            assert_eq!(renamed.split_whitespace().collect::<String>(), "CREATETABLEIFNOTEXISTS\"s\"(a)", "{sql}");
        }
        assert_eq!(renamed_table("CREATE VIRTUAL TABLE t USING fts5(a)", "s"), None);
        assert_eq!(
            renamed_index("CREATE UNIQUE INDEX \"i\" ON t(lower(a)) WHERE a > 1", "j", "s").unwrap(),
            "CREATE UNIQUE INDEX IF NOT EXISTS j ON s (lower(a)) WHERE a > 1"
        );
        assert_eq!(renamed_index("CREATE INDEX i ON t(a)", "j", "s"), None);
    }
}
