//! Patterns over names of databases, schemas and tables.

use regex::{Regex, RegexBuilder};
use weir_core::{LetterCase, ObjectName, glob};

/// The most that a compiled expression may take, in bytes: an expression from a job file must not fill the memory.
const MAX_EXPRESSION: usize = 1 << 20;

/// `database.schema.table`, each part a glob or a regular expression.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    /// From left to right; one to three.
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Glob(String),
    /// Between quotation marks: just this name.
    Name(String),
    Expression(Regex, Regex),
}

/// What the parts that a pattern leaves out mean: the connection's own.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The database; any where the connection has none.
    pub database: Option<&'a str>,
    /// The schema.
    pub schema: Option<&'a str>,
    /// Whether the case of letters matters.
    pub case: LetterCase,
}

impl Pattern {
    /// Whether it says of which database.
    pub fn names_database(&self) -> bool {
        self.parts.len() == 3
    }

    /// Whether it looks for tables in the database of this name; `false` where it leaves the database out.
    pub fn looks_into(&self, database: &str) -> bool {
        self.names_database() && self.parts[0].matches(database, LetterCase::Ignore)
    }

    /// Whether it means everything in the database of this name.
    pub fn is_all_of(&self, database: &str) -> bool {
        self.looks_into(database) && self.parts[1..].iter().all(|part| matches!(part, Part::Glob(text) if text == "*"))
    }

    /// Reads a pattern. A part between slashes is a regular expression for the whole part, one between quotation marks (`"a.b"`,
    /// `` `a.b` ``) is a name as it stands.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        loop {
            let (part, after) = part(rest).map_err(|fault| format!("`{text}` is no pattern: {fault}"))?;
            parts.push(part);
            match after.trim_start().strip_prefix('.') {
                Some(next) => rest = next.trim_start(),
                None if after.trim().is_empty() => break,
                None => return Err(format!("`{text}` is no pattern: a dot is missing before `{}`", after.trim())),
            }
        }
        if parts.len() > 3 {
            return Err(format!("`{text}` has {} parts: a pattern is database.schema.table at most", parts.len()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether it names one table, without any sign that stands for others.
    pub fn is_name(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Name(_) => true,
            Part::Glob(text) => !text.contains(['*', '?']),
            Part::Expression(..) => false,
        })
    }

    /// Whether it names a table of Weir's own, which no job takes.
    pub fn is_reserved(&self) -> bool {
        let table = match self.parts.last() {
            Some(Part::Name(text) | Part::Glob(text)) => text,
            _ => return false,
        };
        self.is_name() && table.to_lowercase().starts_with("weir_")
    }

    /// Whether a table matches.
    pub fn matches(&self, name: &ObjectName, own: Own<'_>) -> bool {
        let mut parts = self.parts.iter().rev();
        let same = |a: &str, b: &str| match own.case {
            LetterCase::Exact => a == b,
            LetterCase::Ignore => a.to_lowercase() == b.to_lowercase(),
        };
        let mut next = |value: &str, default: Option<&str>| match parts.next() {
            Some(part) => part.matches(value, own.case),
            None => default.is_none_or(|own| same(own, value)),
        };
        let table = next(&name.table, None);
        let schema = name.schema.as_ref().is_none_or(|schema| next(schema, own.schema));
        let database = next(&name.database, own.database);
        // A third part where there are no schemas names nothing.
        table && schema && database && parts.next().is_none()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Part {
    fn matches(&self, name: &str, case: LetterCase) -> bool {
        match (self, case) {
            (Self::Glob(pattern), _) => glob(pattern, name, case),
            (Self::Name(own), LetterCase::Exact) => own == name,
            (Self::Name(own), LetterCase::Ignore) => own.to_lowercase() == name.to_lowercase(),
            (Self::Expression(exact, _), LetterCase::Exact) => exact.is_match(name),
            (Self::Expression(_, any), LetterCase::Ignore) => any.is_match(name),
        }
    }
}

/// The first part, and what follows it.
fn part(text: &str) -> Result<(Part, &str), String> {
    for mark in ['"', '`'] {
        if let Some(inner) = text.strip_prefix(mark) {
            let end = inner.find(mark).ok_or_else(|| format!("the {mark} is not closed"))?;
            return Ok((Part::Name(inner[..end].to_owned()), &inner[end + 1..]));
        }
    }
    let Some(inner) = text.strip_prefix('/') else {
        let end = text.find('.').unwrap_or(text.len());
        let glob = text[..end].trim();
        if glob.is_empty() {
            return Err("a part is empty".into());
        }
        return Ok((Part::Glob(glob.to_owned()), &text[end..]));
    };
    let mut escaped = false;
    let end = inner.char_indices().find(|(_, c)| {
        let ends = *c == '/' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let (end, _) = end.ok_or_else(|| "the closing / of a regular expression is missing".to_owned())?;
    let compile = |case: bool| {
        let whole = format!("^(?:{})$", inner[..end].replace("\\/", "/"));
        let built = RegexBuilder::new(&whole).case_insensitive(case).size_limit(MAX_EXPRESSION).build();
        built.map_err(|error| format!("/{}/: {error}", &inner[..end]))
    };
    Ok((Part::Expression(compile(false)?, compile(true)?), &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MYSQL: Own<'_> = Own { database: Some("shop"), schema: None, case: LetterCase::Ignore };
    const PG: Own<'_> = Own { database: Some("dw"), schema: Some("public"), case: LetterCase::Exact };

    fn name(parts: &[&str]) -> ObjectName {
        let text = |at: usize| parts[at].to_owned();
        match parts.len() {
            2 => ObjectName { database: text(0), schema: None, table: text(1) },
            _ => ObjectName { database: text(0), schema: Some(text(1)), table: text(2) },
        }
    }

    #[test]
    fn parts_are_globs_or_expressions_and_missing_ones_are_the_connections_own() {
        let yes = |pattern: &str, parts: &[&str], own| {
            assert!(Pattern::parse(pattern).unwrap().matches(&name(parts), own), "{pattern} {parts:?}");
        };
        let no = |pattern: &str, parts: &[&str], own| {
            assert!(!Pattern::parse(pattern).unwrap().matches(&name(parts), own), "{pattern} {parts:?}");
        };
        yes("shop.*", &["shop", "orders"], MYSQL);
        yes("*", &["shop", "Orders"], MYSQL);
        no("*", &["other", "orders"], MYSQL);
        yes("ORDERS", &["shop", "orders"], MYSQL);
        yes("/shop_[0-9]+/./orders_[0-9]+/", &["shop_12", "orders_07"], MYSQL);
        no("/shop_[0-9]+/./orders_[0-9]+/", &["shop_12", "orders_07_old"], MYSQL);
        no("a.shop.orders", &["shop", "orders"], MYSQL);
        yes("orders", &["dw", "public", "orders"], PG);
        no("orders", &["dw", "sales", "orders"], PG);
        no("Orders", &["dw", "public", "orders"], PG);
        yes("sales.o?ders", &["dw", "sales", "orders"], PG);
        yes("*.*", &["dw", "sales", "orders"], PG);
        no("other.*.*", &["dw", "sales", "orders"], PG);
        yes("\"a.b\".`c/d`", &["dw", "a.b", "c/d"], PG);
        yes("/a\\/b|c/", &["dw", "public", "a/b"], PG);
        yes("/a.b/ . t*", &["dw", "axb", "t1"], PG);
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for (text, fault) in [
            ("", "empty"),
            ("a..b", "empty"),
            ("/a", "closing /"),
            ("/(/", "/(/"),
            ("\"a", "not closed"),
            ("a.b.c.d", "4 parts"),
            ("/a/b", "a dot is missing"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(fault), "{text}: {error}");
        }
        assert!(Pattern::parse("shop.orders").unwrap().is_name());
        let looks_into = |pattern: &str, database: &str| Pattern::parse(pattern).unwrap().looks_into(database);
        assert!(looks_into("/shop_[0-9]+/.dbo.*", "SHOP_7") && !looks_into("/shop_[0-9]+/.dbo.*", "shop_x"));
        assert!(looks_into("\"a.b\".*.*", "a.b") && !looks_into("shop.*", "shop"));
        let is_all_of = |pattern: &str| Pattern::parse(pattern).unwrap().is_all_of("shop");
        assert!(is_all_of("sh*.*.*") && !is_all_of("shop.dbo.*") && !is_all_of("*.*"));
        assert!(!Pattern::parse("shop.order?").unwrap().is_name() && !Pattern::parse("/a/").unwrap().is_name());
    }
}
