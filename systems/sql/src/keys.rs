//! Which columns tell rows apart: the key of a new table, of an upsert, of an overwrite that compares.

use weir_core::{Error, ErrorKind, MappedColumn, PlannedColumn, Result, WriteMode};

use crate::config::{DuplicateKeys, WriterConfig};
use crate::names::{Quoting, TableName, find_name};

/// A job's key columns, by their names in the table.
///
/// # Errors
/// A name that none has.
pub fn resolve(wanted: &[String], names: &[&str], quoting: Quoting) -> Result<Vec<String>> {
    let find = |key: &String| {
        let found = find_name("column", &quoting.unquote(key), names.iter().copied());
        found.map(|index| names[index].to_owned()).map_err(|error| error.with("parameter", "key"))
    };
    wanted.iter().map(find).collect()
}

/// The primary key of a table to be created: the job's, else the source's if all of it is written.
///
/// # Errors
/// A name that no column has.
pub fn of_new(wanted: &[String], columns: &[MappedColumn], quoting: Quoting) -> Result<Vec<String>> {
    if !wanted.is_empty() {
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        return resolve(wanted, &names, quoting);
    }
    let mut key: Vec<&MappedColumn> = columns.iter().filter(|c| c.key.is_some()).collect();
    key.sort_by_key(|c| c.key);
    // A part of the source's key is no key.
    let whole = key.iter().enumerate().all(|(i, c)| c.key == Some(i as u32 + 1));
    Ok(if whole { key.iter().map(|c| c.name.clone()).collect() } else { Vec::new() })
}

/// The key that rows of an overwrite or an append are compared by: the job's, where it wants to know of equal ones and no
/// unique key of the target finds them.
///
/// # Errors
/// A name that no column has.
pub fn to_compare(
    config: &WriterConfig,
    written: &[&str],
    unique: &[&[String]],
    quoting: Quoting,
) -> Result<Vec<String>> {
    if config.duplicate_keys != DuplicateKeys::Error
        || !matches!(config.mode(), WriteMode::Overwrite | WriteMode::Append)
    {
        return Ok(Vec::new());
    }
    let key = resolve(config.key.as_slice(), written, quoting)?;
    let finds = |unique: &&[String]| !unique.is_empty() && unique.iter().all(|column| key.contains(column));
    Ok(if unique.iter().any(finds) { Vec::new() } else { key })
}

/// What to say of an append whose rows nobody compares.
pub fn not_compared(config: &WriterConfig, table: &TableName, key: &[String]) -> Option<String> {
    (!key.is_empty() && config.mode() != WriteMode::Overwrite).then(|| {
        let key = key.join(", ");
        format!("`{table}` has no unique key over ({key}), so rows of equal keys will be there twice: add one")
    })
}

/// What is wrong with rows that an upsert or a merge brought with one key, where the job wants to know. `columns` are those
/// of the plan.
pub fn equal_keys(
    table: &str,
    (columns, keys): (&[PlannedColumn], &[String]),
    values: &str,
    rows: impl std::fmt::Display,
) -> Error {
    let mut text = format!(
        "{rows} rows of the source have the key ({}) = ({values}), and `duplicateKeys` is `error`: nothing was changed",
        keys.join(", ")
    );
    if columns.iter().any(|column| keys.contains(&column.name) && is_collated(&column.native_type)) {
        text.push_str(&format!(
            ". Keys that the source tells apart may be equal in {table}, by the collation of its columns: give these one \
             that tells them apart too (a binary one; for blanks at the end one without padding)"
        ));
    }
    Error::new(ErrorKind::Data, text)
}

/// Whether values of a type of MySQL or SQL Server are compared by a collation.
fn is_collated(native_type: &str) -> bool {
    let name = native_type.trim_start().to_ascii_lowercase();
    // Not `datetimeoffset`.
    ["char", "text", "sysname", "variant"].iter().any(|part| name.contains(part))
        || ["enum", "set"].iter().any(|start| name.starts_with(start))
}

/// The keys of a target.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The target.
    pub table: &'a TableName,
    /// The columns that are written.
    pub written: &'a [&'a str],
    /// The primary key.
    pub primary: &'a [String],
    /// The columns of each unique key; `None` for a table that is only to be created.
    pub unique: Option<&'a [&'a [String]]>,
}

impl Keys<'_> {
    /// The columns by which an upsert tells which rows are equal.
    ///
    /// # Errors
    /// There are none, they are no unique key, or not all of them are written.
    pub fn of_upsert(&self, wanted: &[String], quoting: Quoting) -> Result<Vec<String>> {
        let table = self.table;
        let keys = if wanted.is_empty() { self.primary.to_vec() } else { resolve(wanted, self.written, quoting)? };
        if keys.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "`{table}` has no primary key, so an upsert cannot tell which rows are equal: add one, or name the \
                     columns of a unique key in `key`"
                ),
            ));
        }
        let same = |other: &&&[String]| other.len() == keys.len() && other.iter().all(|n| keys.contains(n));
        if self.unique.is_some_and(|unique| !unique.iter().any(|key| same(&key))) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("({}) is no unique key of `{table}`: an upsert needs one", keys.join(", ")),
            ));
        }
        let missing: Vec<&str> = keys.iter().map(String::as_str).filter(|k| !self.written.contains(k)).collect();
        if !missing.is_empty() {
            return Err(Error::new(
                ErrorKind::Schema,
                format!("an upsert needs its key columns, and gets no {}", missing.join(", ")),
            ));
        }
        Ok(keys)
    }
}

/// A table that foreign keys refer to, so that an overwrite leaves its rows where they are and compares them.
#[derive(Debug, Clone)]
pub struct Referenced<'a> {
    /// The tables that refer to it, and whether their rows go or change with it.
    pub by: Vec<(&'a str, bool)>,
    /// Its unique keys, the primary one among them.
    pub unique: Vec<&'a [String]>,
    /// Its columns, those left out that the server computes, and whether they take NULL.
    pub columns: Vec<(&'a str, bool)>,
    /// The columns that are written.
    pub written: Vec<&'a str>,
}

impl Referenced<'_> {
    /// The key by which rows are compared, and what a user should know.
    ///
    /// # Errors
    /// No key without NULLs is written.
    pub fn key(&self) -> Result<(Vec<String>, Vec<String>)> {
        let nullable = |name: &str| self.columns.iter().all(|(column, null)| *column != name || *null);
        let certain = |name: &String| self.written.contains(&name.as_str()) && !nullable(name);
        let names = |cascading: bool| -> Vec<&str> {
            self.by.iter().filter(|(_, cascades)| *cascades || !cascading).map(|(name, _)| *name).collect()
        };
        let Some(key) = self.unique.iter().find(|key| key.iter().all(certain)) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "foreign keys of {} refer to this table, so its rows are compared by a key and not all deleted, and \
                     no primary or unique key without NULLs is among the written columns: write such a key too, use \
                     upsert, or drop the foreign keys",
                    names(false).join(", ")
                ),
            ));
        };
        let mut warnings: Vec<String> = cascades(&names(true)).into_iter().collect();
        let kept = self.columns.iter().map(|(name, _)| *name).filter(|name| !self.written.contains(name));
        let kept = kept.collect::<Vec<_>>().join(", ");
        if !kept.is_empty() {
            warnings.push(format!("rows that stay keep their values of the columns not written: {kept}"));
        }
        Ok((key.to_vec(), warnings))
    }
}

/// What to know before rows are deleted that these tables refer to by foreign keys that delete or change theirs.
pub fn cascades(tables: &[&str]) -> Option<String> {
    (!tables.is_empty()).then(|| {
        format!(
            "rows that are missing in the source are deleted, and by their foreign keys rows of {} go or change with them",
            tables.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    fn own(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_part_of_the_sources_key_is_no_key() {
        let column = |name: &str, key| MappedColumn {
            name: name.into(),
            offers: vec![Field::new(name, DataType::Int64, true)],
            source_type: String::new(),
            nullable: false,
            key,
            comment: None,
        };
        let of = |columns: &[MappedColumn], wanted: &[&str]| of_new(&own(wanted), columns, Quoting::DOUBLE).unwrap();
        let whole = [column("b", Some(2)), column("a", Some(1)), column("c", None)];
        assert_eq!(of(&whole, &[]), ["a", "b"]);
        assert_eq!(of(&whole[..1], &[]), own(&[]));
        assert_eq!(of(&whole, &["\"C\""]), ["c"]);
        assert!(of_new(&own(&["d"]), &whole, Quoting::DOUBLE).unwrap_err().to_string().contains("key"));
    }

    #[test]
    fn only_texts_are_equal_by_a_collation() {
        let column = |name: &str, native_type: &str| PlannedColumn {
            name: name.into(),
            native_type: native_type.into(),
            input: Field::new(name, DataType::Utf8, true),
            warning: None,
        };
        let columns = [column("id", "int"), column("at", "datetimeoffset(3)"), column("k", "varchar(9)")];
        let said = |keys: &[&str]| equal_keys("t", (&columns, &own(keys)), "1", 2).message().to_owned();
        assert!(said(&["id", "k"]).contains("(id, k) = (1)") && said(&["id", "k"]).contains("collation"));
        assert!(!said(&["id", "at"]).contains("collation"), "{}", said(&["id", "at"]));
        assert!(["ENUM('a')", "set('a')", "longtext", "nvarchar(max)"].into_iter().all(is_collated));
    }

    #[test]
    fn an_upsert_needs_a_key_that_is_written() {
        let table = TableName::bare("t");
        let (primary, other) = (own(&["a", "b"]), own(&["c"]));
        let unique = [primary.as_slice(), other.as_slice()];
        let keys = Keys { table: &table, written: &["a", "b", "c"], primary: &primary, unique: Some(&unique) };
        let of = |keys: &Keys<'_>, wanted: &[&str]| keys.of_upsert(&own(wanted), Quoting::DOUBLE);
        assert_eq!(of(&keys, &[]).unwrap(), ["a", "b"]);
        assert_eq!(of(&keys, &["b", "A"]).unwrap(), ["b", "a"]);
        assert!(of(&keys, &["a"]).unwrap_err().message().contains("no unique key of `t`"));
        assert!(of(&Keys { unique: None, ..keys }, &["a"]).is_ok(), "a new table gets it");
        assert!(of(&Keys { written: &["a"], ..keys }, &[]).unwrap_err().message().contains("gets no b"));
        assert!(of(&Keys { primary: &[], ..keys }, &[]).unwrap_err().message().contains("no primary key"));
    }

    #[test]
    fn rows_that_others_refer_to_are_compared() {
        let (primary, other) = (own(&["a"]), own(&["b"]));
        let table = Referenced {
            by: vec![("lines", false), ("notes", true)],
            unique: vec![&primary, &other],
            columns: vec![("a", false), ("b", true), ("c", true)],
            written: vec!["a", "b"],
        };
        let (key, warnings) = table.key().unwrap();
        assert_eq!((key, warnings.len()), (primary.clone(), 2));
        assert!(warnings[0].contains("rows of notes go") && warnings[1].ends_with(": c"), "{warnings:?}");
        let error = Referenced { written: vec!["b"], ..table }.key().unwrap_err();
        assert!(error.message().contains("lines, notes refer"), "{error}");
    }
}
