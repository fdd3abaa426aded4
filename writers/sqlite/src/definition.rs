//! The text of a `CREATE TABLE`, changed in one place and left as it was in all others.
//!
//! SQLite cannot alter a column's type, but it keeps the text that made the table: with that text changed, the table is
//! made anew.

/// A place in a text.
type Span = std::ops::Range<usize>;

/// What is to be other in one column's definition.
#[derive(Debug, Clone, Default)]
pub struct ColumnEdit {
    /// The column.
    pub name: String,
    /// Its declared type from now on.
    pub declared: Option<String>,
    /// Whether it takes NULL from now on.
    pub allow_null: bool,
}

/// The definition with the edits made; `None` when a column is not found in it.
pub fn edited(sql: &str, edits: &[ColumnEdit]) -> Option<String> {
    let items = items(sql)?;
    let mut changes: Vec<(Span, String)> = Vec::new();
    for edit in edits {
        let tokens = items.iter().map(|item| tokens(sql, item.clone())).find(|tokens| {
            tokens.first().is_some_and(|name| unquoted(&sql[name.clone()]).eq_ignore_ascii_case(&edit.name))
        })?;
        let word = |at: usize| tokens.get(at).map(|span| sql[span.clone()].to_ascii_uppercase());
        let end = (1..tokens.len()).find(|at| word(*at).is_some_and(|w| is_constraint(&w))).unwrap_or(tokens.len());
        if let Some(declared) = &edit.declared {
            let name = tokens[0].end;
            let span = if end > 1 { tokens[1].start..tokens[end - 1].end } else { name..name };
            let space = if end > 1 { "" } else { " " };
            changes.push((span, format!("{space}{declared}")));
        }
        if edit.allow_null
            && let Some(at) = (end..tokens.len())
                .find(|at| word(*at).as_deref() == Some("NOT") && word(at + 1).as_deref() == Some("NULL"))
        {
            // `NULL ON CONFLICT …` is right too.
            changes.push((tokens[at].start..tokens[at + 1].end, "NULL".into()));
        }
    }
    changes.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = sql.to_owned();
    for (span, new) in changes {
        text.replace_range(span, &new);
    }
    Some(text)
}

/// The definition with a constraint more at its end.
pub fn with_constraint(sql: &str, constraint: &str) -> Option<String> {
    let end = items(sql)?.last()?.end;
    Some(format!("{}, {constraint}{}", &sql[..end], &sql[end..]))
}

fn is_constraint(word: &str) -> bool {
    matches!(
        word,
        "CONSTRAINT"
            | "PRIMARY"
            | "NOT"
            | "NULL"
            | "UNIQUE"
            | "CHECK"
            | "DEFAULT"
            | "COLLATE"
            | "REFERENCES"
            | "GENERATED"
            | "AS"
    )
}

/// The definitions between the outermost parentheses.
fn items(sql: &str) -> Option<Vec<Span>> {
    let (mut depth, mut start) = (0, None);
    let mut items = Vec::new();
    let mut at = 0;
    while at < sql.len() {
        let end = next(sql, at);
        match &sql[at..end] {
            "(" => {
                depth += 1;
                if depth == 1 {
                    start = Some(end);
                }
            }
            ")" => {
                depth -= 1;
                if depth == 0 {
                    items.push(start?..at);
                    return Some(items);
                }
            }
            "," if depth == 1 => {
                items.push(start?..at);
                start = Some(end);
            }
            _ => {}
        }
        at = end;
    }
    None
}

/// Words, quoted names and texts, and whole parentheses, in a part of the text.
fn tokens(sql: &str, part: Span) -> Vec<Span> {
    let mut tokens: Vec<Span> = Vec::new();
    let (mut at, mut depth) = (part.start, 0);
    while at < part.end {
        let end = next(sql, at).min(part.end);
        let text = &sql[at..end];
        let skipped = text.starts_with("--") || text.starts_with("/*") || text.trim().is_empty();
        if depth > 0 {
            if let Some(open) = tokens.last_mut() {
                open.end = end;
            }
        } else if !skipped {
            tokens.push(at..end);
        }
        match text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        at = end;
    }
    tokens
}

/// The end of the piece that begins at `at`: a comment, a quoted text, a word, or one character.
fn next(sql: &str, at: usize) -> usize {
    let rest = &sql[at..];
    let until = |mark: &str, from: usize| rest[from..].find(mark).map_or(sql.len(), |i| at + from + i + mark.len());
    if rest.starts_with("--") {
        return until("\n", 2);
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    let Some(first) = rest.chars().next() else { return sql.len() };
    match first {
        '[' => until("]", 1),
        '"' | '\'' | '`' => {
            let mut from = 1;
            loop {
                let Some(i) = rest[from..].find(first) else { return sql.len() };
                from += i + 1;
                // Twice the mark is the mark itself.
                if !rest[from..].starts_with(first) {
                    return at + from;
                }
                from += 1;
            }
        }
        c if is_word(c) => at + rest.find(|c: char| !is_word(c)).unwrap_or(rest.len()),
        c => at + c.len_utf8(),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn unquoted(token: &str) -> String {
    let mut chars = token.chars();
    match (chars.next(), chars.next_back()) {
        (Some('['), Some(']')) => chars.as_str().to_owned(),
        (Some(open @ ('"' | '\'' | '`')), Some(close)) if open == close => {
            chars.as_str().replace(&format!("{open}{open}"), &open.to_string())
        }
        _ => token.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_column_changes_and_all_else_stays() {
        let sql = "CREATE TABLE \"t(\" (id INTEGER PRIMARY KEY, -- the, id\n  \"a \"\"b\" DECIMAL (10, 2) /* , */ NOT NULL \
                   DEFAULT (1+1), [c] NOT  NULL ON CONFLICT IGNORE, CHECK (id > 0)) STRICT";
        let edit = |name: &str, declared: Option<&str>, allow_null| ColumnEdit {
            name: name.into(),
            declared: declared.map(Into::into),
            allow_null,
        };
        let changed =
            edited(sql, &[edit("C", Some("TEXT"), true), edit("a \"b", Some("DECIMAL(12,2)"), true)]).unwrap();
        assert_eq!(
            changed,
            "CREATE TABLE \"t(\" (id INTEGER PRIMARY KEY, -- the, id\n  \"a \"\"b\" DECIMAL(12,2) /* , */ NULL \
             DEFAULT (1+1), [c] TEXT NULL ON CONFLICT IGNORE, CHECK (id > 0)) STRICT"
        );
        assert_eq!(edited(sql, &[edit("d", None, true)]), None);
        assert_eq!(with_constraint("CREATE TABLE t(a, b)", "UNIQUE (a)").unwrap(), "CREATE TABLE t(a, b, UNIQUE (a))");
    }

    #[test]
    fn words_in_texts_are_no_constraints() {
        let sql = "CREATE TABLE t(a VARCHAR(5) DEFAULT 'NOT NULL' NOT NULL)";
        let edit = ColumnEdit { name: "a".into(), declared: Some("TEXT".into()), allow_null: true };
        assert_eq!(edited(sql, &[edit]).unwrap(), "CREATE TABLE t(a TEXT DEFAULT 'NOT NULL' NULL)");
    }
}
