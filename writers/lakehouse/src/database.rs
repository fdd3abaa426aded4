//! How the writer takes part in whole-database jobs: each table is a folder, `schema/table` below the job's `path`.

use serde_json::{Value, json};
use weir_core::{Faults, NameRules, Parameters, TargetTable, WriteMode};

/// Names are folders, of this machine or of an object store. Those of columns Delta tells apart by more than their case.
pub(crate) const NAMES: NameRules = NameRules {
    longest: 200,
    in_bytes: true,
    forbidden: &['/', '\\', '%', ':', '*', '?', '"', '<', '>', '|'],
    ignores_case: false,
    columns_ignore_case: true,
    schemas: true,
    columns: false,
    nests: true,
};

/// Whether a merge looks for keys that come twice in a run.
pub(crate) const FINDS_EQUAL_KEYS: fn(&Parameters, WriteMode) -> bool =
    |_, mode| mode == WriteMode::Upsert || cfg!(feature = "datafusion");

/// The parameters for one table. With a partition, an overwrite replaces just that, and an upsert leaves the others alone.
pub(crate) fn parameters(table: &TargetTable<'_>) -> Result<Parameters, Faults> {
    let mut parameters = table.target.as_object().cloned().unwrap_or_default();
    let name = match &table.name.schema {
        Some(schema) => format!("{schema}/{}", table.name.table),
        None => table.name.table.clone(),
    };
    if name.split('/').any(|part| part == "." || part == "..") {
        return Err(Faults::one("", format!("`{name}` cannot be a folder's name")));
    }
    parameters.insert("table".into(), name.into());
    parameters.insert("writeMode".into(), table.mode.name().into());
    if let Some((field, value)) = table.partition {
        parameters.insert("partition".into(), json!({field: value}));
    }
    let compared = table.merged && !table.key.is_empty() && FINDS_EQUAL_KEYS(table.target, table.mode);
    if compared || table.mode == WriteMode::Upsert {
        let mut key = table.key.to_vec();
        if let Some((field, _)) = table.partition.filter(|_| table.mode == WriteMode::Upsert) {
            // Else a row would take the place of the one that has its key in another partition.
            let is_field = |column: &String| column.to_lowercase() == field.to_lowercase();
            if !key.iter().any(is_field) {
                key.push(field.to_owned());
            }
        }
        parameters.insert("key".into(), json!(key));
    }
    if compared {
        parameters.insert("duplicateKeys".into(), "error".into());
    }
    Ok(Value::Object(parameters))
}
