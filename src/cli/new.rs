//! `weir new`: a job file to fill in.

use serde_json::Value;
use weir::core::Error;
use weir::job::{self, ParameterInfo, Side, find_plugin};

use super::arguments::NewArguments;
use super::style::wrap;
use super::{Outcome, output};

/// What nearly every job has to say; the rest is there as a comment.
const USUAL: [&str; 6] = ["url", "path", "username", "password", "table", "column"];

/// Prints the job.
pub(crate) fn new(arguments: &NewArguments) -> Outcome {
    let text = match arguments.database {
        true => database(&arguments.reader, &arguments.writer)?,
        false => template(&arguments.reader, &arguments.writer)?,
    };
    output::print(&text)?;
    Ok(0)
}

fn template(reader: &str, writer: &str) -> Result<String, Error> {
    let mut text = String::from(
        "{\n  // Fill in what is empty, take the `//` off what you need. Then: weir check, weir plan, weir run.\n  \"job\": {\n    \
         \"setting\": {\n      \"speed\": {\n        // The most channels at once; chosen by the machine when it is missing.\n        \
         // \"channel\": 4,\n        // Rows and bytes a second, for the whole job.\n        // \"record\": 100000,\n        \
         // \"byte\": 50000000,\n      },\n      // Dirty rows that are tolerated; \"unlimited\" for any number.\n      \
         \"errorLimit\": { \"record\": 0 },\n      // The zone that dates in this file are meant in.\n      \
         // \"timeZone\": \"UTC\",\n    },\n    \"content\": [{\n",
    );
    text.push_str(&end("reader", reader, Side::Reader)?);
    text.push_str(&end("writer", writer, Side::Writer)?);
    text.push_str("    }],\n  },\n}\n");
    Ok(text)
}

/// What a whole-database job may say, with what holds when it does not.
const DATABASE: &str = r#"
  // Which tables: database.schema.table (MySQL: database.table), globs or /regular expressions/ for each part. All tables
  // of the connection's database when it is missing.
  // "objects": {
  //   "include": ["shop.*"], "exclude": ["shop.tmp_*"],
  //   // Tables of one structure that become one:
  //   "merge": [{ "into": "orders", "from": ["/shop_[0-9]+/./orders_[0-9]+/"], "origin": true }],
  // },
  // What they are called at the target.
  // "naming": { "schema": "{SOURCE_SCHEMA}", "table": "{SOURCE_TABLE}", "fix": false },
  // A partition of lakehouse tables and of folders of files.
  // "partition": { "field": "pt", "value": "${bizdate}" },
  // What happens when tables have changed since the last run.
  // "rules": { "columnAdded": "add", "columnDeleted": "null", "typeWidened": "widen", "tableDeleted": "ignore", "tableAdded": "add" },
  // overwrite, upsert or append for tables with a key; overwrite or append for those without.
  // "write": { "keyed": "overwrite", "unkeyed": "overwrite" },
  // "group": { "strategy": "smart", "maxSourceConnections": 4, "concurrentGroups": 2 },
  // Each table as soon as it is moved, or `all` together.
  // "publish": "table",
  // What is different for single tables.
  // "tables": { "shop.orders": { "where": "id > 0", "columns": { "secret": false, "nm": "name" }, "writeMode": "append" } },
  "setting": {
    // Dirty rows that are tolerated in each table; "unlimited" for any number.
    "errorLimit": { "record": 0 },
    // Rows and megabytes a second, for the whole job.
    // "speed": { "record": 100000, "mbps": 50 },
  },
}
"#;

fn database(reader: &str, writer: &str) -> Result<String, Error> {
    let side = |key: &str, name: &str, side: Side| {
        let (plugin, _) = find_plugin(name, side).map_err(Error::config)?;
        let able = match side {
            Side::Reader => weir::core::database_reader(plugin.name).is_some(),
            Side::Writer => weir::core::database_writer(plugin.name).is_some(),
        };
        if !able {
            return Err(Error::config(format!("{name} cannot be the {key} of a whole-database job")));
        }
        let parameters = job::parameters(&plugin.schema());
        let place =
            ["url", "path"].into_iter().find(|key| parameters.iter().any(|own| own.name == *key)).unwrap_or("url");
        let login = ["username", "password"].into_iter().filter(|key| parameters.iter().any(|own| own.name == *key));
        let login: String = login.map(|key| format!("      // \"{key}\": \"\",\n")).collect();
        Ok(format!(
            "  \"{key}\": {{\n    \"name\": \"{name}\",\n    \"parameter\": {{\n      \"{place}\": \"\",\n{login}    }},\n  }},\n"
        ))
    };
    Ok(format!(
        "{{\n  // Fill in what is empty, take the `//` off what you need. Then: weir check, weir plan, weir run.\n  \"type\": \
         \"database\",\n{}{}{}",
        side("source", reader, Side::Reader)?,
        side("target", writer, Side::Writer)?,
        DATABASE.trim_start_matches('\n')
    ))
}

fn end(key: &str, name: &str, side: Side) -> Result<String, Error> {
    let (plugin, _) = find_plugin(name, side).map_err(Error::config)?;
    let mut text = format!("      \"{key}\": {{\n        \"name\": \"{name}\",\n        \"parameter\": {{\n");
    let parameters = job::parameters(&plugin.schema());
    let usual = |p: &&ParameterInfo| p.required || USUAL.contains(&p.name.as_str());
    for parameter in parameters.iter().filter(usual) {
        line(&mut text, parameter, "");
    }
    for parameter in parameters.iter().filter(|p| !usual(p)) {
        line(&mut text, parameter, "// ");
    }
    if side == Side::Writer {
        let pairs = ParameterInfo {
            name: "mapping".into(),
            aliases: Vec::new(),
            kind: "a list of objects".into(),
            default: Some(serde_json::json!([{"from": "a", "to": "b"}, {"value": "${bizdate}", "to": "day"}])),
            required: false,
            secret: false,
            description: "Explicit pairs of columns, or constants; by name or position when it is missing.".into(),
            fields: Vec::new(),
        };
        line(&mut text, &pairs, "// ");
    }
    text.push_str("        },\n      },\n");
    Ok(text)
}

fn line(text: &mut String, parameter: &ParameterInfo, comment: &str) {
    for part in wrap(&parameter.description, 96) {
        text.push_str(&format!("          // {part}\n"));
    }
    let value = sample(parameter, comment.is_empty());
    text.push_str(&format!("          {comment}\"{}\": {value},\n", parameter.name));
}

/// A value of the right kind; an empty one means absent and is there to be filled in.
fn sample(parameter: &ParameterInfo, fill_in: bool) -> Value {
    if parameter.secret {
        return if fill_in { "".into() } else { "${env:SECRET}".into() };
    }
    if let Some(default) = &parameter.default {
        return default.clone();
    }
    match parameter.kind.as_str() {
        kind if kind.starts_with('`') => kind[1..].split('`').next().unwrap_or_default().into(),
        kind if kind.starts_with("a whole number") || kind.starts_with("a number") => {
            // The least that is allowed: `a whole number, 1024 or more`, `a number from 0 to 1`.
            let least = kind.split([' ', ',']).find_map(|word| word.parse::<u64>().ok());
            least.unwrap_or(1).into()
        }
        kind if kind.starts_with("true") => true.into(),
        _ if parameter.name == "column" => serde_json::json!(["*"]),
        kind if kind.starts_with("a list") => Value::Array(Vec::new()),
        kind if kind.starts_with("an object") => Value::Object(Default::default()),
        _ => "".into(),
    }
}
