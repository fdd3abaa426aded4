//! Identifiers: how a job writes them, how a system quotes them, how they are found in a catalogue.

use std::fmt;

use serde::{Deserialize, Serialize};
use weir_core::config::nearest;
use weir_core::{Error, ErrorKind, NameRules, Result};

/// A system's quotation marks for identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoting {
    /// The opening mark.
    pub open: char,
    /// The closing mark; written twice inside a name.
    pub close: char,
    /// Another mark that a job may write at both ends of a name.
    pub other: Option<char>,
}

impl Quoting {
    /// `"name"`: the SQL standard, PostgreSQL, SQLite.
    pub const DOUBLE: Self = Self { open: '"', close: '"', other: None };
    /// `` `name` ``: MySQL.
    pub const BACKTICK: Self = Self { open: '`', close: '`', other: None };
    /// `[name]`: SQL Server, which also reads `"name"`.
    pub const BRACKET: Self = Self { open: '[', close: ']', other: Some('"') };

    /// The identifier, always quoted.
    pub fn quote(self, name: &str) -> String {
        let mut text = String::with_capacity(name.len() + 2);
        text.push(self.open);
        for c in name.chars() {
            text.push(c);
            if c == self.close {
                text.push(c);
            }
        }
        text.push(self.close);
        text
    }

    /// A comma-separated list of quoted identifiers.
    pub fn quote_all<T: AsRef<str>>(self, names: impl IntoIterator<Item = T>) -> String {
        names.into_iter().map(|n| self.quote(n.as_ref())).collect::<Vec<_>>().join(", ")
    }

    /// Splits `a."b.c".d` at its unquoted dots and takes the quotation marks off. `None` when a mark is not closed, a
    /// part is empty, or text follows a closing mark.
    pub fn parts(self, text: &str) -> Option<Vec<String>> {
        Some(self.marked_parts(text)?.into_iter().map(|(part, _)| part).collect())
    }

    /// As [`parts`](Self::parts), each with whether it had quotation marks.
    fn marked_parts(self, text: &str) -> Option<Vec<(String, bool)>> {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        loop {
            let part;
            let marks = [Some((self.open, self.close)), self.other.map(|mark| (mark, mark))];
            let quoted = marks.into_iter().flatten().find_map(|(open, close)| Some((rest.strip_prefix(open)?, close)));
            let marked = quoted.is_some();
            if let Some((quoted, close)) = quoted {
                let mut name = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    let (at, c) = chars.next()?;
                    if c != close {
                        name.push(c);
                    } else if quoted[at + c.len_utf8()..].starts_with(close) {
                        name.push(c);
                        chars.next();
                    } else {
                        break at + c.len_utf8();
                    }
                };
                part = name;
                rest = &quoted[end..];
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                part = rest[..end].trim().to_owned();
                rest = &rest[end..];
            }
            if part.is_empty() {
                return None;
            }
            parts.push((part, marked));
            match rest.strip_prefix('.') {
                Some(next) => rest = next,
                None if rest.is_empty() => return Some(parts),
                None => return None,
            }
        }
    }

    /// The single identifier that `text` is, unquoted; a dot in it is part of the name.
    pub fn unquote(self, text: &str) -> String {
        let text = text.trim();
        match self.parts(text) {
            Some(parts) if parts.len() == 1 => parts.into_iter().next().unwrap_or_default(),
            _ => text.to_owned(),
        }
    }
}

/// A table as a job names it: a schema (in MySQL: a database), or the session's current one, and a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema; `None` for the session's current one.
    pub schema: Option<String>,
    /// The table's own name.
    pub name: String,
}

impl TableName {
    /// A table of the session's current schema.
    pub fn bare(name: impl Into<String>) -> Self {
        Self { schema: None, name: name.into() }
    }

    /// Reads a job's `table` entry.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) for anything but `name` or `schema.name`, quoted or not.
    pub fn parse(text: &str, quoting: Quoting) -> Result<Self> {
        Self::parse_marked(text, quoting).map(|(name, _)| name)
    }

    /// As [`parse`](Self::parse), with whether the schema and the name are quoted.
    ///
    /// # Errors
    /// As there.
    pub fn parse_marked(text: &str, quoting: Quoting) -> Result<(Self, [bool; 2])> {
        match quoting.marked_parts(text).as_deref() {
            Some([(name, quoted)]) => Ok((Self::bare(name), [false, *quoted])),
            Some([(schema, first), (name, second)]) => {
                Ok((Self { schema: Some(schema.clone()), name: name.clone() }, [*first, *second]))
            }
            _ => Err(Error::config(format!(
                "`{text}` is no table name: write name or schema.name, and put a part that contains a dot between {}{}",
                quoting.open, quoting.close
            ))),
        }
    }

    /// The name as generated SQL writes it.
    pub fn quoted(&self, quoting: Quoting) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoting.quote(schema), quoting.quote(&self.name)),
            None => quoting.quote(&self.name),
        }
    }

    /// A table of the same schema.
    pub fn sibling(&self, name: impl Into<String>) -> Self {
        Self { schema: self.schema.clone(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A name for one of Weir's own tables beside `table`, the same for every call of a run: at most 54 ASCII characters and
/// the suffix, so that it fits every system.
pub fn own_name(run_id: &str, table: &TableName, suffix: &str) -> String {
    // A run id that somebody typed may be anything. Nothing is taken out of it, for that would make two runs one.
    let plain = run_id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let run = if plain && (1..=32).contains(&run_id.len()) { run_id.into() } else { format!("{:016x}", fnv(run_id)) };
    // A job of several tables has one run.
    format!("weir_{run}_{:016x}{suffix}", fnv(&table.to_string()))
}

/// FNV-1a: short, and the same everywhere and for ever.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Refuses a table that is not there, and is to be made with these columns, where the system has no names so long: PostgreSQL
/// cuts them without a word, and the table is to be found under neither name then.
///
/// # Errors
/// [`Config`](ErrorKind::Config) with what to do.
pub fn refuse_long<'a>(table: &TableName, columns: impl IntoIterator<Item = &'a str>, rules: &NameRules) -> Result<()> {
    if let Some(fault) = rules.size_fault(&table.name) {
        let message =
            format!("the table name `{}` does not fit: {fault}; give the writer's `table` another one", table.name);
        return Err(Error::config(message));
    }
    let fault = columns.into_iter().find_map(|name| Some((name, rules.size_fault(name)?)));
    let Some((name, fault)) = fault else { return Ok(()) };
    Err(Error::config(format!(
        "the column name `{name}` does not fit: {fault}; give it another one in the writer's `column`"
    )))
}

/// Finds `wanted` among `names`: exactly, else case-insensitively if only one name matches so.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) with the nearest name, or [`Config`](ErrorKind::Config) when several names differ
/// only in case. `what` is the kind of thing, `column` or `table`.
pub fn find_name<'a>(what: &'static str, wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<usize> {
    if let Some(index) = names.clone().position(|n| n == wanted) {
        return Ok(index);
    }
    let lower = wanted.to_lowercase();
    let mut matches = names.clone().enumerate().filter(|(_, n)| n.to_lowercase() == lower);
    match (matches.next(), matches.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some((_, a)), Some((_, b))) => Err(Error::config(format!(
            "{what} `{wanted}` is ambiguous: `{a}` and `{b}` differ only in case; write one of them exactly"
        ))),
        _ => Err(no_such(what, wanted, names.clone())),
    }
}

/// Finds `wanted` among `names` as it is written.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) with the nearest name.
pub fn find_exact<'a>(what: &'static str, wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<usize> {
    names.clone().position(|name| name == wanted).ok_or_else(|| no_such(what, wanted, names))
}

/// That there is no `wanted` among `names`, and which of them is nearest to it.
pub fn no_such<'a>(what: &str, wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> Error {
    let hint = match nearest(wanted, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let shown: Vec<_> = names.clone().take(20).collect();
            let more = if names.count() > shown.len() { ", …" } else { "" };
            if shown.is_empty() { "there are none".into() } else { format!("there are: {}{more}", shown.join(", ")) }
        }
    };
    Error::new(ErrorKind::NotFound, format!("no such {what}: `{wanted}`; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_read_in_the_systems_own_style() {
        let name = |t: &str| TableName::parse(t, Quoting::DOUBLE).map(|t| (t.schema, t.name)).ok();
        assert_eq!(name("orders"), Some((None, "orders".into())));
        assert_eq!(name("shop.orders"), Some((Some("shop".into()), "orders".into())));
        assert_eq!(name(r#""a.b"."c ""d""""#), Some((Some("a.b".into()), "c \"d\"".into())));
        assert_eq!(name("a.b.c"), None);
        assert_eq!(name("\"open"), None);
        assert_eq!(TableName::parse("`x`.`y`", Quoting::BACKTICK).unwrap().quoted(Quoting::BACKTICK), "`x`.`y`");
        assert_eq!(Quoting::BRACKET.quote("a]b"), "[a]]b]");
        let either = |t: &str| TableName::parse(t, Quoting::BRACKET).map(|t| t.quoted(Quoting::BRACKET)).ok();
        for text in ["dbo.[a.\"b]", r#""dbo"."a.""b""#, r#"[dbo]."a.""b""#] {
            assert_eq!(either(text).as_deref(), Some("[dbo].[a.\"b]"), "{text}");
        }
        assert_eq!((either("\"a]\""), either("\"a")), (Some("[a]]]".into()), None));
        assert_eq!(Quoting::BRACKET.unquote("\"a b\""), "a b");
    }

    #[test]
    fn names_match_exactly_or_without_case_when_unique() {
        let names = ["Id", "name", "NAME", "total"];
        let find = |w| find_name("column", w, names.iter().copied());
        assert_eq!(find("NAME").unwrap(), 2);
        assert_eq!(find("id").unwrap(), 0);
        assert!(find("Name").unwrap_err().message().contains("ambiguous"));
        assert!(find("totl").unwrap_err().message().contains("did you mean `total`"));
        let exact = |w| find_exact("column", w, names.iter().copied());
        assert_eq!(exact("NAME").unwrap(), 2);
        assert!(exact("id").unwrap_err().message().contains("did you mean `Id`"));
    }

    #[test]
    fn own_names_are_short_and_differ_by_run_and_table() {
        let name = |run: &str, table: &str| own_name(run, &TableName::bare(table), "_s");
        assert_eq!(name("0197f2c0aaaa7bbb8cccddddeeeeffff", "a").len(), 54 + 2);
        assert_ne!(name("r", "a"), name("r", "b"));
        assert!(name("a-1", "t") != name("a1", "t") && name("A", "t") != name("a", "t"));
        assert!(name(&"x".repeat(120), "t").len() < 56);
    }
}
