//! Which columns are written, of which types, in which partitions, under which key.

use std::collections::BTreeMap;

use deltalake::DeltaTable;
use deltalake::kernel::StructField;
use weir_core::{Error, ErrorKind, PlannedColumn, Result, WriteRequest};
use weir_lakehouse::{
    delta_error, ensure_writable, existing_input, key_position, named, new_column, type_text, unquoted,
};

use crate::config::Config;
use crate::plan::State;

/// The constant partition values by the table's own names of the columns; a name that the table does not have stays, bare.
pub(crate) fn constants<'a>(
    config: &Config,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<BTreeMap<String, String>> {
    let own = |(entry, value): (&String, &String)| {
        let found = named(entry, names.clone())?;
        Ok((found.map_or_else(|| unquoted(entry), str::to_owned), value.clone()))
    };
    config.partition.iter().map(own).collect()
}

/// The plan's columns for a table that is there.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema), with everything that does not fit.
pub(crate) fn fit(config: &Config, table: &DeltaTable, request: &WriteRequest) -> Result<(Vec<PlannedColumn>, State)> {
    ensure_writable(table)?;
    let snapshot = table.snapshot().map_err(delta_error)?;
    let fields: Vec<StructField> = snapshot.schema().fields().cloned().collect();
    let partition_columns = snapshot.metadata().partition_columns().to_vec();
    let partition = constants(config, fields.iter().map(|f| f.name.as_str()))?;
    let mut wrong = Vec::new();
    let mut columns = Vec::new();
    for column in &request.columns {
        let Some(field) = fields.iter().find(|f| f.name == column.name) else {
            wrong.push(format!("it has no column `{}`", column.name));
            continue;
        };
        match existing_input(column, field) {
            Ok(input) => columns.push(PlannedColumn {
                name: field.name.clone(),
                native_type: type_text(&field.data_type),
                input,
                warning: None,
            }),
            Err(error) => wrong.push(format!("column `{}`: {}", column.name, error.message())),
        }
    }
    for name in partition.keys().filter(|name| !partition_columns.contains(name)) {
        wrong.push(format!("it is not partitioned by `{name}`, which `partition` names"));
    }
    for entry in config.partition_by.as_slice() {
        if named(entry, partition_columns.iter().map(String::as_str))?.is_none() {
            wrong.push(format!("it is not partitioned by `{}`, which `partitionBy` names", unquoted(entry)));
        }
    }
    for field in &fields {
        let written = columns.iter().any(|c| c.name == field.name) || partition.contains_key(&field.name);
        if !written && !field.nullable {
            wrong.push(format!("column `{}` does not take NULL and is not written", field.name));
        }
    }
    if !wrong.is_empty() {
        return Err(Error::new(ErrorKind::Schema, format!("the table does not fit: {}", wrong.join("; "))));
    }
    Ok((columns, State { fields, partition_columns, partition }))
}

/// The plan's columns for a table to be created.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema), with everything that Delta does not take.
pub(crate) fn make(config: &Config, request: &WriteRequest) -> Result<(Vec<PlannedColumn>, State)> {
    let mut columns = Vec::new();
    let mut fields: Vec<StructField> = Vec::new();
    let mut wrong = Vec::new();
    for column in &request.columns {
        let made = new_column(column);
        if fields.iter().any(|f| f.name.to_lowercase() == made.field.name.to_lowercase()) {
            wrong.push(format!("column `{}` comes twice (Delta does not tell case apart)", column.name));
        }
        columns.push(PlannedColumn {
            name: column.name.clone(),
            native_type: type_text(&made.field.data_type),
            input: made.input,
            warning: made.warning,
        });
        fields.push(made.field);
    }
    let partition = constants(config, request.columns.iter().map(|c| c.name.as_str()))?;
    let mut partition_columns: Vec<String> = partition.keys().cloned().collect();
    for name in &partition_columns {
        if !fields.iter().any(|f| &f.name == name) {
            fields.push(StructField::nullable(name, deltalake::kernel::DataType::STRING));
        }
    }
    for entry in config.partition_by.as_slice() {
        match named(entry, fields.iter().map(|f| f.name.as_str()))? {
            Some(name) => partition_columns.push(name.to_owned()),
            None => wrong.push(format!("`partitionBy` names `{}`, which is no column", unquoted(entry))),
        }
    }
    if partition_columns.len() == fields.len() && !fields.is_empty() {
        wrong.push("every column is a partition column: leave at least one out".into());
    }
    if !wrong.is_empty() {
        return Err(Error::new(ErrorKind::Schema, format!("the table cannot be created: {}", wrong.join("; "))));
    }
    Ok((columns, State { fields, partition_columns, partition }))
}

/// The key by which rows are compared: the job's, else the one the columns had at their source.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema) for a key that is not written, or when there is none.
pub(crate) fn keys(config: &Config, request: &WriteRequest, state: &State) -> Result<Vec<String>> {
    let written = |name: &str| state.partition.contains_key(name) || request.columns.iter().any(|c| c.name == name);
    let entries = config.key.as_slice();
    if !entries.is_empty() {
        let own = |entry: &String| match named(entry, state.fields.iter().map(|f| f.name.as_str()))? {
            Some(name) if written(name) => Ok(name.to_owned()),
            _ => {
                let message = format!("`key` names `{}`, which is not among the columns to write", unquoted(entry));
                Err(Error::new(ErrorKind::Schema, message))
            }
        };
        return entries.iter().map(own).collect();
    }
    let mut keys: Vec<(u32, String)> =
        state.fields.iter().filter_map(|f| Some((key_position(f)?, f.name.clone()))).collect();
    if keys.is_empty() {
        keys = request.columns.iter().filter_map(|c| Some((c.key?, c.name.clone()))).collect();
    }
    keys.sort();
    let keys: Vec<String> = keys.into_iter().map(|(_, name)| name).collect();
    if keys.is_empty() || keys.iter().any(|name| !written(name)) {
        let message = "an upsert, or a look at keys, needs a key, and neither the table nor the source has one: name the columns in `key`";
        return Err(Error::new(ErrorKind::Schema, message));
    }
    Ok(keys)
}
