//! What columns a statement gives, without running it.

use weir_core::Result;

use crate::cells::{number, text};
use crate::connection::{Session, literal};
use crate::types::Kind;

/// One column of a statement's result.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its name in the result; empty where it has none.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Its type as text.
    pub type_text: String,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// The collation of a text.
    pub collation: Option<String>,
}

/// The columns of a statement's result.
///
/// # Errors
/// The server's, when the statement is wrong.
pub async fn describe_query(session: &mut Session, sql: &str) -> Result<Vec<Output>> {
    // The procedure is asked and not the function of the same name, for that one tells of errors in columns.
    // A parameter takes no expression, which a long literal may be.
    let ask = format!(
        "DECLARE @weir_statement nvarchar(max) = {}; EXEC sp_describe_first_result_set @tsql = @weir_statement",
        literal(sql)
    );
    let rows = session.rows(&ask).await?;
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let place = |name: &str| first.columns().iter().position(|c| c.name().eq_ignore_ascii_case(name));
    let hidden = place("is_hidden");
    let (name, null, kind) = (place("name"), place("is_nullable"), place("system_type_name"));
    let (collation, user_type) = (place("collation_name"), place("user_type_name"));
    let (length, precision, scale) = (place("max_length"), place("precision"), place("scale"));
    Ok(rows
        .iter()
        .filter(|row| hidden.and_then(|i| number(row, i)) != Some(1))
        .map(|row| {
            let cell = |at: Option<usize>| at.and_then(|i| text(row, i));
            // A CLR type has no system type's name.
            let type_text = cell(kind).or_else(|| cell(user_type)).unwrap_or_default();
            let argument = |at: Option<usize>| at.and_then(|i| number(row, i)).unwrap_or(0);
            let type_text = whole(type_text, argument(length), argument(precision), argument(scale));
            Output {
                name: cell(name).unwrap_or_default(),
                kind: Kind::parse(&type_text),
                type_text,
                nullable: null.and_then(|i| number(row, i)) != Some(0),
                collation: cell(collation),
            }
        })
        .collect())
}

/// A type's name with the arguments that relatives leave out of it.
fn whole(name: String, bytes: i64, precision: i64, scale: i64) -> String {
    match name.to_ascii_lowercase().as_str() {
        "varchar" | "nvarchar" | "varbinary" if bytes < 0 => format!("{name}(max)"),
        "char" | "varchar" | "binary" | "varbinary" if bytes > 0 => format!("{name}({bytes})"),
        "nchar" | "nvarchar" if bytes > 1 => format!("{name}({})", bytes / 2),
        "decimal" | "numeric" if precision > 0 => format!("{name}({precision},{scale})"),
        "time" | "datetime2" | "datetimeoffset" if bytes > 0 => format!("{name}({scale})"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_gets_its_arguments() {
        let whole = |name: &str, bytes, precision, scale| whole(name.into(), bytes, precision, scale);
        assert_eq!(whole("varchar", -1, 0, 0), "varchar(max)");
        assert_eq!(whole("nvarchar", 18, 0, 0), "nvarchar(9)");
        assert_eq!(whole("numeric", 5, 9, 2), "numeric(9,2)");
        assert_eq!(whole("time", 4, 12, 3), "time(3)");
        assert_eq!(whole("nvarchar(9)", 18, 0, 0), "nvarchar(9)");
        assert_eq!(whole("int", 4, 10, 0), "int");
    }
}
