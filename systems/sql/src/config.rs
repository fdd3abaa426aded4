//! The parameters that every relational reader and writer has, with DataX's names.
//!
//! A connector nests them with `#[serde(flatten)]` beside its own. `flatten` and `deny_unknown_fields` exclude each
//! other, which costs nothing here: the runtime validates against the schema first and finds unknown keys there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use weir_core::DuplicateKeys;

/// The way on for who may not stage rows that a share of dirty ones decides about.
pub const WITHOUT_A_SHARE: &str =
    "rows are staged because `errorLimit` is a percentage alone, which is decided at the end: a `record` does without";

use weir_core::config::OneOrMany;
use weir_core::{Faults, Form, OnEmpty, Secret, WriteMode};

use crate::columns::is_all;
use crate::incremental::IncrementalConfig;
use crate::statements::trimmed;
use crate::tables;

/// Parameters of a relational reader.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct ReaderConfig {
    /// Where the database is: the system's own URL or a `jdbc:` URL. SQLite: the file's path.
    #[serde(alias = "jdbcUrl", alias = "path")]
    #[schemars(extend("x-aliases" = ["jdbcUrl", "path"]))]
    pub url: Option<String>,
    /// The login name; may stand in the URL instead.
    #[serde(alias = "user")]
    #[schemars(extend("x-aliases" = ["user"]))]
    pub username: Option<String>,
    /// The password. Write it as `${env:NAME}` or `${file:PATH}`.
    pub password: Option<Secret>,
    /// The table, or several with the same columns; `t_[00-31]` stands for a range of them. A name means the table that the
    /// server itself takes it for, and none in other letters that it tells apart.
    pub table: OneOrMany<String>,
    /// Statements to read instead of tables, one split each.
    pub query_sql: OneOrMany<String>,
    /// Several databases with the same tables (shards), DataX's way: each has `jdbcUrl` and `table` or `querySql`.
    pub connection: OneOrMany<ReaderConnection>,
    /// The columns in order; `*` or none for all. What names no column is an SQL expression or constant.
    pub column: OneOrMany<String>,
    /// A condition for the rows to read, without the word WHERE.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// The column to split by; by default the reader chooses.
    pub split_pk: Option<String>,
    /// Reads only what is new since the job's last run that succeeded.
    pub incremental: Option<IncrementalConfig>,
    /// Statements for every session, run after connecting.
    pub session: OneOrMany<String>,
}

/// One database of several.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct ReaderConnection {
    /// The URL; of several the first that answers is used.
    #[serde(alias = "url")]
    #[schemars(extend("x-aliases" = ["url"]))]
    pub jdbc_url: OneOrMany<String>,
    /// The login name, where it differs from the common one.
    pub username: Option<String>,
    /// The password, where it differs from the common one.
    pub password: Option<Secret>,
    /// The tables.
    pub table: OneOrMany<String>,
    /// Statements instead of tables.
    pub query_sql: OneOrMany<String>,
}

/// Parameters of a relational writer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct WriterConfig {
    /// Where the database is: the system's own URL or a `jdbc:` URL. SQLite: the file's path.
    #[serde(alias = "jdbcUrl", alias = "path")]
    #[schemars(extend("x-aliases" = ["jdbcUrl", "path"]))]
    pub url: Option<String>,
    /// The login name; may stand in the URL instead.
    #[serde(alias = "user")]
    #[schemars(extend("x-aliases" = ["user"]))]
    pub username: Option<String>,
    /// The password. Write it as `${env:NAME}` or `${file:PATH}`.
    pub password: Option<Secret>,
    /// The table; a name means the table that the server itself takes it for, and none in other letters that it tells apart.
    pub table: OneOrMany<String>,
    /// DataX's way to give URL and table.
    pub connection: OneOrMany<WriterConnection>,
    /// The columns to write, in order; `*` or none for all.
    pub column: OneOrMany<String>,
    /// append (insert), overwrite, upsert (update); MySQL also replace and ignore (insert ignore).
    pub write_mode: Option<WriteMode>,
    /// The key columns of an upsert, by default the primary key; or those that `duplicateKeys` compares.
    pub key: OneOrMany<String>,
    /// Whether to create the table when it is missing. On under the plain names, off under DataX's.
    pub create_table: Option<bool>,
    /// Whether to create the table's schema (MySQL: its database) when that is missing. Off by default, on in
    /// whole-database jobs. SQLite has none.
    pub create_schema: Option<bool>,
    /// What an upsert does when the input holds a key more than once: `last` keeps the row that comes last, in the
    /// order of splits and of rows within a split; `error` fails the job before anything is published. With overwrite `error`
    /// means the same, also where the table itself has no such key; with append its own unique keys decide.
    pub duplicate_keys: DuplicateKeys,
    /// What an overwrite does when the source is empty: overwrite, keep or error.
    pub on_empty: OnEmpty,
    /// Where Weir keeps its own tables: `weir_commits`, the record of finished splits, and staging tables. By default
    /// beside the target.
    pub ledger: LedgerConfig,
    /// Whether finished splits are recorded at the target, so that neither a retry nor a resume can double or lose one.
    /// It takes the right to create tables; without that right, a job goes on only with `false`.
    pub exactly_once: Option<bool>,
    /// Statements before the load; `@table` stands for the table.
    pub pre_sql: OneOrMany<String>,
    /// Statements after the load is published.
    pub post_sql: OneOrMany<String>,
    /// Statements for every session, run after connecting.
    pub session: OneOrMany<String>,
    /// The most rows to send at once.
    #[schemars(range(min = 1))]
    pub batch_size: Option<u64>,
    /// The most bytes to send at once.
    #[schemars(range(min = 1))]
    pub batch_byte_size: Option<u64>,
}

/// Where a writer keeps its own tables.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct LedgerConfig {
    /// The schema (MySQL: the database).
    pub schema: Option<String>,
}

/// URL and table, DataX's way.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct WriterConnection {
    /// The URL; of several the first that answers is used.
    #[serde(alias = "url")]
    #[schemars(extend("x-aliases" = ["url"]))]
    pub jdbc_url: OneOrMany<String>,
    /// The login name, where it differs from the common one.
    pub username: Option<String>,
    /// The password, where it differs from the common one.
    pub password: Option<Secret>,
    /// The table.
    pub table: OneOrMany<String>,
}

/// What one source of a reader is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A table, as the job wrote it (already expanded).
    Table(String),
    /// A statement, without trailing semicolons.
    Query(String),
}

/// One table or statement, and where it is.
#[derive(Debug, Clone)]
pub struct Source {
    /// URLs of the same database; the first that answers is used.
    pub urls: Vec<String>,
    /// The login name beside the URL.
    pub username: Option<String>,
    /// The password beside the URL.
    pub password: Option<Secret>,
    /// The table or statement.
    pub object: Object,
}

/// What a reader reads.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The tables and statements in order.
    pub list: Vec<Source>,
    /// What was ignored; belongs into [`SourceSchema::warnings`](weir_core::SourceSchema::warnings).
    pub warnings: Vec<String>,
}

/// The one table of a writer, and where it is.
#[derive(Debug, Clone)]
pub struct Destination {
    /// URLs of the same database; the first that answers is used.
    pub urls: Vec<String>,
    /// The login name beside the URL.
    pub username: Option<String>,
    /// The password beside the URL.
    pub password: Option<Secret>,
    /// The table as the job wrote it.
    pub table: String,
}

impl ReaderConfig {
    /// All tables or statements of all databases, in order.
    ///
    /// `table`, `column`, `where` and `splitPk` say nothing about statements. Beside `querySql` they are a fault in our
    /// own form; in DataX's form one warning, and they are taken out of these parameters. Where a job reads both
    /// tables and statements, from several databases, they hold for the tables.
    ///
    /// # Errors
    /// No URL, no table, or parameters beside statements; every fault with its pointer.
    pub fn sources(&mut self, form: Form) -> Result<Sources, Faults> {
        let mut faults = Faults::default();
        let mut sources = Vec::new();
        let warnings = self.settle_statements(form, &mut faults).into_iter().collect();
        let whole = ReaderConnection {
            jdbc_url: self.url.iter().cloned().collect::<Vec<_>>().into(),
            username: None,
            password: None,
            table: self.table.clone(),
            query_sql: self.query_sql.clone(),
        };
        let connections: Vec<(String, ReaderConnection)> = if self.connection.is_empty() {
            vec![(String::new(), whole)]
        } else {
            let list = matches!(self.connection, OneOrMany::Many(_));
            let pointer = |i: usize| if list { format!("/connection/{i}") } else { "/connection".into() };
            let entries = self.connection.as_slice().iter().enumerate();
            // What a connection does not say itself, the parameters beside `connection` may say for all of them.
            entries
                .map(|(i, c)| {
                    let mut c = c.clone();
                    if c.jdbc_url.is_empty() {
                        c.jdbc_url = whole.jdbc_url.clone();
                    }
                    if c.table.is_empty() && c.query_sql.is_empty() {
                        c.table = whole.table.clone();
                        c.query_sql = whole.query_sql.clone();
                    }
                    (pointer(i), c)
                })
                .collect()
        };
        for (pointer, connection) in &connections {
            if connection.jdbc_url.is_empty() {
                faults.add(pointer, "no `url`: say where the database is (or name a `datasource`)");
            }
            if connection.table.is_empty() && connection.query_sql.is_empty() {
                faults.add(pointer, "no `table`: name a table, or give a `querySql`");
            }
            let tables = match tables::expand(connection.table.as_slice(), &format!("{pointer}/table")) {
                Ok(tables) => tables,
                Err(more) => {
                    faults.0.extend(more.0);
                    continue;
                }
            };
            let queries = connection.query_sql.as_slice().iter().map(|q| Object::Query(trimmed(q).to_owned()));
            for object in tables.into_iter().map(Object::Table).chain(queries) {
                sources.push(Source {
                    urls: connection.jdbc_url.as_slice().to_vec(),
                    username: connection.username.clone().or_else(|| self.username.clone()),
                    password: connection.password.clone().or_else(|| self.password.clone()),
                    object,
                });
            }
        }
        if let Some(incremental) = &self.incremental {
            if incremental.column.is_empty() {
                faults.add("/incremental", "no `column`: name the column that says when a row was last changed");
            }
            if sources.iter().any(|source| matches!(source.object, Object::Query(_))) {
                let text =
                    "`incremental` does not apply to `querySql`: read a table, or write the window into the statement";
                faults.add("/incremental", text);
            }
        }
        faults.or(Sources { list: sources, warnings })
    }

    /// What stands beside statements and does not apply to them: taken out with a warning, or added to the faults.
    fn settle_statements(&mut self, form: Form, faults: &mut Faults) -> Option<String> {
        let native = form == Form::Native;
        let mut ignored: Vec<String> = Vec::new();
        let mut note = |key: &'static str, pointer: String, remedy: &str| {
            if native {
                faults.add(pointer, format!("`{key}` does not apply to `querySql`: {remedy}"));
            } else if !ignored.iter().any(|k| k == key) {
                ignored.push(key.to_owned());
            }
        };
        const NO_TABLE: &str = "remove one of the two";
        let in_connections = self.connection.as_slice().iter().any(|c| !c.query_sql.is_empty());
        if !self.table.is_empty() && !self.query_sql.is_empty() {
            note("table", "/table".into(), NO_TABLE);
            self.table = OneOrMany::default();
        }
        let mut only_statements = self.connection.is_empty() && !self.query_sql.is_empty();
        if !self.connection.is_empty() {
            let list = matches!(self.connection, OneOrMany::Many(_));
            let mut connections = self.connection.as_slice().to_vec();
            only_statements = in_connections || !self.query_sql.is_empty();
            for (i, connection) in connections.iter_mut().enumerate() {
                if !connection.table.is_empty() && !connection.query_sql.is_empty() {
                    let at = if list { format!("/connection/{i}/table") } else { "/connection/table".into() };
                    note("table", at, NO_TABLE);
                    connection.table = OneOrMany::default();
                }
                let says_nothing = connection.table.is_empty() && connection.query_sql.is_empty();
                let tables = if says_nothing { !self.table.is_empty() } else { !connection.table.is_empty() };
                only_statements &= !tables;
            }
            self.connection = if list {
                connections.into()
            } else {
                connections.pop().map_or_else(OneOrMany::default, OneOrMany::One)
            };
        }
        if only_statements {
            if !is_all(self.column.as_slice()) {
                note("column", "/column".into(), "list the columns in the statement");
            }
            if self.filter().is_some() {
                note("where", "/where".into(), "write the condition into the statement");
            }
            if self.split_pk.is_some() {
                note("splitPk", "/splitPk".into(), "a statement is one split; remove it");
            }
            self.column = OneOrMany::default();
            (self.condition, self.split_pk) = (None, None);
        }
        if ignored.is_empty() {
            return None;
        }
        Some(format!("`querySql` is read as it stands; ignored beside it: {}", ignored.join(", ")))
    }

    /// The job's `where` without trailing semicolons; it does not apply to statements.
    pub fn filter(&self) -> Option<&str> {
        self.condition.as_deref().map(trimmed).filter(|c| !c.is_empty())
    }
}

impl WriterConfig {
    /// The one table to write.
    ///
    /// # Errors
    /// No URL, no table, or several of them.
    pub fn destination(&self) -> Result<Destination, Faults> {
        let mut faults = Faults::default();
        let connections = self.connection.as_slice();
        if connections.len() > 1 {
            faults.add("/connection", "a job writes to one database: keep one entry, and make a job for each other");
        }
        let connection = connections.first().cloned().unwrap_or_default();
        let at = if connections.is_empty() { "" } else { "/connection/0" };
        let mut urls = connection.jdbc_url.as_slice().to_vec();
        if urls.is_empty() {
            urls.extend(self.url.clone());
        }
        if urls.is_empty() {
            faults.add(at, "no `url`: say where the database is (or name a `datasource`)");
        }
        let entries = if connection.table.is_empty() { &self.table } else { &connection.table };
        let tables = tables::expand(entries.as_slice(), &format!("{at}/table"))?;
        match tables.len() {
            0 => faults.add(at, "no `table`: name the table to write"),
            1 => {}
            n => faults.add(format!("{at}/table"), format!("{n} tables: a writer has one; make a job for each")),
        }
        if self.duplicate_keys == DuplicateKeys::Error && matches!(self.mode(), WriteMode::Replace | WriteMode::Ignore)
        {
            let message =
                format!("writeMode {} lets one of two rows of a key go, so that none is seen", self.mode().name());
            faults.add("/duplicateKeys", message);
        }
        faults.or(())?;
        Ok(Destination {
            urls,
            username: connection.username.or_else(|| self.username.clone()),
            password: connection.password.or_else(|| self.password.clone()),
            table: tables.into_iter().next().unwrap_or_default(),
        })
    }

    /// Whether a missing table is created: as the job says, else by whose name the writer was called.
    pub fn creates(&self, form: Form) -> bool {
        self.create_table.unwrap_or(form == Form::Native)
    }

    /// The write mode; append by default.
    pub fn mode(&self) -> WriteMode {
        self.write_mode.unwrap_or(WriteMode::Append)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reader(value: serde_json::Value) -> ReaderConfig {
        weir_core::config::parse(&value).unwrap()
    }

    #[test]
    fn shards_and_the_short_form_give_the_same_kind_of_list() {
        let mut short = reader(json!({"url": "mysql://h/d", "table": "t_[0-1]", "where": "a > 1;"}));
        assert_eq!(short.sources(Form::Native).unwrap().list.len(), 2);
        assert_eq!(short.filter(), Some("a > 1"));
        let mut long = reader(json!({"username": "u", "password": "p", "column": ["a"], "connection": [
            {"jdbcUrl": ["jdbc:mysql://a/d", "jdbc:mysql://b/d"], "table": ["x", "y"]},
            {"jdbcUrl": "jdbc:mysql://c/d", "querySql": ["select 1;"]}]}));
        let sources = long.sources(Form::Native).unwrap().list;
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[0].urls.len(), 2);
        assert_eq!(sources[2].object, Object::Query("select 1".into()));
        assert_eq!(sources[2].username.as_deref(), Some("u"));
        assert_eq!(long.column.as_slice(), ["a"], "the tables have it");
        assert!(!format!("{long:?}").contains("\"p\""));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults = reader(json!({"connection": [{"table": "a", "querySql": "select 1"}, {}]}))
            .sources(Form::Native)
            .unwrap_err();
        assert_eq!(faults.0.len(), 4, "{faults}");
        let writer: WriterConfig = weir_core::config::parse(&json!({"table": ["a", "b"]})).unwrap();
        assert_eq!(writer.destination().unwrap_err().0.len(), 2);
    }

    #[test]
    fn a_mode_that_lets_rows_of_a_key_go_cannot_refuse_them() {
        for (mode, refused) in [("replace", true), ("ignore", true), ("append", false), ("upsert", false)] {
            let job = json!({"url": "mysql://h/d", "table": "t", "writeMode": mode, "duplicateKeys": "error"});
            let writer: WriterConfig = weir_core::config::parse(&job).unwrap();
            let found = writer.destination().err().map(|faults| faults.0[0].pointer.clone());
            assert_eq!(found.as_deref(), refused.then_some("/duplicateKeys"), "{mode}");
        }
    }

    #[test]
    fn what_says_nothing_about_statements_is_a_fault_here_and_a_warning_in_datax() {
        let beside = json!({"column": ["a", "b"], "where": "a > 1", "splitPk": "a"});
        let with = |more: serde_json::Value| {
            let mut all = beside.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            reader(all)
        };
        let here = json!({"url": "u", "table": "t", "querySql": "select 1"});
        let listed = json!({"connection": [{"jdbcUrl": "u", "table": "t", "querySql": "select 1"}]});
        for (more, table) in [(here, "/table"), (listed, "/connection/0/table")] {
            let faults = with(more.clone()).sources(Form::Native).unwrap_err();
            let pointers: Vec<_> = faults.0.iter().map(|f| f.pointer.as_str()).collect();
            assert_eq!(pointers, [table, "/column", "/where", "/splitPk"]);
            let mut config = with(more);
            let sources = config.sources(Form::DataX).unwrap();
            assert_eq!(sources.warnings.len(), 1);
            assert!(sources.warnings[0].ends_with("table, column, where, splitPk"), "{:?}", sources.warnings);
            assert_eq!(sources.list.len(), 1);
            assert_eq!(sources.list[0].object, Object::Query("select 1".into()));
            assert!(config.column.is_empty() && config.filter().is_none() && config.split_pk.is_none());
        }
        let windows = json!({"url": "u", "querySql": "select 1", "incremental": {"from": "5"}});
        assert_eq!(reader(windows).sources(Form::DataX).unwrap_err().0.len(), 2);
        let mut plain = reader(json!({"url": "u", "querySql": "select 1", "column": ["*"], "where": " ; "}));
        assert!(plain.sources(Form::Native).unwrap().warnings.is_empty());
    }
}
