//! Several tables that become one.

use weir_core::{ColumnDescription, ObjectName, TableDescription};

/// The most differences and tables that a message lists.
const SHOWN: usize = 6;

/// A column that says where a row comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OriginColumn {
    /// Its name at the target.
    pub name: String,
    /// Its value for each source table.
    pub values: Vec<String>,
}

/// What keeps tables from being one, if anything: each difference from the first table, in a sentence.
pub fn difference(tables: &[(String, &TableDescription)]) -> Option<String> {
    let ((first, model), others) = tables.split_first()?;
    let mut found = Vec::new();
    for (name, table) in others {
        let mut here = Vec::new();
        for column in &model.columns {
            match table.column(&column.name) {
                None => here.push(format!("has no column `{}`", column.name)),
                Some(own) if !same_type(own, column) => {
                    here.push(format!("has `{}` as {} instead of {}", column.name, shown(own), shown(column)));
                }
                Some(_) => {}
            }
        }
        let strange = table.columns.iter().filter(|column| model.column(&column.name).is_none());
        here.extend(strange.map(|column| format!("has a column `{}` more", column.name)));
        if table.primary_key != model.primary_key {
            let key = |key: &[String]| if key.is_empty() { "none".into() } else { key.join(", ") };
            here.push(format!(
                "has the primary key {} instead of {}",
                key(&table.primary_key),
                key(&model.primary_key)
            ));
        }
        found.extend(here.into_iter().map(|what| format!("{name} {what}")));
    }
    if found.is_empty() {
        return None;
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    if more > 0 {
        found.push(format!("and {more} more differences"));
    }
    Some(format!("the tables to merge are not alike; other than {first}, {}", found.join("; ")))
}

/// The structure that holds the rows of all of these tables, which are alike: what may be NULL in one of them may be, and a
/// unique key is one that all of them have.
pub fn united(tables: &[&TableDescription]) -> Option<TableDescription> {
    let (model, others) = tables.split_first()?;
    let mut model = (*model).clone();
    for column in &mut model.columns {
        let may_be = |table: &&TableDescription| table.column(&column.name).is_some_and(|own| own.nullable);
        column.nullable = column.nullable || others.iter().any(may_be);
    }
    model.unique.retain(|key| others.iter().all(|table| table.unique.iter().any(|other| other.columns == key.columns)));
    Some(model)
}

/// Whether two columns have the same values. Enums may be in the schemas of their shards, each with the same labels.
fn same_type(a: &ColumnDescription, b: &ColumnDescription) -> bool {
    let is_array = |column: &ColumnDescription| column.native_type.ends_with("[]");
    plain(&a.native_type) == plain(&b.native_type)
        || (!a.labels.is_empty() && a.labels == b.labels && is_array(a) == is_array(b))
}

/// A column's type, with the labels of an enum.
fn shown(column: &ColumnDescription) -> String {
    match column.labels.as_slice() {
        [] => column.native_type.clone(),
        labels => format!("{} ({})", column.native_type, labels.join(", ")),
    }
}

/// A type without the width at which some servers show whole numbers: `int(11)` and `int` have the same values. Only
/// `tinyint(1)` is told apart, as a truth value.
fn plain(native_type: &str) -> String {
    let lower = native_type.to_lowercase();
    let Some((name, rest)) = lower.split_once('(') else { return lower };
    match rest.split_once(')') {
        Some((width, rest)) if name.ends_with("int") && (name, width) != ("tinyint", "1") => format!("{name}{rest}"),
        _ => lower,
    }
}

/// The columns that say where rows come from, one value for each of the tables.
///
/// # Errors
/// A table that has such a column already.
pub fn origin(
    tables: &[(&ObjectName, &str)],
    several_sources: bool,
    model: &TableDescription,
) -> Result<Vec<OriginColumn>, String> {
    let of = |name: &str, value: &dyn Fn(&ObjectName, &str) -> String| OriginColumn {
        name: name.to_owned(),
        values: tables.iter().map(|(object, datasource)| value(object, datasource)).collect(),
    };
    let mut columns = Vec::new();
    if several_sources {
        columns.push(of("source_datasource", &|_, datasource| datasource.to_owned()));
    }
    columns.push(of("source_database", &|object, _| object.database.clone()));
    if tables.iter().any(|(object, _)| object.schema.is_some()) {
        columns.push(of("source_schema", &|object, _| object.schema.clone().unwrap_or_default()));
    }
    columns.push(of("source_table", &|object, _| object.table.clone()));
    let taken =
        columns.iter().find(|column| model.columns.iter().any(|own| own.name.eq_ignore_ascii_case(&column.name)));
    match taken {
        Some(column) => Err(format!("the tables have a column `{}` of their own: merge without `origin`", column.name)),
        None => Ok(columns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::{ObjectKind, UniqueKey};

    fn table(name: &str, columns: &[(&str, &str)]) -> TableDescription {
        let column = |(name, kind): &(&str, &str)| ColumnDescription {
            labels: Vec::new(),
            name: (*name).into(),
            native_type: (*kind).into(),
            nullable: true,
            default: None,
            generated: None,
            identity: None,
            comment: None,
        };
        TableDescription {
            name: ObjectName { database: "d".into(), schema: None, table: name.into() },
            kind: ObjectKind::Table,
            columns: columns.iter().map(column).collect(),
            primary_key: vec!["id".into()],
            unique: Vec::new(),
            foreign_keys: Vec::new(),
            comment: None,
        }
    }

    #[test]
    fn differences_are_listed() {
        let (a, b) = (table("a", &[("id", "int"), ("x", "text")]), table("b", &[("x", "text"), ("id", "int")]));
        let c = TableDescription { primary_key: vec![], ..table("c", &[("id", "bigint"), ("y", "text")]) };
        let named = |tables: &[&TableDescription]| {
            difference(&tables.iter().map(|t| (t.name.to_string(), *t)).collect::<Vec<_>>())
        };
        assert_eq!(named(&[&a, &b]), None);
        let text = named(&[&a, &b, &c]).unwrap();
        for part in ["d.c has `id` as bigint instead of int", "no column `x`", "column `y` more", "primary key none"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn enums_of_two_schemas_are_alike_by_their_labels() {
        let mood = |schema: &str, array: &str, labels: &[&str]| {
            let mut table = table(schema, &[("id", "int"), ("m", &format!("{schema}.mood{array}"))]);
            table.columns[1].labels = labels.iter().map(|label| (*label).to_owned()).collect();
            table
        };
        let differ = |a: &TableDescription, b: &TableDescription| difference(&[("a".into(), a), ("b".into(), b)]);
        let (one, two) = (mood("s0", "", &["a", "b"]), mood("s1", "", &["a", "b"]));
        assert_eq!(differ(&one, &two), None);
        assert!(differ(&one, &mood("s1", "[]", &["a", "b"])).is_some());
        let text = differ(&one, &mood("s1", "", &["b", "c"])).unwrap();
        assert!(text.contains("s1.mood (b, c) instead of s0.mood (a, b)"), "{text}");
    }

    #[test]
    fn what_is_null_in_one_shard_is_null_in_the_merge() {
        let (mut a, mut b) = (table("a", &[("id", "int"), ("x", "text")]), table("b", &[("x", "text"), ("id", "int")]));
        a.columns.iter_mut().for_each(|column| column.nullable = false);
        b.columns[1].nullable = false;
        let key = |columns: &[&str]| UniqueKey {
            name: columns.concat(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        };
        a.unique = vec![key(&["x"]), key(&["x", "id"])];
        b.unique = vec![key(&["x", "id"])];
        let one = united(&[&a, &b]).unwrap();
        assert_eq!(one.columns.iter().map(|column| column.nullable).collect::<Vec<_>>(), [false, true]);
        assert_eq!(one.unique, [key(&["x", "id"])]);
        assert_eq!(united(&[]), None);
    }

    #[test]
    fn the_width_at_which_numbers_are_shown_is_no_difference() {
        let same = |a: &str, b: &str| plain(a) == plain(b);
        assert!(same("int(11)", "int") && same("bigint(20) unsigned", "BIGINT unsigned"));
        assert!(
            !same("tinyint(1)", "tinyint(4)") && !same("varchar(10)", "varchar(20)") && !same("int(11)", "bigint(11)")
        );
    }

    #[test]
    fn origin_columns_have_a_value_for_each_table() {
        let a = table("a", &[("id", "int")]);
        let b = ObjectName { database: "e".into(), schema: None, table: "b".into() };
        let columns = origin(&[(&a.name, "one"), (&b, "two")], true, &a).unwrap();
        let shown: Vec<_> = columns.iter().map(|c| format!("{}={}", c.name, c.values.join("|"))).collect();
        assert_eq!(shown, ["source_datasource=one|two", "source_database=d|e", "source_table=a|b"]);
        let taken = table("t", &[("Source_Table", "text")]);
        assert!(origin(&[(&taken.name, "one")], false, &taken).unwrap_err().contains("source_table"));
    }
}
