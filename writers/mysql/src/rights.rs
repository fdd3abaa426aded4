//! What the user may do where Weir keeps its own tables, and which guarantees follow from it.

use weir_core::{Error, ErrorKind, Result, WriteMode, WriteRequest};
use weir_mysql::{Grants, QUOTING, Table};
use weir_sql::commits::MAX_RUN_ID;
use weir_sql::config::WITHOUT_A_SHARE;
use weir_sql::{Commits, TableName, WriterConfig};

use crate::plan::Facts;

/// The user's rights in the database of Weir's own tables.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// The database: the target's, or the one of `ledger.schema`.
    pub(crate) database: String,
    /// Whether `weir_commits` is there.
    pub(crate) has_commits: bool,
    /// `None` where the server does not tell: then it is tried.
    pub(crate) grants: Option<Grants>,
}

impl Rights {
    fn missing<'a>(&self, privileges: &[&'a str], database: &str, table: &str) -> Vec<&'a str> {
        let Some(grants) = &self.grants else { return Vec::new() };
        privileges.iter().filter(|p| !grants.allow(p, database, table)).copied().collect()
    }

    /// Whether the catalogue shows all tables of a database: to each user it shows those that some right is for.
    pub(crate) fn sees_all(&self, database: &str) -> bool {
        let any = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE"];
        // A name that no single grant can be for.
        self.grants.as_ref().is_none_or(|grants| any.iter().any(|right| grants.allow(right, database, "weir_")))
    }

    /// Whether finished splits can be recorded.
    ///
    /// # Errors
    /// Which guarantee falls without, and the ways on.
    pub(crate) fn record(&self) -> Result<()> {
        let wanted = if self.has_commits {
            &["SELECT", "INSERT", "DELETE"][..]
        } else {
            &["CREATE", "SELECT", "INSERT", "DELETE"]
        };
        let missing = self.missing(wanted, &self.database, weir_sql::commits::TABLE);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the user has no {} on `{}`.`weir_commits`, so finished splits cannot be recorded there: a retry or a \
                 resume could double or lose their rows. Grant it, name another database in `ledger.schema`, or go on \
                 without that guarantee with `exactlyOnce: false`",
                missing.join(", "),
                self.database
            ),
        ))
    }

    /// Whether rows can be staged.
    ///
    /// # Errors
    /// What is missing, and the ways on.
    pub(crate) fn stage(&self, mode: WriteMode) -> Result<()> {
        let mut wanted = vec!["CREATE", "DROP", "SELECT", "INSERT", "DELETE"];
        if mode != WriteMode::Upsert {
            wanted.push("ALTER");
        }
        let without = match mode {
            WriteMode::Overwrite | WriteMode::Upsert => String::new(),
            _ => format!(" ({WITHOUT_A_SHARE})"),
        };
        // A name that no single grant can be for.
        let missing = self.missing(&wanted, &self.database, "weir_");
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the user has no {} in database `{}`, and {} stages its rows in a table of its own, so that nobody sees \
                 half of them: grant it, or name another database in `ledger.schema`{without}",
                missing.join(", "),
                self.database,
                mode.name()
            ),
        ))
    }

    /// Whether the target's rows may be read.
    pub(crate) fn reads(&self, table: &TableName) -> bool {
        self.missing(&["SELECT"], table.schema.as_deref().unwrap_or_default(), &table.name).is_empty()
    }

    /// Whether its rows may be found and changed.
    pub(crate) fn updates(&self, table: &TableName) -> bool {
        let database = table.schema.as_deref().unwrap_or_default();
        self.missing(&["SELECT", "UPDATE"], database, &table.name).is_empty()
    }

    /// Whether the target can be created.
    ///
    /// # Errors
    /// That it cannot.
    pub(crate) fn create(&self, table: &TableName) -> Result<()> {
        let missing = self.missing(&["CREATE"], table.schema.as_deref().unwrap_or_default(), &table.name);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Denied, "the table does not exist, and no grant lets the user CREATE it"))
    }

    /// Whether the target may be created under another name, and be renamed.
    pub(crate) fn rename(&self, table: &TableName) -> bool {
        let database = table.schema.as_deref().unwrap_or_default();
        // A name that no single grant can be for.
        let old = self.missing(&["CREATE", "ALTER", "DROP"], database, "weir_");
        self.grants.is_some() && old.is_empty() && self.missing(&["INSERT"], database, &table.name).is_empty()
    }
}

/// Where finished splits are recorded; `None` when the job does without.
pub(crate) fn commits(
    config: &WriterConfig,
    request: &WriteRequest,
    facts: &Facts,
    mode: WriteMode,
    warnings: &mut Vec<String>,
) -> Result<Option<Commits>> {
    let table = facts.table.as_ref().filter(|t| !t.transactional);
    if let Some(table) = table {
        no_transactions(table, (mode, request.decides_at_end), config.exactly_once)?;
    }
    if config.exactly_once == Some(false) {
        warnings.push(
            "`exactlyOnce` is false: the target keeps no record of finished splits, so a split whose outcome is unknown \
             is not tried again, and a run that died starts from its beginning"
                .into(),
        );
        if table.is_some() {
            warnings.push("the engine has no transactions: what a failed split has written stays".into());
        }
        return Ok(None);
    }
    if request.run_id.len() > MAX_RUN_ID || !request.run_id.is_ascii() {
        return Err(Error::config(format!(
            "the run id `{}` cannot be recorded: use at most {MAX_RUN_ID} ASCII characters",
            request.run_id
        )));
    }
    facts.rights.record()?;
    Ok(Some(Commits::new(&request.run_id, &facts.name, Some(&facts.rights.database))))
}

/// Refuses what cannot be done right in a table without transactions.
///
/// # Errors
/// Why, and the way on.
pub(crate) fn no_transactions(
    table: &Table,
    (mode, decides_at_end): (WriteMode, bool),
    exactly_once: Option<bool>,
) -> Result<()> {
    let engine = table.engine.as_deref().unwrap_or("?");
    let alter = format!("ALTER TABLE {} ENGINE=InnoDB", table.name.quoted(QUOTING));
    let why = match mode {
        WriteMode::Overwrite | WriteMode::Upsert => format!(
            "engine {engine} has no transactions, so readers would see half of an {}, and a failure would leave it: {alter}",
            mode.name()
        ),
        _ if decides_at_end => format!(
            "engine {engine} has no transactions, so a failure would leave a part of the rows ({WITHOUT_A_SHARE}): {alter}"
        ),
        _ if exactly_once == Some(false) => return Ok(()),
        _ => format!(
            "engine {engine} has no transactions, so a failed split could not be taken back and its retry would double \
             rows: {alter}, or go on without that guarantee with `exactlyOnce: false`"
        ),
    };
    Err(Error::new(ErrorKind::Unsupported, why))
}
