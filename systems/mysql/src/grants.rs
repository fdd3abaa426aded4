//! What the session's user may do, as `SHOW GRANTS` tells it.

use weir_core::{ErrorKind, Result};

use crate::connection::Session;

/// The privileges of a session: the user's own and those of its active roles.
#[derive(Debug, Clone, Default)]
pub struct Grants(Vec<Grant>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    /// A REVOKE: MySQL's partial revokes take databases out of a global privilege.
    revoked: bool,
    /// Upper case; `ALL PRIVILEGES` for all of them.
    privileges: Vec<String>,
    scope: Scope,
    /// The user or role, as it is written.
    grantee: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Global,
    /// A pattern: `_` and `%` stand for characters unless a backslash is before them.
    Database(String),
    Table(String, String),
}

/// Asks the server; `None` where it does not tell.
///
/// # Errors
/// The run was stopped, or the connection is gone.
pub async fn grants(session: &mut Session) -> Result<Option<Grants>> {
    match session.rows::<String>("SHOW GRANTS").await {
        Ok(lines) => Ok(Some(Grants::of(lines.iter().map(String::as_str)))),
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout) => {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

impl Grants {
    fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(lines.into_iter().filter_map(Grant::parse).collect())
    }

    /// Whether `privilege` is there for a table, which need not exist.
    pub fn allow(&self, privilege: &str, database: &str, table: &str) -> bool {
        let has = |grant: &&Grant| grant.privileges.iter().any(|p| p == "ALL PRIVILEGES" || p == privilege);
        let revoked = self.0.iter().filter(|g| g.revoked).filter(has).any(|g| match &g.scope {
            Scope::Database(name) => matches(name, database),
            _ => false,
        });
        let granted = || self.0.iter().filter(|g| !g.revoked);
        if !revoked && granted().filter(has).any(|g| g.scope == Scope::Global) {
            return true;
        }
        let on_table = |g: &Grant| match &g.scope {
            Scope::Table(d, t) => d == database && t == table,
            _ => false,
        };
        if granted().filter(has).any(on_table) {
            return true;
        }
        // Of several patterns that fit a database, the server takes the most exact one of each user or role.
        granted().filter(has).any(|g| match &g.scope {
            Scope::Database(pattern) if matches(pattern, database) => !granted().any(|other| match &other.scope {
                Scope::Database(better) => {
                    other.grantee == g.grantee && exactness(better) > exactness(pattern) && matches(better, database)
                }
                _ => false,
            }),
            _ => false,
        })
    }
}

impl Grant {
    /// ``GRANT SELECT, INSERT (`a`) ON `d`.* TO `user`@`%` WITH GRANT OPTION``
    fn parse(line: &str) -> Option<Self> {
        let (revoked, rest) = match line.strip_prefix("GRANT ") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("REVOKE ")?),
        };
        // A line without ON grants a role, whose privileges stand in lines of their own.
        let (privileges, rest) = rest.split_once(" ON ")?;
        let rest = rest.strip_prefix("TABLE ").unwrap_or(rest);
        let (object, rest) = identifier(rest)?;
        let (part, rest) = identifier(rest.strip_prefix('.')?)?;
        let scope = match (object.as_str(), part.as_str()) {
            ("*", "*") => Scope::Global,
            (_, "*") => Scope::Database(object),
            _ => Scope::Table(object, part),
        };
        let grantee = rest.trim_start().trim_start_matches("TO ").trim_start_matches("FROM ");
        let grantee = grantee.split(" WITH ").next().unwrap_or(grantee);
        let grantee = grantee.split(" IDENTIFIED ").next().unwrap_or(grantee);
        Some(Self { revoked, privileges: names(privileges), scope, grantee: grantee.trim().to_owned() })
    }
}

/// The privileges of a list that are granted for all columns.
fn names(list: &str) -> Vec<String> {
    let (mut all, mut depth, mut name) = (Vec::new(), 0, String::new());
    for c in list.chars().chain([',']) {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            // What is left of a privilege on single columns ends in a space: `INSERT (a)`.
            ',' if depth == 0 => all.push(std::mem::take(&mut name)),
            _ if depth == 0 => name.push(c),
            _ => {}
        }
    }
    all.into_iter().filter(|n| !n.ends_with(' ')).map(|n| n.trim().to_uppercase()).collect()
}

/// A quoted or bare identifier at the start, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('`') else {
        let end = text.find(['.', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('`')?;
        name.push_str(part);
        match after.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// How many characters stand before the first wildcard.
fn exactness(pattern: &str) -> usize {
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '%' | '_' if !escaped => return at,
            _ => escaped = false,
        }
    }
    usize::MAX
}

/// `LIKE`, without regard to case: servers differ in it, and a privilege that is missing shows itself in time.
fn matches(pattern: &str, name: &str) -> bool {
    fn like(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('%', rest)), _) => like(rest, name) || (!name.is_empty() && like(pattern, &name[1..])),
            (Some(('_', rest)), Some((_, name))) => like(rest, name),
            (Some(('\\', rest)), Some((c, name))) if !rest.is_empty() => rest[0] == *c && like(&rest[1..], name),
            (Some((p, rest)), Some((c, name))) => p == c && like(rest, name),
            _ => false,
        }
    }
    let chars = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    like(&chars(pattern), &chars(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_are_matched_exactly() {
        let may =
            |lines: &[&str], privilege: &str| Grants::of(lines.iter().copied()).allow(privilege, "shop_db", "orders");
        let all = "GRANT ALL PRIVILEGES ON *.* TO `w`@`%` IDENTIFIED BY PASSWORD '*X' WITH GRANT OPTION";
        assert!(may(&[all], "CREATE"));
        assert!(!may(&["GRANT USAGE ON *.* TO `w`@`%`"], "CREATE"));
        // Privileges whose names only contain the word.
        assert!(!may(&["GRANT CREATE VIEW, CREATE USER, SELECT ON *.* TO `w`@`%`"], "CREATE"));
        assert!(may(&["GRANT SELECT, CREATE ON `shop\\_db`.* TO `w`@`%`"], "CREATE"));
        assert!(may(&["GRANT CREATE ON `shop%`.* TO `w`@`%`"], "CREATE"));
        assert!(!may(&["GRANT CREATE ON `shop\\_d`.* TO `w`@`%`", "GRANT CREATE ON `x`.* TO `w`@`%`"], "CREATE"));
        assert!(may(&["GRANT CREATE, INSERT (`a`, `b,c`) ON `shop_db`.`orders` TO `w`@`%`"], "CREATE"));
        assert!(!may(&["GRANT CREATE, INSERT (`a`, `b,c`) ON `shop_db`.`orders` TO `w`@`%`"], "INSERT"));
        assert!(!may(&["GRANT CREATE ON `shop_db`.`orders_2` TO `w`@`%`"], "CREATE"));
        assert!(!may(&["GRANT `writer`@`%` TO `w`@`%`"], "CREATE"));
        // An active role, in MariaDB.
        assert!(may(&["GRANT `writer` TO `w`@`%`", "GRANT CREATE ON `shop_db`.* TO `writer`"], "CREATE"));
        // The most exact pattern holds alone.
        let two = ["GRANT CREATE ON `shop%`.* TO `w`@`%`", "GRANT SELECT ON `shop\\_db`.* TO `w`@`%`"];
        assert!(!may(&two, "CREATE") && may(&two, "SELECT"));
        let revoked = ["GRANT CREATE, SELECT ON *.* TO `w`@`%`", "REVOKE CREATE ON `shop_db`.* FROM `w`@`%`"];
        assert!(!may(&revoked, "CREATE") && may(&revoked, "SELECT"));
    }
}
