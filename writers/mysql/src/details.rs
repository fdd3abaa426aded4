//! What a new column takes over from its source besides its type: default, numbering, comment.

use weir_core::{ColumnDefault, MappedColumn, TableDescription};
use weir_mysql::{Kind, Server, escape};
use weir_sql::defaults::{DefaultKind, PlainDefault, carried};

/// The most characters of a column's and of a table's comment.
const LONGEST_COMMENT: (usize, usize) = (1024, 2048);

/// What stands behind a new column's type: ` DEFAULT 0`, ` AUTO_INCREMENT`, ` COMMENT '…'`, or nothing. `numbered` says
/// whether it may number itself: only the first column of a key can.
pub(crate) fn behind_type(
    column: &MappedColumn,
    described: Option<&TableDescription>,
    type_text: &str,
    numbered: bool,
    server: &Server,
) -> String {
    let described = described.and_then(|d| d.column(&column.name));
    let identity = described.is_some_and(|d| d.identity.is_some());
    let mut text = match described.and_then(|d| d.default.as_ref()) {
        _ if identity && numbered && matches!(Kind::parse(type_text), Kind::Int { .. }) => " AUTO_INCREMENT".to_owned(),
        Some(default) if !identity => default_text(default, type_text, server),
        _ => String::new(),
    };
    text.push_str(&comment(column));
    text
}

/// ` DEFAULT …`, where the type takes it; else nothing.
pub(crate) fn default_text(default: &ColumnDefault, type_text: &str, server: &Server) -> String {
    default_sql(default, type_text, server).map_or_else(String::new, |sql| format!(" DEFAULT {sql}"))
}

/// ` COMMENT '…'`, or nothing.
pub(crate) fn comment(column: &MappedColumn) -> String {
    match &column.comment {
        Some(text) if !text.is_empty() => format!(" COMMENT {}", escape(&shortened(text, LONGEST_COMMENT.0))),
        _ => String::new(),
    }
}

/// The table's comment as one of its options, or nothing.
pub(crate) fn table_comment(described: Option<&TableDescription>) -> String {
    match described.and_then(|d| d.comment.as_ref()) {
        Some(text) if !text.is_empty() => format!(" COMMENT={}", escape(&shortened(text, LONGEST_COMMENT.1))),
        _ => String::new(),
    }
}

fn shortened(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

fn default_sql(default: &ColumnDefault, type_text: &str, server: &Server) -> Option<String> {
    let kind = Kind::parse(type_text);
    let expressions = has_expressions(server);
    if let weir_core::Family::Labels(labels) = kind.family(type_text) {
        return match default {
            ColumnDefault::Literal(label) if labels.contains(label) => Some(escape(label)),
            _ => None,
        };
    }
    let takes = match kind {
        Kind::Bit(1) => DefaultKind::Boolean,
        Kind::Int { .. } => DefaultKind::Integer,
        Kind::Decimal { .. } | Kind::Float | Kind::Double => DefaultKind::Number,
        Kind::Char(length) => DefaultKind::Text(Some(u64::from(length))),
        Kind::Text(_) if expressions => DefaultKind::Text(None),
        Kind::Date => DefaultKind::Date,
        Kind::Time(_) => DefaultKind::Time,
        Kind::DateTime(_) | Kind::Timestamp(_) => DefaultKind::DateTime,
        _ => DefaultKind::Other,
    };
    Some(match (carried(default, takes)?, kind) {
        (PlainDefault::Boolean(value), _) => u8::from(value).to_string(),
        (PlainDefault::Number(number), _) => number,
        (PlainDefault::Quoted(text), Kind::Text(_)) => format!("({})", escape(&text)),
        // Outside of its years a timestamp's default is refused together with the table.
        (PlainDefault::Quoted(text), Kind::Timestamp(_)) => {
            let year: u32 = text.get(..4)?.parse().ok()?;
            (1971..=2037).contains(&year).then(|| escape(&text))?
        }
        (PlainDefault::Quoted(text), _) => escape(&text),
        (PlainDefault::Now, Kind::DateTime(digits) | Kind::Timestamp(digits)) => match digits {
            0 => "CURRENT_TIMESTAMP".into(),
            digits => format!("CURRENT_TIMESTAMP({digits})"),
        },
        (PlainDefault::Now, Kind::Date) if expressions => "(CURRENT_DATE)".into(),
        (PlainDefault::Now, _) => return None,
    })
}

/// Whether a default may be an expression, which is the only kind that texts take.
fn has_expressions(server: &Server) -> bool {
    let mut numbers = server.version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if server.mariadb { version >= (10, 2, 1) } else { version >= (8, 0, 13) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_said_in_the_servers_words() {
        let server = |version: &str, mariadb| Server {
            version: version.into(),
            mariadb,
            local_infile: true,
            max_packet: 0,
            database: None,
            exact_names: true,
        };
        let maria = server("10.11.6-MariaDB", true);
        let old = server("5.7.44", false);
        let of =
            |text: &str, kind: &str, server: &Server| default_text(&ColumnDefault::Literal(text.into()), kind, server);
        assert_eq!(of("true", "tinyint(1)", &maria), " DEFAULT 1");
        assert_eq!(of("true", "bit(1)", &maria), " DEFAULT 1");
        assert_eq!(of("4.99", "decimal(4,2)", &maria), " DEFAULT 4.99");
        assert_eq!(of("x", "varchar(5)", &old), " DEFAULT 'x'");
        assert_eq!((of("x", "longtext", &maria), of("x", "longtext", &old)), (" DEFAULT ('x')".into(), String::new()));
        assert_eq!(of("a", "enum('a','b')", &maria), " DEFAULT 'a'");
        assert_eq!(of("c", "enum('a','b')", &maria), "");
        assert_eq!(of("1900-01-01", "timestamp(6)", &maria), "");
        assert_eq!(of("1900-01-01", "datetime(6)", &maria), " DEFAULT '1900-01-01'");
        assert_eq!(default_text(&ColumnDefault::Now, "datetime(6)", &maria), " DEFAULT CURRENT_TIMESTAMP(6)");
        assert_eq!(default_text(&ColumnDefault::Now, "date", &maria), " DEFAULT (CURRENT_DATE)");
        assert_eq!(default_text(&ColumnDefault::Now, "date", &old), "");
    }
}
