//! Which tables of a whole-database job are read by windows, and along which of their columns.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::config::OneOrMany;
use weir_core::incremental::IncrementalConfig;
use weir_core::{ColumnDescription, ErrorKind, TableDescription, WriteMode};

use super::expand::Expansion;
use super::table::{FailedTable, TableJob, TableSource};

/// What a single table says of `incremental`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum TableIncremental {
    /// Whether the job's own holds for it.
    Taken(bool),
    /// Another one.
    Own(IncrementalConfig),
}

/// What the reader of a table is told, if it is read by windows: the table's own words, which then have to fit it; else
/// the job's, for tables with one of the columns, of a type that windows may go by (`has_order`). A table that is replaced as a
/// whole is read as a whole.
///
/// # Errors
/// A column that the table does not have; a table that would keep its last window alone.
pub fn choose(
    rule: Option<&IncrementalConfig>,
    own: Option<&TableIncremental>,
    table: &TableDescription,
    has_order: impl Fn(&str) -> bool,
    (mode, keyed): (WriteMode, bool),
) -> Result<Option<IncrementalConfig>, String> {
    let (config, asked) = match (own, rule) {
        (Some(TableIncremental::Taken(false)), _) => return Ok(None),
        (Some(TableIncremental::Own(own)), _) => (own, true),
        (_, Some(rule)) => (rule, false),
        (_, None) => return Ok(None),
    };
    let wanted = config.column.as_slice();
    // What a table's own words name is meant, and the reader says what is wrong with it.
    let fits = |column: &&ColumnDescription| asked || has_order(&column.native_type);
    let mut found = wanted.iter().filter_map(|name| find(table, name));
    let Some(column) = found.find(fits).map(|column| column.name.clone()) else {
        let text = format!("`incremental`: the table has none of the columns {}", wanted.join(", "));
        return if asked { Err(text) } else { Ok(None) };
    };
    if mode == WriteMode::Overwrite {
        return match asked || keyed {
            true => Err(format!(
                "`incremental` reads the rows that are new in `{column}`, and mode overwrite would keep no others: use upsert \
                 or append, or `\"incremental\": false` under `tables`"
            )),
            // Without a key there is nothing to merge new rows by.
            false => Ok(None),
        };
    }
    Ok(Some(IncrementalConfig { column: OneOrMany::One(column), ..config.clone() }))
}

/// Puts among those that fail the merges that read one and the same source table by windows. Its watermark is one: whichever
/// of them moves it takes rows away from the others that these have not read.
pub fn refuse_shared(expansion: &mut Expansion) {
    let mut readers: HashMap<TableSource, Vec<String>> = HashMap::new();
    for table in expansion.tables.iter().filter(|table| table.incremental.is_some()) {
        for source in &table.sources {
            readers.entry(source.clone()).or_default().push(table.target.to_string());
        }
    }
    readers.retain(|_, targets| targets.len() > 1);
    let fault = |table: &TableJob| {
        table.incremental.as_ref()?;
        let (source, targets) = table.sources.iter().find_map(|source| readers.get_key_value(source))?;
        Some(format!(
            "{} is read by windows for {}, and has one watermark, which one of them would move past rows that another has not \
             read: take it out of all merges but one, or say `\"incremental\": false` of the others under `tables`",
            source.name,
            targets.join(" and ")
        ))
    };
    for table in std::mem::take(&mut expansion.tables) {
        match fault(&table) {
            Some(reason) => expansion.failed.push(FailedTable::of(&table, (ErrorKind::Unsupported, reason))),
            None => expansion.tables.push(table),
        }
    }
}

/// The column of a name, in whatever case it is written.
fn find<'t>(table: &'t TableDescription, name: &str) -> Option<&'t ColumnDescription> {
    let exact = table.columns.iter().find(|column| column.name == name);
    let same = |other: &&ColumnDescription| other.name.to_lowercase() == name.to_lowercase();
    exact.or_else(|| table.columns.iter().find(same))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(columns: &[&str]) -> TableDescription {
        let column = |name: &&str| json!({"name": name, "native_type": name, "nullable": true});
        let columns: Vec<_> = columns.iter().map(column).collect();
        let name = json!({"database": "d", "schema": null, "table": "t"});
        serde_json::from_value(json!({"name": name, "kind": "table", "columns": columns, "primary_key": []})).unwrap()
    }

    #[test]
    fn the_first_column_that_a_table_has_is_taken() {
        let rule = IncrementalConfig { column: vec!["updated_at".into(), "id".into()].into(), ..Default::default() };
        let chosen = |columns: &[&str], own: Option<&TableIncremental>, mode, keyed| {
            let chosen = choose(Some(&rule), own, &table(columns), |name| name != "updated_at", (mode, keyed));
            chosen.map(|config| config.map(|config| config.column.as_slice().to_vec()))
        };
        let upsert = WriteMode::Upsert;
        assert_eq!(chosen(&["ID", "Updated_At"], None, upsert, true), Ok(Some(vec!["Updated_At".into()])));
        assert_eq!(chosen(&["ID"], None, upsert, true), Ok(Some(vec!["ID".into()])));
        // A type without an order is passed over, unless the table's own words name it.
        assert_eq!(chosen(&["id", "updated_at"], None, upsert, true), Ok(Some(vec!["id".into()])));
        assert_eq!(chosen(&["updated_at"], None, upsert, true), Ok(None));
        let named = IncrementalConfig { column: vec!["updated_at".into()].into(), ..Default::default() };
        let named = TableIncremental::Own(named);
        assert_eq!(chosen(&["id", "updated_at"], Some(&named), upsert, true), Ok(Some(vec!["updated_at".into()])));
        assert_eq!(chosen(&["a"], None, upsert, true), Ok(None), "such a table is read as a whole");
        assert_eq!(chosen(&["id"], Some(&TableIncremental::Taken(false)), upsert, true), Ok(None));
        assert!(chosen(&["id"], None, WriteMode::Overwrite, true).unwrap_err().contains("upsert"));
        assert_eq!(chosen(&["id"], None, WriteMode::Overwrite, false), Ok(None));
        let own = TableIncremental::Own(IncrementalConfig { column: vec!["b".into()].into(), ..Default::default() });
        assert!(chosen(&["id"], Some(&own), upsert, true).unwrap_err().contains("b"));
        assert_eq!(chosen(&["id", "b"], Some(&own), upsert, true), Ok(Some(vec!["b".into()])));
    }
    #[test]
    fn a_source_table_is_read_by_windows_for_one_target_only() {
        let table = |target: &str, sources: &[&str], incremental: bool| {
            let named = |name: &&str| json!({"source": 0, "name": {"database": "d", "table": name}});
            let incremental = incremental.then(|| json!({"column": "id"}));
            let described =
                json!({"name": {"database": "d", "table": "t"}, "kind": "table", "columns": [], "primary_key": []});
            let table = json!({"target": {"schema": null, "table": target}, "merged": true, "mode": "upsert", "key": ["id"],
                "sources": sources.iter().map(named).collect::<Vec<_>>(), "columns": [], "all_columns": true,
                "incremental": incremental, "group": 0, "rules": {}, "described": described});
            serde_json::from_value::<TableJob>(table).unwrap()
        };
        let shared = |second: bool| {
            let mut expansion = Expansion {
                tables: vec![
                    table("all", &["a", "b"], true),
                    table("some", &["b", "c"], second),
                    table("other", &["d"], true),
                ],
                ..Expansion::default()
            };
            refuse_shared(&mut expansion);
            let failed: Vec<_> = expansion.failed.into_iter().map(|table| (table.target, table.reason)).collect();
            (expansion.tables.len(), failed)
        };
        let (left, failed) = shared(true);
        assert_eq!((left, failed.len()), (1, 2), "{failed:?}");
        assert!(
            failed.iter().all(|(_, reason)| reason.starts_with("d.b is read by windows for all and some")),
            "{failed:?}"
        );
        assert_eq!(shared(false), (3, Vec::new()), "who reads all of it every time moves nothing");
    }
}
