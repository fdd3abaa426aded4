//! In which form a bulk load carries a column's values: as the column's own type where the driver brings that unbent, else
//! as a wider one that the server itself converts on the way from `#weir_load` into the table.

use weir_sqlserver::Kind;

/// A cell's form on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Real,
    Float,
    /// With so many digits after the point.
    Decimal(u8),
    /// Digits as text, with so many after the point.
    DecimalText(u8),
    Date,
    /// With so many decimals of a second.
    Time(u8),
    TimeText,
    DateTime,
    DateTime2(u8),
    DateTimeOffset(u8),
    Text,
    /// Where the server takes no U+0000, and gives up the session when it meets one.
    TextWithoutNul,
    Bytes,
    Uuid,
}

impl Form {
    /// The form on a server that may be Babelfish.
    pub(crate) fn on(self, babelfish: bool) -> Self {
        match self {
            Self::Text if babelfish => Self::TextWithoutNul,
            form => form,
        }
    }
}

/// How a column travels through `#weir_load`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carrier {
    /// The type in `#weir_load`.
    pub(crate) ddl: String,
    pub(crate) form: Form,
    /// The expression that makes the target's value out of the column named here; `None` for the column itself.
    pub(crate) cast: Option<String>,
}

/// Whether texts of a collation lie in a code page, which the driver knows; those in UTF-8 it does not.
fn in_code_page(collation: Option<&str>) -> bool {
    collation.is_some_and(|c| !c.to_ascii_uppercase().ends_with("_UTF8"))
}

/// The form in which a bulk load brings values straight into a column; `None` where that would bend them or be refused.
///
/// The driver declares `time` and `datetimeoffset` without their decimals and `nchar` by its bytes. Babelfish reads
/// decimals by another length than is sent, the four bytes of `smallmoney` without their sign, and cuts `time` down to the
/// microsecond before where binary fractions fall short.
pub(crate) fn direct(kind: &Kind, collation: Option<&str>, babelfish: bool) -> Option<Form> {
    Some(match kind {
        Kind::Bit => Form::Bit,
        Kind::TinyInt => Form::TinyInt,
        Kind::SmallInt => Form::SmallInt,
        Kind::Int => Form::Int,
        Kind::BigInt => Form::BigInt,
        Kind::Real => Form::Real,
        Kind::Float => Form::Float,
        Kind::Decimal { scale, .. } if !babelfish => Form::Decimal(*scale as u8),
        Kind::Money => Form::Decimal(4),
        Kind::SmallMoney if !babelfish => Form::Decimal(4),
        Kind::Date => Form::Date,
        Kind::Time(7) if !babelfish => Form::Time(7),
        Kind::DateTime => Form::DateTime,
        Kind::DateTime2(n) => Form::DateTime2(*n),
        Kind::DateTimeOffset(7) => Form::DateTimeOffset(7),
        Kind::NChar(n) | Kind::NVarChar(Some(n)) if *n <= 2000 => Form::Text,
        Kind::NVarChar(None) => Form::Text,
        Kind::Char(_) | Kind::VarChar(_) if in_code_page(collation) => Form::Text,
        Kind::Binary(_) | Kind::VarBinary(_) => Form::Bytes,
        Kind::Uuid => Form::Uuid,
        _ => return None,
    })
}

/// The way through `#weir_load`; `None` for types that are not written at all.
pub(crate) fn through(kind: &Kind, type_text: &str, collation: Option<&str>, babelfish: bool) -> Option<Carrier> {
    let as_is = |form| Carrier { ddl: type_text.to_owned(), form, cast: None };
    let wide = |ddl: &str, form| Carrier { ddl: ddl.to_owned(), form, cast: None };
    let unicode = |characters: u32| match characters {
        n if n <= 2000 => format!("nvarchar({})", n.max(1)),
        _ => "nvarchar(max)".to_owned(),
    };
    Some(match kind {
        Kind::Decimal { scale, .. } if babelfish => Carrier {
            ddl: "nvarchar(50)".into(),
            form: Form::DecimalText(*scale as u8),
            cast: Some(format!("CAST({{}} AS {type_text})")),
        },
        Kind::SmallMoney if babelfish => wide("money", Form::Decimal(4)),
        Kind::Time(_) if babelfish => Carrier {
            ddl: "nvarchar(20)".into(),
            form: Form::TimeText,
            cast: Some(format!("CAST({{}} AS {type_text})")),
        },
        Kind::Time(_) => wide("time(7)", Form::Time(7)),
        Kind::DateTimeOffset(_) => wide("datetimeoffset(7)", Form::DateTimeOffset(7)),
        Kind::SmallDateTime => wide("datetime2(0)", Form::DateTime2(0)),
        Kind::NChar(n) | Kind::NVarChar(Some(n)) => wide(&unicode(*n), Form::Text),
        // Texts in a code page keep it on the way: the server would put a question mark for what it lacks.
        Kind::Char(n) | Kind::VarChar(Some(n)) if in_code_page(collation) => Carrier {
            ddl: format!("varchar({n}) COLLATE {}", collation.unwrap_or_default()),
            form: Form::Text,
            cast: None,
        },
        Kind::VarChar(None) | Kind::Text if in_code_page(collation) => Carrier {
            ddl: format!("varchar(max) COLLATE {}", collation.unwrap_or_default()),
            form: Form::Text,
            cast: None,
        },
        Kind::Char(n) | Kind::VarChar(Some(n)) => wide(&unicode(*n), Form::Text),
        Kind::NVarChar(None) | Kind::VarChar(None) | Kind::Text | Kind::NText => wide("nvarchar(max)", Form::Text),
        Kind::Xml | Kind::Json | Kind::HierarchyId => {
            let cast = Some(format!("CAST({{}} AS {type_text})"));
            Carrier { ddl: "nvarchar(max)".into(), form: Form::Text, cast }
        }
        Kind::Image => wide("varbinary(max)", Form::Bytes),
        Kind::RowVersion | Kind::Spatial | Kind::Variant | Kind::Unknown => return None,
        kind => as_is(direct(kind, collation, babelfish)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(type_text: &str, collation: Option<&str>, babelfish: bool) -> (Option<Form>, Option<String>) {
        let kind = Kind::parse(type_text);
        let through = through(&kind, type_text, collation, babelfish);
        (direct(&kind, collation, babelfish), through.map(|c| c.ddl))
    }

    #[test]
    fn what_the_driver_brings_unbent_goes_straight() {
        for (text, form) in [
            ("int", Form::Int),
            ("decimal(38,10)", Form::Decimal(10)),
            ("money", Form::Decimal(4)),
            ("smallmoney", Form::Decimal(4)),
            ("datetime2(3)", Form::DateTime2(3)),
            ("nvarchar(max)", Form::Text),
            ("varbinary(9)", Form::Bytes),
        ] {
            assert_eq!(
                ways(text, None, false),
                (Some(form), Some(if text == "nvarchar(max)" { "nvarchar(max)" } else { text }.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn what_it_would_bend_goes_through_a_wider_type() {
        let wide = |text: &str, collation, babelfish| {
            let (direct, through) = ways(text, collation, babelfish);
            assert_eq!(direct, None, "{text}");
            through
        };
        assert_eq!(wide("time(3)", None, false).unwrap(), "time(7)");
        assert_eq!(wide("datetimeoffset(0)", None, false).unwrap(), "datetimeoffset(7)");
        assert_eq!(wide("nchar(4000)", None, false).unwrap(), "nvarchar(max)");
        assert_eq!(wide("varchar(5)", Some("X_UTF8"), false).unwrap(), "nvarchar(5)");
        assert_eq!(wide("decimal(10,2)", None, true).unwrap(), "nvarchar(50)");
        assert_eq!(wide("smallmoney", None, true).unwrap(), "money");
        assert_eq!(wide("time(7)", None, true).unwrap(), "nvarchar(20)");
        assert_eq!(wide("xml", None, false).unwrap(), "nvarchar(max)");
        assert_eq!(wide("sql_variant", None, false), None);
        let page = ways("varchar(5)", Some("Latin1_General_CI_AS"), false);
        assert_eq!(page, (Some(Form::Text), Some("varchar(5) COLLATE Latin1_General_CI_AS".into())));
    }
}
