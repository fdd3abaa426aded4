//! How the writer takes part in whole-database jobs: each table is a folder of files, `schema/table` below the job's `path`.

use serde_json::{Value, json};
use weir_core::{Error, ErrorKind, Faults, MappedColumn, NameRules, Parameters, Result, TargetTable, WriteMode};
use weir_files::Format;

/// Names are folders. What has a dot would be taken for a file with its extension.
pub(crate) const NAMES: NameRules = NameRules {
    longest: 200,
    in_bytes: true,
    forbidden: &['/', '\\', '%', ':', '*', '?', '"', '<', '>', '|', '.'],
    ignores_case: false,
    columns_ignore_case: false,
    schemas: true,
    columns: false,
    nests: true,
};

/// What names the format.
const FORMAT: [&str; 2] = ["format", "fileFormat"];

/// Whether a merge looks for keys that come twice in a run: not in files of text.
pub(crate) fn finds_equal_keys(target: &Parameters, _: WriteMode) -> bool {
    let named = FORMAT.iter().find_map(|key| target.get(key)?.as_str());
    named.is_none_or(|format| Format::parse(format).is_ok_and(|format| !format.is_text()))
}

/// The parameters for one table: Parquet, where the job names no other format. A partition is a folder `field=value`, and
/// an overwrite replaces just that.
pub(crate) fn parameters(table: &TargetTable<'_>) -> Result<Parameters, Faults> {
    let mut parameters = table.target.as_object().cloned().unwrap_or_default();
    let base = parameters.get("path").and_then(Value::as_str).unwrap_or_default().trim_end_matches('/').to_owned();
    if base.is_empty() {
        return Err(Faults::one("/path", "`path` is missing: name the folder for the tables"));
    }
    let mut path = base;
    for part in table.name.schema.iter().chain([&table.name.table]) {
        path.push('/');
        path.push_str(part);
    }
    if let Some((field, value)) = table.partition {
        if [field, value].iter().any(|text| text.contains(['/', '=', '\\']) || *text == ".." || text.is_empty()) {
            return Err(Faults::one("", format!("the partition {field}={value} cannot be a folder's name")));
        }
        path.push_str(&format!("/{field}={value}"));
    }
    parameters.insert("path".into(), (path + "/").into());
    if !FORMAT.iter().any(|key| parameters.contains_key(*key)) {
        parameters.insert("format".into(), "parquet".into());
    }
    let mode = match table.mode {
        WriteMode::Overwrite => "truncate",
        WriteMode::Append => "append",
        other => {
            let message = format!("files cannot be written with {}: use overwrite or append", other.name());
            return Err(Faults::one("", message));
        }
    };
    parameters.insert("writeMode".into(), mode.into());
    if table.merged && !table.key.is_empty() && finds_equal_keys(table.target, table.mode) {
        parameters.insert("key".into(), json!(table.key));
        parameters.insert("duplicateKeys".into(), "error".into());
    }
    Ok(Value::Object(parameters))
}

/// Refuses a table that has a column by which its folder is named.
pub(crate) fn not_its_partition(folder: &str, columns: &[MappedColumn]) -> Result<()> {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    let Some((field, _)) = name.split_once('=') else { return Ok(()) };
    // Whoever makes columns of folders rarely tells the case of their names.
    let same = |column: &&MappedColumn| column.name.to_lowercase() == field.to_lowercase();
    let Some(column) = columns.iter().find(same).map(|column| &column.name) else { return Ok(()) };
    let text = format!(
        "the rows have a column `{column}`, and `partition` gives the folder of their files a value of it too (`{name}`): \
         programs that read it would find two values. Choose another `field` for `partition`, or leave the column out \
         (`\"columns\": {{\"{column}\": false}}` for this table in `tables`)"
    );
    Err(Error::new(ErrorKind::Schema, text).with("column", column))
}
