//! How relational connectors take part in whole-database jobs: from tables to the parameters of one reader or writer.

use serde_json::{Map, Value, json};
use weir_core::{
    Error, ErrorKind, Faults, ObjectName, Parameters, Result, Shard, SourceTables, TargetTable, WriteMode,
};

use crate::names::Quoting;

/// The parameters that say where a database is and who reads it; each entry of `connection` has its own.
const PLACE: [&str; 4] = ["url", "username", "password", "connection"];

/// The reader's parameters for these tables. `name` is how a job writes a table's name in this system, for a table of a
/// shard.
///
/// # Errors
/// Several places of which one has no URL, or is to be read in another way than the first.
pub fn reader_parameters(
    tables: &SourceTables<'_>,
    quoting: Quoting,
    name: impl Fn(&Shard<'_>, &ObjectName) -> String,
) -> Result<Parameters> {
    let names = |shard: &Shard<'_>| shard.tables.iter().map(|table| name(shard, table)).collect::<Vec<_>>();
    let mut parameters = match tables.shards {
        [] => return Err(Error::internal("a table of the job has no source")),
        [one] => {
            let mut parameters = object(one.source);
            parameters.insert("table".into(), json!(names(one)));
            parameters
        }
        [first, others @ ..] => {
            let parameters = manner(first.source);
            others.iter().try_for_each(|other| alike((first, &parameters), other))?;
            let mut parameters = parameters;
            let connections = tables.shards.iter().map(|shard| connection(shard.source, names(shard)));
            let connections = connections.collect::<Result<Vec<_>>>()?;
            parameters.insert("connection".into(), Value::Array(connections));
            parameters
        }
    };
    let mut set = |key: &str, value: Option<Value>| value.map(|value| parameters.insert(key.into(), value));
    let columns: Vec<_> = tables.columns.iter().map(|column| quoting.quote(column)).collect();
    set("column", (!columns.is_empty()).then(|| json!(columns)));
    set("where", tables.condition.map(Value::from));
    set("splitPk", tables.split_key.map(Value::from));
    Ok(Value::Object(parameters))
}

/// How a source is read, wherever it is.
fn manner(source: &Parameters) -> Map<String, Value> {
    let mut parameters = object(source);
    parameters.retain(|key, _| !PLACE.contains(&key.as_str()));
    parameters
}

/// One reader has one manner for all of its databases.
fn alike((first, manner_of_first): (&Shard<'_>, &Map<String, Value>), other: &Shard<'_>) -> Result<()> {
    let (a, b) = (manner_of_first, manner(other.source));
    let mut apart: Vec<_> = a.keys().chain(b.keys()).filter(|key| a.get(*key) != b.get(*key)).collect();
    apart.sort();
    apart.dedup();
    if apart.is_empty() {
        return Ok(());
    }
    let apart: Vec<_> = apart.into_iter().map(|key| format!("`{key}`")).collect();
    let text = format!(
        "the sources {} and {} of a merge differ in {}: give them the same, for their tables are read as one",
        first.name,
        other.name,
        apart.join(", ")
    );
    Err(Error::new(ErrorKind::Schema, text))
}

/// One database of several, in the words of `connection`.
fn connection(source: &Parameters, tables: Vec<String>) -> Result<Value> {
    let inner = source.pointer("/connection/0").or(source.get("connection")).cloned().unwrap_or_default();
    let of = |key: &str| inner.get(key).or_else(|| source.get(key)).cloned();
    let url = inner.get("jdbcUrl").or_else(|| source.get("url")).cloned();
    let url = url.ok_or_else(|| Error::config("a source of the job has no `url`"))?;
    let mut connection = Map::new();
    connection.insert("jdbcUrl".into(), url);
    for key in ["username", "password"] {
        if let Some(value) = of(key) {
            connection.insert(key.into(), value);
        }
    }
    connection.insert("table".into(), json!(tables));
    Ok(Value::Object(connection))
}

/// The writer's parameters for this table.
///
/// # Errors
/// A partition: the tables of these systems are not partitioned by the job.
pub fn writer_parameters(table: &TargetTable<'_>, quoting: Quoting) -> Result<Parameters, Faults> {
    if table.partition.is_some() {
        let message =
            "partitions of the job are for lakehouses and files: this system's tables have none that a job fills";
        return Err(Faults::one("", message));
    }
    let mut parameters = object(table.target);
    let name = match &table.name.schema {
        Some(schema) => format!("{}.{}", quoting.quote(schema), quoting.quote(&table.name.table)),
        None => quoting.quote(&table.name.table),
    };
    parameters.insert("table".into(), json!([name]));
    parameters.insert("writeMode".into(), table.mode.name().into());
    parameters.entry("createSchema").or_insert(true.into());
    let compared = table.merged && !table.key.is_empty() && finds_equal_keys(table.target, table.mode);
    if table.mode == WriteMode::Upsert || compared {
        let key: Vec<_> = table.key.iter().map(|column| quoting.quote(column)).collect();
        parameters.insert("key".into(), json!(key));
    }
    if compared {
        parameters.insert("duplicateKeys".into(), "error".into());
    } else if table.distinct && table.mode == WriteMode::Upsert {
        parameters.entry("duplicateKeys").or_insert("error".into());
    }
    Ok(Value::Object(parameters))
}

/// Whether a row of a key that came before is refused: not where the mode lets one of the two rows go.
pub fn finds_equal_keys(_: &Parameters, mode: WriteMode) -> bool {
    !matches!(mode, WriteMode::Replace | WriteMode::Ignore)
}

fn object(parameters: &Parameters) -> Map<String, Value> {
    parameters.as_object().cloned().unwrap_or_default()
}

/// `schema.table`, in systems that have schemas inside of a database.
pub fn schema_and_table(name: &ObjectName, quoting: Quoting) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", quoting.quote(schema), quoting.quote(&name.table)),
        None => quoting.quote(&name.table),
    }
}

/// `database.table`, in systems whose databases are schemas.
pub fn database_and_table(name: &ObjectName, quoting: Quoting) -> String {
    format!("{}.{}", quoting.quote(&name.database), quoting.quote(&name.table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::{Shard, TargetName};

    fn table(database: &str, table: &str) -> ObjectName {
        ObjectName { database: database.into(), schema: None, table: table.into() }
    }

    #[test]
    fn one_place_keeps_its_parameters_and_several_become_connections() {
        let (a, b) = (
            json!({"url": "mysql://a/x", "session": ["s"]}),
            json!({"connection": [{"jdbcUrl": ["mysql://b/y"]}], "username": "u", "session": ["s"]}),
        );
        let (here, there) = ([table("x", "t`1"), table("x", "t2")], [table("y", "t")]);
        let one = [Shard { name: "a", source: &a, database: None, tables: &here }];
        let request = |shards| SourceTables { shards, columns: &[], condition: Some("x > 1"), split_key: None };
        let name = |_: &Shard<'_>, table: &ObjectName| database_and_table(table, Quoting::BACKTICK);
        let read = |shards| reader_parameters(&request(shards), Quoting::BACKTICK, name).unwrap();
        assert_eq!(
            read(&one),
            json!({"url": "mysql://a/x", "session": ["s"], "table": ["`x`.`t``1`", "`x`.`t2`"], "where": "x > 1"})
        );
        let two = [
            Shard { name: "a", source: &a, database: None, tables: &here[1..] },
            Shard { name: "b", source: &b, database: None, tables: &there },
        ];
        assert_eq!(
            read(&two),
            json!({"session": ["s"], "where": "x > 1", "connection": [
                {"jdbcUrl": "mysql://a/x", "table": ["`x`.`t2`"]},
                {"jdbcUrl": ["mysql://b/y"], "username": "u", "table": ["`y`.`t`"]}]})
        );
    }

    #[test]
    fn places_that_are_read_in_other_ways_are_not_read_as_one() {
        let (a, b) =
            (json!({"url": "a", "session": ["s"], "fetchSize": 1}), json!({"url": "b", "consistency": "lock"}));
        let tables = [table("x", "t")];
        let shards = [("one", &a), ("two", &a), ("three", &b)];
        let shards = shards.map(|(name, source)| Shard { name, source, database: None, tables: &tables });
        let request = SourceTables { shards: &shards, columns: &[], condition: None, split_key: None };
        let name = |_: &Shard<'_>, table: &ObjectName| schema_and_table(table, Quoting::DOUBLE);
        let error = reader_parameters(&request, Quoting::DOUBLE, name).unwrap_err();
        let text = error.message();
        assert!(text.contains("one and three") && text.contains("`consistency`, `fetchSize`, `session`:"), "{text}");
    }

    #[test]
    fn a_merge_must_not_let_one_row_take_the_place_of_another() {
        let target = json!({"url": "postgresql://h/d"});
        let name = TargetName { schema: Some("s".into()), table: "t".into() };
        let key = ["id".to_owned()];
        let table = TargetTable {
            target: &target,
            name: &name,
            mode: WriteMode::Upsert,
            key: &key,
            partition: None,
            merged: true,
            distinct: false,
        };
        assert_eq!(
            writer_parameters(&table, Quoting::DOUBLE).unwrap(),
            json!({"url": "postgresql://h/d", "table": ["\"s\".\"t\""], "writeMode": "upsert", "createSchema": true,
                "key": ["\"id\""], "duplicateKeys": "error"})
        );
        let overwrite =
            writer_parameters(&TargetTable { mode: WriteMode::Overwrite, ..table }, Quoting::DOUBLE).unwrap();
        assert_eq!((&overwrite["key"], &overwrite["duplicateKeys"]), (&json!(["\"id\""]), &json!("error")));
        let ignore = writer_parameters(&TargetTable { mode: WriteMode::Ignore, ..table }, Quoting::DOUBLE).unwrap();
        assert_eq!((ignore.get("key"), ignore.get("duplicateKeys")), (None, None), "one of two rows goes");
        let single = TargetTable { mode: WriteMode::Overwrite, merged: false, ..table };
        assert_eq!(writer_parameters(&single, Quoting::DOUBLE).unwrap().get("key"), None);
        let mirrored = TargetTable { merged: false, distinct: true, ..table };
        assert_eq!(writer_parameters(&mirrored, Quoting::DOUBLE).unwrap()["duplicateKeys"], "error");
        let last = json!({"url": "postgresql://h/d", "duplicateKeys": "last"});
        let chosen = TargetTable { target: &last, ..mirrored };
        assert_eq!(writer_parameters(&chosen, Quoting::DOUBLE).unwrap()["duplicateKeys"], "last", "the job says so");
        let partition = TargetTable { partition: Some(("pt", "1")), ..table };
        assert!(writer_parameters(&partition, Quoting::DOUBLE).is_err());
    }
}
