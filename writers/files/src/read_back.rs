//! How the files reader reads what was written here.

use arrow::datatypes::{DataType, Field};
use serde_json::{Map, Value, json};
use weir_core::field::{DECIMAL, JSON, extension};
use weir_core::{Error, ErrorKind, Parameters, Result, WritePlan};
use weir_files::{Compression, Format};

use crate::plan::{Quotes, Rules};

/// The reader's parameters: everything that a file does not say itself is said, also what the writer has by default.
pub(crate) fn read_back(rules: &Rules, plan: &WritePlan, parameters: Parameters) -> Result<Parameters> {
    if rules.format == Format::Sql {
        let text = "files of SQL statements cannot be read back: run them with the database's own tool";
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let mut read = Map::new();
    for key in ["path", "storageOptions"] {
        if let Some(value) = parameters.get(key) {
            read.insert(key.into(), value.clone());
        }
    }
    if let (None, Some(prefix), Some(folder)) = (&rules.single, &rules.prefix, read.get("path").and_then(Value::as_str))
    {
        let pattern = format!("{}/{prefix}*", folder.trim_end_matches('/'));
        read.insert("path".into(), pattern.into());
    }
    let format = if rules.format == Format::Text { "csv" } else { rules.format.extension() };
    read.insert("format".into(), format.into());
    if !rules.format.is_text() {
        read.insert("column".into(), plan.columns.iter().map(|column| column.name.as_str()).collect());
        return Ok(Value::Object(read));
    }
    let compression = match rules.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Bzip2 => "bzip2",
        Compression::Snappy => "snappy",
        Compression::Zip => "zip",
    };
    read.insert("compress".into(), compression.into());
    read.insert("encoding".into(), rules.encoding.name().into());
    let csv = rules.format != Format::Jsonl;
    let columns = plan.columns.iter().enumerate().map(|(index, column)| {
        let mut entry = json!({"name": column.name, "type": type_of(&column.input)});
        // The header may have names of its own.
        if csv {
            entry["index"] = index.into();
        }
        let dates = matches!(column.input.data_type(), DataType::Date32 | DataType::Timestamp(..));
        if let Some(pattern) = rules.date_text.as_ref().filter(|_| csv && dates) {
            entry["format"] = pattern.as_str().into();
        }
        entry
    });
    read.insert("column".into(), columns.collect());
    if csv {
        read.insert("header".into(), rules.header.is_some().into());
        read.insert("delimiter".into(), rules.delimiter.clone().into());
        let quote = if rules.quotes == Quotes::None { "none".into() } else { rules.quote.to_string() };
        read.insert("quote".into(), quote.into());
        read.insert("trim".into(), false.into());
        if !rules.null_format.is_empty() {
            read.insert("nullFormat".into(), rules.null_format.clone().into());
        }
    }
    Ok(Value::Object(read))
}

/// The reader's name for a type; what it has none for comes as text.
fn type_of(field: &Field) -> String {
    match (field.data_type(), extension(field)) {
        (DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64, _) => "long".into(),
        (DataType::UInt8 | DataType::UInt16 | DataType::UInt32, _) => "long".into(),
        (DataType::UInt64, _) => "ulong".into(),
        (DataType::Float64, _) => "double".into(),
        (DataType::Boolean, _) => "boolean".into(),
        (DataType::Date32, _) => "date".into(),
        (DataType::Timestamp(_, zone), _) => if zone.is_some() { "instant" } else { "timestamp" }.into(),
        (DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale), _) if *scale >= 0 => {
            format!("decimal({precision},{scale})")
        }
        (DataType::Utf8, Some(DECIMAL)) => "decimal".into(),
        (DataType::Utf8, Some(JSON)) => "json".into(),
        (DataType::Binary, _) => "bytes".into(),
        _ => "string".into(),
    }
}
