//! A job's `column` list against the columns that a table has.

use weir_core::{Error, ErrorKind, Faults, Result};

use crate::names::{Quoting, find_name};

/// Refuses columns that have the names of those which staging adds; with them a table cannot be staged.
///
/// # Errors
/// A column, of the source or the target, that has such a name.
pub fn refuse_own<'a>(mut names: impl Iterator<Item = &'a str>, own: &[&str]) -> Result<()> {
    let Some(name) = names.find(|name| own.iter().any(|own| own.eq_ignore_ascii_case(name))) else { return Ok(()) };
    let text = format!(
        "a column is called `{name}`, as is one of the staging table's that tells where a row comes from: give it another \
         name at the target (in a whole-database job under `tables`), leave it out, or append"
    );
    Err(Error::new(ErrorKind::Schema, text).with("column", name))
}

/// One entry of a reader's select list.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// The table's column, by index; `None` for an expression or a constant.
    pub column: Option<usize>,
    /// The name in the result: the column's own, or the expression's text.
    pub name: String,
    /// The text in the select list: a quoted name, or the expression as the job wrote it.
    pub sql: String,
}

/// Resolves a reader's `column` list. No list, or a list of only `*`, stands for all columns; an entry that matches no
/// column is an SQL expression or constant (`now()`, `1`, `null`, `'x'::varchar`).
///
/// # Errors
/// An entry that matches several columns which differ only in case.
pub fn resolve_source_columns(entries: &[String], names: &[&str], quoting: Quoting) -> Result<Vec<Selected>> {
    let of_column = |index: usize| Selected {
        column: Some(index),
        name: names[index].to_owned(),
        sql: quoting.quote(names[index]),
    };
    let mut selected = Vec::with_capacity(entries.len().max(names.len()));
    if is_all(entries) {
        selected.extend((0..names.len()).map(of_column));
        return Ok(selected);
    }
    for entry in entries {
        let entry = entry.trim();
        if entry == "*" {
            selected.extend((0..names.len()).map(of_column));
            continue;
        }
        match find_name("column", &quoting.unquote(entry), names.iter().copied()) {
            Ok(index) => selected.push(of_column(index)),
            // An entry in the system's own quotation marks can mean nothing but a column. (SQLite would take it for a text.)
            Err(error) if error.kind() == weir_core::ErrorKind::NotFound && !is_quoted(entry, quoting) => {
                selected.push(Selected { column: None, name: entry.to_owned(), sql: entry.to_owned() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(selected)
}

/// Resolves a writer's `column` list to the table's own names; `None` when the job lists none or `*`.
///
/// # Errors
/// All entries that match no column, or a column twice, in one message.
pub fn resolve_target_columns(entries: &[String], names: &[&str], quoting: Quoting) -> Result<Option<Vec<String>>> {
    if is_all(entries) {
        return Ok(None);
    }
    let mut resolved: Vec<String> = Vec::with_capacity(entries.len());
    let mut faults = Faults::default();
    for (i, entry) in entries.iter().enumerate() {
        match find_name("column", &quoting.unquote(entry), names.iter().copied()) {
            Ok(index) if resolved.iter().any(|n| n == names[index]) => {
                faults.add(format!("/column/{i}"), format!("column `{}` is listed twice", names[index]));
            }
            Ok(index) => resolved.push(names[index].to_owned()),
            Err(error) => faults.add(format!("/column/{i}"), error.message()),
        }
    }
    faults.or(Some(resolved)).map_err(|faults| Error::new(weir_core::ErrorKind::NotFound, faults.to_string()))
}

fn is_quoted(entry: &str, quoting: Quoting) -> bool {
    entry.starts_with(|mark| mark == quoting.open || Some(mark) == quoting.other)
        && quoting.parts(entry).is_some_and(|parts| parts.len() == 1)
}

/// Whether a `column` list stands for all columns.
pub fn is_all(entries: &[String]) -> bool {
    entries.is_empty() || (entries.len() == 1 && entries[0].trim() == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn what_is_no_column_is_an_expression() {
        let names = ["Id", "my col"];
        let selected = resolve_source_columns(&texts(&["id", "\"my col\"", "now()"]), &names, Quoting::DOUBLE).unwrap();
        assert_eq!(selected.iter().map(|s| s.sql.as_str()).collect::<Vec<_>>(), ["\"Id\"", "\"my col\"", "now()"]);
        assert_eq!(selected[2].column, None);
        assert_eq!(resolve_source_columns(&[], &names, Quoting::DOUBLE).unwrap().len(), 2);
        assert!(resolve_source_columns(&texts(&["\"mi col\""]), &names, Quoting::DOUBLE).is_err());
    }

    #[test]
    fn a_writers_column_must_exist() {
        let names = ["id", "name"];
        let resolve = |e: &[&str]| resolve_target_columns(&texts(e), &names, Quoting::BACKTICK);
        assert_eq!(resolve(&["`ID`", "name"]).unwrap(), Some(texts(&["id", "name"])));
        assert_eq!(resolve(&["*"]).unwrap(), None);
        let message = resolve(&["idd", "nam", "name", "name"]).unwrap_err().to_string();
        assert!(
            message.contains("/column/0") && message.contains("/column/1") && message.contains("twice"),
            "{message}"
        );
    }
}
