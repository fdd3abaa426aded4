//! Which tables of a whole-database job are read by windows, and along which of their columns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::config::OneOrMany;
use weir_core::incremental::IncrementalConfig;
use weir_core::{TableDescription, WriteMode};

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
/// the job's, for tables with one of the columns. A table that is replaced as a whole is read as a whole.
///
/// # Errors
/// A column that the table does not have; a table that would keep its last window alone.
pub fn choose(
    rule: Option<&IncrementalConfig>,
    own: Option<&TableIncremental>,
    table: &TableDescription,
    (mode, keyed): (WriteMode, bool),
) -> Result<Option<IncrementalConfig>, String> {
    let (config, asked) = match (own, rule) {
        (Some(TableIncremental::Taken(false)), _) => return Ok(None),
        (Some(TableIncremental::Own(own)), _) => (own, true),
        (_, Some(rule)) => (rule, false),
        (_, None) => return Ok(None),
    };
    let wanted = config.column.as_slice();
    let Some(column) = wanted.iter().find_map(|name| find(table, name)) else {
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

/// The table's own spelling of a column's name.
fn find(table: &TableDescription, name: &str) -> Option<String> {
    let exact = table.columns.iter().find(|column| column.name == name);
    let same = |other: &&weir_core::ColumnDescription| other.name.to_lowercase() == name.to_lowercase();
    exact.or_else(|| table.columns.iter().find(same)).map(|column| column.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(columns: &[&str]) -> TableDescription {
        let column = |name: &&str| json!({"name": name, "native_type": "t", "nullable": true});
        let columns: Vec<_> = columns.iter().map(column).collect();
        let name = json!({"database": "d", "schema": null, "table": "t"});
        serde_json::from_value(json!({"name": name, "kind": "table", "columns": columns, "primary_key": []})).unwrap()
    }

    #[test]
    fn the_first_column_that_a_table_has_is_taken() {
        let rule = IncrementalConfig { column: vec!["updated_at".into(), "id".into()].into(), ..Default::default() };
        let chosen = |columns: &[&str], own: Option<&TableIncremental>, mode, keyed| {
            let chosen = choose(Some(&rule), own, &table(columns), (mode, keyed));
            chosen.map(|config| config.map(|config| config.column.as_slice().to_vec()))
        };
        let upsert = WriteMode::Upsert;
        assert_eq!(chosen(&["ID", "Updated_At"], None, upsert, true), Ok(Some(vec!["Updated_At".into()])));
        assert_eq!(chosen(&["ID"], None, upsert, true), Ok(Some(vec!["ID".into()])));
        assert_eq!(chosen(&["a"], None, upsert, true), Ok(None), "such a table is read as a whole");
        assert_eq!(chosen(&["id"], Some(&TableIncremental::Taken(false)), upsert, true), Ok(None));
        assert!(chosen(&["id"], None, WriteMode::Overwrite, true).unwrap_err().contains("upsert"));
        assert_eq!(chosen(&["id"], None, WriteMode::Overwrite, false), Ok(None));
        let own = TableIncremental::Own(IncrementalConfig { column: vec!["b".into()].into(), ..Default::default() });
        assert!(chosen(&["id"], Some(&own), upsert, true).unwrap_err().contains("b"));
        assert_eq!(chosen(&["id", "b"], Some(&own), upsert, true), Ok(Some(vec!["b".into()])));
    }
}
