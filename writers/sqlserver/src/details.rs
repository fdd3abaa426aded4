//! What a new column takes over from its source besides its type: default, numbering, comment.

use weir_core::{ColumnDefault, ColumnDescription, Identity, MappedColumn, TableDescription};
use weir_sql::TableName;
use weir_sql::defaults::{DefaultKind, PlainDefault, carried};
use weir_sqlserver::{Kind, literal};

/// The most characters of a comment: an extended property holds 7,500 bytes.
const LONGEST_COMMENT: usize = 3_700;

/// The column that numbers itself, for a table has one at most: the first of the source's that can here.
pub(crate) fn numbered<'a>(
    described: Option<&'a TableDescription>,
    columns: impl IntoIterator<Item = (&'a str, &'a str, bool)>,
) -> Option<(&'a str, Identity)> {
    let of = |(name, type_text, nullable): (&'a str, &str, bool)| {
        let identity = described?.column(name)?.identity?;
        let whole = matches!(
            Kind::parse(type_text),
            Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt | Kind::Decimal { scale: 0, .. }
        );
        (whole && !nullable && identity.increment != 0).then_some((name, identity))
    };
    columns.into_iter().find_map(of)
}

/// What stands behind a new column's type: ` DEFAULT 0`, or nothing.
pub(crate) fn behind_type(described: Option<&ColumnDescription>, type_text: &str) -> String {
    match described {
        Some(ColumnDescription { identity: None, default: Some(default), .. }) => default_text(default, type_text),
        _ => String::new(),
    }
}

/// ` DEFAULT …`, where the type takes it; else nothing.
pub(crate) fn default_text(default: &ColumnDefault, type_text: &str) -> String {
    default_sql(default, type_text).map_or_else(String::new, |sql| format!(" DEFAULT {sql}"))
}

fn default_sql(default: &ColumnDefault, type_text: &str) -> Option<String> {
    let kind = Kind::parse(type_text);
    let takes = match kind {
        Kind::Bit => DefaultKind::Boolean,
        Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt => DefaultKind::Integer,
        Kind::Decimal { .. } | Kind::Money | Kind::SmallMoney | Kind::Real | Kind::Float => DefaultKind::Number,
        Kind::Char(n) | Kind::NChar(n) => DefaultKind::Text(Some(u64::from(n))),
        Kind::VarChar(n) | Kind::NVarChar(n) => DefaultKind::Text(n.map(u64::from)),
        Kind::Date => DefaultKind::Date,
        Kind::Time(_) => DefaultKind::Time,
        Kind::DateTime | Kind::SmallDateTime | Kind::DateTime2(_) | Kind::DateTimeOffset(_) => DefaultKind::DateTime,
        _ => DefaultKind::Other,
    };
    Some(match (carried(default, takes)?, kind) {
        (PlainDefault::Boolean(value), _) => u8::from(value).to_string(),
        (PlainDefault::Number(number), _) => number,
        (PlainDefault::Quoted(text), kind) if takes == DefaultKind::DateTime => moment(&text, &kind)?,
        (PlainDefault::Quoted(text), _) => literal(&text),
        (PlainDefault::Now, Kind::Date) => "CAST(SYSDATETIME() AS date)".into(),
        (PlainDefault::Now, Kind::Time(_)) => "CAST(SYSDATETIME() AS time)".into(),
        (PlainDefault::Now, Kind::DateTimeOffset(_)) => "SYSDATETIMEOFFSET()".into(),
        (PlainDefault::Now, _) => "SYSDATETIME()".into(),
    })
}

/// A time in the one spelling that every session's language reads alike.
fn moment(text: &str, kind: &Kind) -> Option<String> {
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let year: u32 = date.get(..4)?.parse().ok()?;
    let holds = match kind {
        Kind::DateTime => year >= 1753,
        Kind::SmallDateTime => (1900..=2078).contains(&year),
        _ => true,
    };
    let fine = time.split_once('.').is_some_and(|(_, digits)| digits.len() > 7);
    let seconds = if time.matches(':').count() == 1 { ":00" } else { "" };
    // The older types refuse texts with more digits than they have, and take the time that such a text says.
    (holds && !fine).then(|| format!("CAST({} AS datetime2(7))", literal(&format!("{date}T{time}{seconds}"))))
}

/// The statements that give a new table and its columns their comments.
pub(crate) fn comments(
    table: &TableName,
    columns: &[MappedColumn],
    described: Option<&TableDescription>,
) -> Vec<String> {
    let of_table = described.and_then(|d| d.comment.as_deref()).filter(|text| !text.is_empty());
    let of_table = of_table.map(|text| described_as(table, None, text));
    of_table.into_iter().chain(columns.iter().filter_map(|column| comment(table, column))).collect()
}

/// The statement that gives a column its comment.
pub(crate) fn comment(table: &TableName, column: &MappedColumn) -> Option<String> {
    let text = column.comment.as_deref().filter(|text| !text.is_empty())?;
    Some(described_as(table, Some(&column.name), text))
}

fn described_as(table: &TableName, column: Option<&str>, text: &str) -> String {
    let text: String = text.chars().take(LONGEST_COMMENT).collect();
    let column = column.map(|name| format!(", N'COLUMN', {}", literal(name))).unwrap_or_default();
    // A parameter takes no expression, which a long literal may be.
    format!(
        "DECLARE @weir_text nvarchar({LONGEST_COMMENT}) = {}; EXEC sp_addextendedproperty N'MS_Description', @weir_text, \
         N'SCHEMA', {}, N'TABLE', {}{column}",
        literal(&text),
        literal(table.schema.as_deref().unwrap_or("dbo")),
        literal(&table.name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::{ObjectKind, ObjectName};
    use weir_sqlserver::QUOTING;

    #[test]
    fn defaults_are_said_in_the_servers_words() {
        let of = |text: &str, kind: &str| default_text(&ColumnDefault::Literal(text.into()), kind);
        assert_eq!(of("true", "bit"), " DEFAULT 1");
        assert_eq!(of("4.99", "decimal(4,2)"), " DEFAULT 4.99");
        assert_eq!(of("it's", "nvarchar(5)"), " DEFAULT N'it''s'");
        assert_eq!((of("longer", "nvarchar(5)"), of("x", "xml")), (String::new(), String::new()));
        assert_eq!(of("2024-02-29", "datetime"), " DEFAULT CAST(N'2024-02-29T00:00:00' AS datetime2(7))");
        assert_eq!(of("2024-02-29 12:00", "datetime2(6)"), " DEFAULT CAST(N'2024-02-29T12:00:00' AS datetime2(7))");
        assert_eq!(of("1000-01-01", "datetime"), "");
        let now = |kind: &str| default_text(&ColumnDefault::Now, kind);
        assert_eq!(now("datetime2(6)"), " DEFAULT SYSDATETIME()");
        assert_eq!(now("datetimeoffset(7)"), " DEFAULT SYSDATETIMEOFFSET()");
        assert_eq!(now("date"), " DEFAULT CAST(SYSDATETIME() AS date)");
        assert_eq!(now("nvarchar(9)"), "");
    }

    #[test]
    fn one_column_numbers_itself() {
        let identity = Some(Identity { always: false, next: Some(7), increment: 2 });
        let column = |name: &str| ColumnDescription {
            labels: Vec::new(),
            name: name.into(),
            native_type: String::new(),
            nullable: false,
            default: None,
            generated: None,
            identity,
            comment: None,
        };
        let table = TableDescription {
            name: ObjectName { database: "d".into(), schema: None, table: "t".into() },
            kind: ObjectKind::Table,
            columns: vec![column("a"), column("b"), column("c")],
            primary_key: Vec::new(),
            unique: Vec::new(),
            foreign_keys: Vec::new(),
            comment: None,
        };
        let columns = [("a", "nvarchar(9)", false), ("b", "bigint", false), ("c", "int", false)];
        assert_eq!(numbered(Some(&table), columns).unwrap().0, "b");
        assert!(numbered(Some(&table), [("b", "bigint", true)]).is_none(), "it would have to take NULL");
        assert!(numbered(None, columns).is_none());
    }

    #[test]
    fn comments_are_extended_properties() {
        let table = TableName::parse("dbo.t", QUOTING).unwrap();
        assert_eq!(
            described_as(&table, Some("a'b"), "c"),
            "DECLARE @weir_text nvarchar(3700) = N'c'; EXEC sp_addextendedproperty N'MS_Description', @weir_text, \
             N'SCHEMA', N'dbo', N'TABLE', N't', N'COLUMN', N'a''b'"
        );
        assert!(described_as(&table, None, "c").ends_with("N'TABLE', N't'"));
    }
}
