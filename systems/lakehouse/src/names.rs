//! Names of columns as jobs write them.

use weir_core::{ErrorKind, Result};
use weir_sql::{Quoting, find_name};

/// A name in Spark's quotation marks as one in SQL's.
pub fn own_style(entry: &str) -> String {
    let entry = entry.trim();
    match Quoting::BACKTICK.parts(entry).as_deref() {
        Some([name]) if entry.starts_with('`') => Quoting::DOUBLE.quote(name),
        _ => entry.to_owned(),
    }
}

/// The bare name that an entry of a job means.
pub fn unquoted(entry: &str) -> String {
    Quoting::DOUBLE.unquote(&own_style(entry))
}

/// The one of `names` that an entry of a job means: exactly, else but for case; `None` when it is none of them.
///
/// # Errors
/// Names that differ only in case, of which the entry is neither.
pub fn named<'a>(entry: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<Option<&'a str>> {
    match find_name("column", &unquoted(entry), names.clone()) {
        Ok(index) => Ok(names.clone().nth(index)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unquoted_and_found_without_case() {
        let names = ["Id", "a\"b", "name", "NAME"];
        let find = |entry: &str| named(entry, names.iter().copied()).map(|n| n.map(str::to_owned));
        for (entry, name) in [("id", "Id"), ("`ID`", "Id"), ("\"a\"\"b\"", "a\"b"), ("NAME", "NAME")] {
            assert_eq!(find(entry).unwrap().as_deref(), Some(name), "{entry}");
        }
        assert_eq!(find("other").unwrap(), None);
        assert!(find("Name").is_err());
    }
}
