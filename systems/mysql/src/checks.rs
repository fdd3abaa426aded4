//! The CHECK constraints of a table, as SHOW CREATE TABLE writes them: what the information schema says of them is not always
//! SQL.

use mysql_async::Row;
use weir_core::Result;
use weir_sql::TableName;

use crate::QUOTING;
use crate::connection::Session;

/// A CHECK constraint that the server enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Its expression, in parentheses.
    pub expression: String,
    /// The names in it.
    pub columns: Vec<String>,
}

/// The CHECK constraints of a table.
///
/// # Errors
/// The server's.
pub async fn check_constraints(session: &mut Session, table: &TableName) -> Result<Vec<Constraint>> {
    let rows: Vec<Row> = session.rows(&format!("SHOW CREATE TABLE {}", table.quoted(QUOTING))).await?;
    let text = rows.first().and_then(|row| row.get_opt::<String, _>(1)?.ok());
    Ok(text.map(|text| constraints(&text)).unwrap_or_default())
}

/// A piece of a statement.
enum Piece<'a> {
    Open,
    Close,
    /// A name, without its marks.
    Name(String),
    /// Letters and digits.
    Word(&'a str),
    /// A text, a comment, a sign.
    Other,
}

/// Where the piece that begins at `at` ends, and what it is.
fn piece(sql: &str, at: usize) -> (usize, Piece<'_>) {
    let rest = &sql[at..];
    let end = |length: usize| at + length;
    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
    match rest.chars().next() {
        Some('(') => (end(1), Piece::Open),
        Some(')') => (end(1), Piece::Close),
        Some('`') => {
            let length = quoted(rest, '`');
            (end(length), Piece::Name(QUOTING.unquote(&rest[..length])))
        }
        Some(mark @ ('\'' | '"')) => (end(quoted(rest, mark)), Piece::Other),
        Some(_) if word > 0 => (end(word), Piece::Word(&rest[..word])),
        Some(c) => (end(c.len_utf8()), Piece::Other),
        None => (at, Piece::Other),
    }
}

/// How long the text between `mark`s is, with them. One inside is written twice, and in texts also behind a backslash.
fn quoted(text: &str, mark: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && mark != '`' {
            chars.next();
        } else if c == mark && chars.next_if(|(_, next)| *next == mark).is_none() {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// The constraints in the text of a CREATE TABLE: of columns and of the table alike they stand between its parentheses.
fn constraints(create: &str) -> Vec<Constraint> {
    let (mut found, mut at, mut depth, mut check) = (Vec::new(), 0, 0_usize, false);
    while at < create.len() {
        let (end, piece) = piece(create, at);
        match piece {
            Piece::Open if check && depth == 1 => {
                let (end, constraint) = constraint(create, at);
                let enforced = !create[end..].trim_start().starts_with("/*!80016 NOT ENFORCED");
                found.extend(enforced.then_some(constraint));
                at = end;
                check = false;
                continue;
            }
            Piece::Open => depth += 1,
            Piece::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        let blank = create[at..end].trim().is_empty();
        check = matches!(piece, Piece::Word(word) if word.eq_ignore_ascii_case("CHECK")) || (check && blank);
        at = end;
    }
    found
}

/// The expression whose parenthesis opens at `start`, and where it ends.
fn constraint(sql: &str, start: usize) -> (usize, Constraint) {
    let (mut at, mut depth, mut columns) = (start, 0_usize, Vec::new());
    while at < sql.len() {
        let (end, piece) = piece(sql, at);
        at = end;
        match piece {
            Piece::Open => depth += 1,
            Piece::Close => depth -= 1,
            Piece::Name(name) if !columns.contains(&name) => columns.push(name),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    (at, Constraint { expression: sql[start..at].to_owned(), columns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_constraints_are_found() {
        let of = |create: &str| {
            let found = constraints(create).into_iter();
            found.map(|c| format!("{} of {}", c.expression, c.columns.join(","))).collect::<Vec<_>>()
        };
        let mariadb = "CREATE TABLE `CHECK (a)` (\n  `a` int(11) DEFAULT 1 CHECK (`a` > 0),\n  `b``b` varchar(9) DEFAULT ') \
                       CHECK (1' COMMENT 'it''s CHECK (\\'x\\')',\n  `c` int(11) GENERATED ALWAYS AS (`a` + (1)) VIRTUAL,\n  \
                       PRIMARY KEY (`a`),\n  CONSTRAINT `check` CHECK (`b``b` in ('(', 'it''s \\')') and `a` < \
                       octet_length(`b``b`))\n) ENGINE=InnoDB";
        assert_eq!(
            of(mariadb),
            ["(`a` > 0) of a", "(`b``b` in ('(', 'it''s \\')') and `a` < octet_length(`b``b`)) of b`b,a"]
        );
        let mysql = "CREATE TABLE `t` (\n  `k` int NOT NULL,\n  `s` varchar(5) DEFAULT NULL,\n  CONSTRAINT `tc` CHECK ((`k` >= \
                     0)),\n  CONSTRAINT `off` CHECK ((`k` > 5)) /*!80016 NOT ENFORCED */,\n  CONSTRAINT `ts` CHECK ((`s` in \
                     (_utf8mb4'ä)',_utf8mb4'b'))),\n  CONSTRAINT `one` CHECK ((1 = 1))\n) ENGINE=InnoDB";
        assert_eq!(of(mysql), ["((`k` >= 0)) of k", "((`s` in (_utf8mb4'ä)',_utf8mb4'b'))) of s", "((1 = 1)) of "]);
        assert_eq!(of("CREATE TABLE `t` (`k` int CHECK (`k"), ["(`k of `k"]);
    }
}
