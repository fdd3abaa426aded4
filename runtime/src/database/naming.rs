//! What tables are called at the target.

use std::collections::HashSet;

use weir_core::{NameRules, ObjectName, TargetName};

use super::merge::OriginColumn;

/// Text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Datasource,
    Database,
    Schema,
    Table,
    /// The target connection's own namespace.
    Own,
}

const VARIABLES: [(&str, Variable); 5] = [
    ("SOURCE_DATASOURCE", Variable::Datasource),
    ("SOURCE_DATABASE", Variable::Database),
    ("SOURCE_SCHEMA", Variable::Schema),
    ("SOURCE_TABLE", Variable::Table),
    ("TARGET_SCHEMA", Variable::Own),
];

impl Expression {
    /// Reads an expression. Braces stand around variables only.
    ///
    /// # Errors
    /// A variable that there is not, in a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(|| format!("the brace in `{text}` is not closed"))? + open;
            let name = rest[open + 1..close].trim();
            let known = VARIABLES.iter().find(|(known, _)| *known == name);
            let (_, variable) = known.ok_or_else(|| {
                let names = VARIABLES.map(|(name, _)| format!("{{{name}}}")).join(", ");
                let near = weir_core::config::nearest(name, VARIABLES.map(|(name, _)| name));
                let hint =
                    near.map_or_else(|| format!("there are {names}"), |near| format!("did you mean {{{near}}}?"));
                format!("no such variable: `{{{name}}}`; {hint}")
            })?;
            if open > 0 {
                pieces.push(Piece::Text(rest[..open].to_owned()));
            }
            pieces.push(Piece::Variable(*variable));
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.len() > 1 && pieces.contains(&Piece::Variable(Variable::Own)) {
            return Err(format!("`{text}`: {{TARGET_SCHEMA}} stands alone, for the connection's own namespace"));
        }
        Ok(Self(pieces))
    }

    /// The name for a table; `None` for the target connection's own namespace.
    pub fn name(&self, source: &ObjectName, datasource: &str) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            text.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Variable(Variable::Datasource) => datasource,
                Piece::Variable(Variable::Database) => &source.database,
                Piece::Variable(Variable::Schema) => source.schema.as_deref().unwrap_or(&source.database),
                Piece::Variable(Variable::Table) => &source.table,
                Piece::Variable(Variable::Own) => return None,
            });
        }
        Some(text)
    }
}

/// `table` or `schema.table`; a part with a dot stands between quotation marks.
///
/// # Errors
/// Anything else, in a sentence.
pub fn target_name(text: &str) -> Result<TargetName, String> {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text.trim();
    loop {
        let mark = rest.chars().next().filter(|c| matches!(c, '"' | '`'));
        let (part, after) = match mark.and_then(|mark| rest[1..].find(mark)) {
            Some(end) => (&rest[1..=end], &rest[end + 2..]),
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        parts.push(part.trim().to_owned());
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.trim().is_empty() => break,
            None => return Err(format!("`{text}` is no table name: write table or schema.table")),
        }
    }
    match parts.as_slice() {
        [table] if !table.is_empty() => Ok(TargetName { schema: None, table: table.clone() }),
        [schema, table] if !schema.is_empty() && !table.is_empty() => {
            Ok(TargetName { schema: Some(schema.clone()), table: table.clone() })
        }
        _ => Err(format!("`{text}` is no table name: write table or schema.table")),
    }
}

/// The name as the target takes it.
///
/// # Errors
/// What is wrong with it, where names are not to be altered.
pub fn fitting(name: TargetName, rules: &NameRules, fix: bool) -> Result<TargetName, String> {
    let goes_up = |part: &str| rules.nests && matches!(part, "." | "..");
    let fault = |part: &str| rules.fault(part).or_else(|| goes_up(part).then(|| "no folder is called so".to_owned()));
    let fit = |part: String, what: &str| match fault(&part) {
        None => Ok(part),
        Some(_) if fix => Ok(altered(&part, rules)),
        Some(fault) => Err(format!("the {what} name `{part}` does not fit: {fault}; rename it, or set naming.fix")),
    };
    let schema = name.schema.filter(|_| rules.schemas).map(|schema| fit(schema, "schema")).transpose()?;
    Ok(TargetName { schema, table: fit(name.table, "table")? })
}

/// The name of a column as the target takes it: what a server cuts by itself is another name in the next run.
///
/// # Errors
/// What is wrong with it, where names are not to be altered.
pub fn fitting_column(name: String, rules: &NameRules, fix: bool) -> Result<String, String> {
    match rules.column_fault(&name) {
        None => Ok(name),
        Some(_) if fix => Ok(altered(&name, &rules.of_columns())),
        Some(fault) => {
            Err(format!("the column name `{name}` does not fit: {fault}; rename it under `tables`, or set naming.fix"))
        }
    }
}

/// The columns of a table, as (name at the source, name at the target), with names that the target tells apart from each other
/// and from those of the `origin` columns.
///
/// # Errors
/// Two that it does not, where names are not to be altered.
pub fn apart(
    mut columns: Vec<(String, String)>,
    origin: &[OriginColumn],
    rules: &NameRules,
    fix: bool,
) -> Result<Vec<(String, String)>, String> {
    if !rules.columns_ignore_case {
        return Ok(columns);
    }
    let mut taken: HashSet<String> = origin.iter().map(|column| column.name.to_lowercase()).collect();
    for (from, to) in &mut columns {
        if !taken.insert(to.to_lowercase()) {
            if !fix {
                return Err(format!(
                    "the column `{from}` has a name that another one has in other letters, which are the same at the target: \
                     rename it under `tables`, or set naming.fix"
                ));
            }
            *to = altered(to, &rules.of_columns());
            taken.insert(to.to_lowercase());
        }
    }
    Ok(columns)
}

/// Without what is forbidden, and short enough; what was cut off or replaced is told apart by a hash of the whole name.
fn altered(name: &str, rules: &NameRules) -> String {
    let replace = |c: char| if rules.takes(c) { c } else { '_' };
    let clean: String = name.chars().map(replace).collect();
    // FNV-1a: the same name is altered in the same way by every run and every version.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let tail = format!("_{hash:08x}");
    let size = |text: &str| if rules.in_bytes { text.len() } else { text.chars().count() };
    let mut kept = String::new();
    for c in clean.chars() {
        if size(&kept) + size(c.encode_utf8(&mut [0; 4])) + tail.len() > rules.longest {
            break;
        }
        kept.push(c);
    }
    kept + &tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(schema: Option<&str>) -> ObjectName {
        ObjectName { database: "shop".into(), schema: schema.map(str::to_owned), table: "orders".into() }
    }

    const RULES: NameRules = NameRules {
        longest: 20,
        in_bytes: true,
        forbidden: &['/'],
        ignores_case: true,
        columns_ignore_case: true,
        schemas: true,
        columns: true,
        nests: true,
    };

    #[test]
    fn expressions_name_tables() {
        let name = |text: &str, schema| Expression::parse(text).unwrap().name(&object(schema), "ds1");
        assert_eq!(name("{SOURCE_DATABASE}_{SOURCE_TABLE}_20251101", None).unwrap(), "shop_orders_20251101");
        assert_eq!(name("{SOURCE_SCHEMA}", None).unwrap(), "shop");
        assert_eq!(name("{SOURCE_SCHEMA}.{ SOURCE_DATASOURCE }", Some("public")).unwrap(), "public.ds1");
        assert_eq!(name("{TARGET_SCHEMA}", None), None);
        assert!(Expression::parse("{SOURCE_TABEL}").unwrap_err().contains("did you mean {SOURCE_TABLE}"));
        assert!(Expression::parse("{X").is_err() && Expression::parse("a{TARGET_SCHEMA}").is_err());
    }

    #[test]
    fn target_names_have_one_part_or_two() {
        let of = |text: &str| target_name(text).map(|name| name.to_string());
        assert_eq!(of("orders").unwrap(), "orders");
        assert_eq!(target_name("\"a.b\".orders").unwrap().schema.unwrap(), "a.b");
        for wrong in ["", "a.", "a.b.c", ".b"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn columns_have_the_bounds_of_tables_and_other_letters() {
        let fit = |name: &str, rules, fix| fitting_column(name.to_owned(), rules, fix);
        assert_eq!(fit("a/b", &RULES, false).unwrap(), "a/b");
        let long = "a/b".repeat(9);
        assert!(fit(&long, &RULES, false).unwrap_err().contains("27 bytes, the target takes 20"));
        let short = fit(&long, &RULES, true).unwrap();
        assert!(short.starts_with("a/ba/b") && short.len() == 20, "{short}");
        assert_eq!(fit(&long, &NameRules { columns: false, ..RULES }, false).unwrap(), long);
    }

    #[test]
    fn columns_that_differ_in_case_are_told_or_altered() {
        let columns = || ["id", "Note", "NOTE"].map(|name| (name.to_owned(), name.to_owned())).to_vec();
        let error = apart(columns(), &[], &RULES, false).unwrap_err();
        assert!(error.contains("`NOTE`") && error.contains("naming.fix"), "{error}");
        let named = apart(columns(), &[], &RULES, true).unwrap();
        assert!(named[1].1 == "Note" && named[2].0 == "NOTE" && named[2].1.starts_with("NOTE_"), "{named:?}");
        assert_eq!(
            apart(columns(), &[], &NameRules { columns_ignore_case: false, ..RULES }, false).unwrap(),
            columns()
        );
    }

    #[test]
    fn names_that_do_not_fit_are_told_or_altered() {
        let name = |table: &str| TargetName { schema: Some("s".into()), table: table.into() };
        assert_eq!(fitting(name("orders"), &RULES, false).unwrap(), name("orders"));
        let error = fitting(name("a/b"), &RULES, false).unwrap_err();
        assert!(error.contains("'/'") && error.contains("naming.fix"), "{error}");
        let long = "größe".repeat(9);
        let (a, b) = (fitting(name(&long), &RULES, true).unwrap(), fitting(name(&(long + "x")), &RULES, true).unwrap());
        assert!(a.table.len() <= 20 && b.table.len() <= 20 && a != b, "{a} {b}");
        assert!(fitting(name("a/b"), &RULES, true).unwrap().table.starts_with("a_b_"));
        assert!(fitting(name(".."), &RULES, false).unwrap_err().contains("naming.fix"));
        assert!(fitting(name(".."), &RULES, true).unwrap().table.starts_with(".._"));
        let narrow = NameRules { forbidden: &['/', NameRules::NARROW], ..RULES };
        for odd in ["a ", "a😀b"] {
            assert!(fitting(name(odd), &RULES, false).is_ok() && fitting_column(odd.into(), &RULES, false).is_ok());
            let (table, column) = (fitting(name(odd), &narrow, false), fitting_column(odd.into(), &narrow, false));
            assert!(table.unwrap_err().contains("takes no") && column.unwrap_err().contains("takes no"), "{odd:?}");
            let table = fitting(name(odd), &narrow, true).unwrap();
            assert_eq!(fitting(table.clone(), &narrow, false).unwrap(), table, "{odd:?}");
            let column = fitting_column(odd.into(), &narrow, true).unwrap();
            assert_eq!(fitting_column(column.clone(), &narrow, false).unwrap(), column, "{odd:?}");
        }
        assert_eq!(fitting_column("a/b".into(), &narrow, false).unwrap(), "a/b");
        let flat = NameRules { schemas: false, ..RULES };
        assert_eq!(fitting(name("t"), &flat, false).unwrap().schema, None);
    }
}
