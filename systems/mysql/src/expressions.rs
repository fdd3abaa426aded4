//! What columns a statement gives, without running it.

use mysql_async::consts::{ColumnFlags, ColumnType};
use weir_core::Result;

use crate::connection::Session;
use crate::types::Kind;

/// One column of a statement's result.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its name in the result.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Its type as text, as near as the protocol tells.
    pub type_text: String,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// The columns of a statement's result.
///
/// # Errors
/// The server's, when the statement is wrong.
pub async fn describe_query(session: &mut Session, sql: &str) -> Result<Vec<Output>> {
    Ok(session.prepare(sql).await?.iter().map(output).collect())
}

fn output(column: &mysql_async::Column) -> Output {
    use ColumnType as T;
    let flags = column.flags();
    let unsigned = flags.contains(ColumnFlags::UNSIGNED_FLAG);
    let length = column.column_length();
    let binary = column.character_set() == 63;
    // `decimals` is 31 (39 in MariaDB) where the number of digits is not fixed.
    let fsp = if column.decimals() <= 6 { column.decimals() } else { 6 };
    let sign = if unsigned { " unsigned" } else { "" };
    let with_fsp = |name: &str| if fsp == 0 { name.to_owned() } else { format!("{name}({fsp})") };
    let type_text = match column.column_type() {
        T::MYSQL_TYPE_TINY if length == 1 && !unsigned => "tinyint(1)".into(),
        T::MYSQL_TYPE_TINY => format!("tinyint{sign}"),
        T::MYSQL_TYPE_SHORT => format!("smallint{sign}"),
        T::MYSQL_TYPE_INT24 => format!("mediumint{sign}"),
        T::MYSQL_TYPE_LONG => format!("int{sign}"),
        T::MYSQL_TYPE_LONGLONG => format!("bigint{sign}"),
        T::MYSQL_TYPE_FLOAT => "float".into(),
        T::MYSQL_TYPE_DOUBLE => "double".into(),
        T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => {
            let scale = u32::from(column.decimals()).min(38);
            let signs = u32::from(scale > 0) + u32::from(!unsigned);
            let precision = length.saturating_sub(signs).clamp(1, 65).max(scale);
            format!("decimal({precision},{scale}){sign}")
        }
        T::MYSQL_TYPE_BIT => format!("bit({})", length.clamp(1, 64)),
        T::MYSQL_TYPE_YEAR => "year".into(),
        T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => "date".into(),
        T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_DATETIME2 => with_fsp("datetime"),
        T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIMESTAMP2 => with_fsp("timestamp"),
        T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => with_fsp("time"),
        T::MYSQL_TYPE_JSON => "json".into(),
        T::MYSQL_TYPE_GEOMETRY => "geometry".into(),
        T::MYSQL_TYPE_VECTOR => format!("vector({})", length / 4),
        T::MYSQL_TYPE_NULL => "varchar(0)".into(),
        _ if binary && length > 65_535 => "longblob".into(),
        _ if binary => format!("varbinary({length})"),
        // Four bytes a character at most.
        _ if length / 4 > 16_383 => "longtext".into(),
        _ => format!("varchar({})", length / 4),
    };
    Output {
        name: column.name_str().into_owned(),
        kind: Kind::parse(&type_text),
        nullable: !flags.contains(ColumnFlags::NOT_NULL_FLAG),
        type_text,
    }
}
