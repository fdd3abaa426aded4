//! What the user may do where Weir keeps its own tables, and which guarantees follow from it.

use weir_core::{Error, ErrorKind, Result, WriteMode, WriteRequest};
use weir_sql::commits::{MAX_RUN_ID, TABLE};
use weir_sql::config::WITHOUT_A_SHARE;
use weir_sql::{Commits, TableName, WriterConfig};
use weir_sqlserver::{Rights, Session, exists};

/// The user's rights in the schema of Weir's own tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnTables {
    /// The schema: the target's, or the one of `ledger.schema`.
    pub(crate) schema: String,
    /// Whether `weir_commits` is there.
    pub(crate) has_commits: bool,
    /// What is missing for records.
    records: Vec<String>,
    /// What is missing for staging tables, or any other.
    pub(crate) staging: Vec<String>,
}

impl OwnTables {
    /// Asks the server; who is to make the schema will own it.
    pub(crate) async fn look(session: &mut Session, schema: String, to_be_made: bool) -> Result<Self> {
        if to_be_made {
            return Ok(Self { schema, has_commits: false, records: Vec::new(), staging: Vec::new() });
        }
        let commits = TableName { schema: Some(schema.clone()), name: TABLE.into() };
        let has_commits = exists(session, &commits).await?;
        let staging = Rights::to_create(session, &schema).await?.missing;
        let records = match has_commits {
            true => Rights::on_table(session, &commits, &["SELECT", "INSERT", "DELETE"]).await?.missing,
            false => staging.clone(),
        };
        Ok(Self { schema, has_commits, records, staging })
    }

    /// Whether finished splits can be recorded.
    ///
    /// # Errors
    /// Which guarantee falls without, and the ways on.
    pub(crate) fn record(&self) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the user lacks {}, so finished splits cannot be recorded in {}.{TABLE}: a retry or a resume could double \
                 or lose their rows. Grant it, name another schema in `ledger.schema`, or go on without that guarantee \
                 with `exactlyOnce: false`",
                self.records.join(", "),
                self.schema
            ),
        ))
    }

    /// Whether rows can be staged.
    ///
    /// # Errors
    /// What is missing, and the ways on.
    pub(crate) fn stage(&self, mode: WriteMode) -> Result<()> {
        if self.staging.is_empty() {
            return Ok(());
        }
        let without = match mode {
            WriteMode::Overwrite | WriteMode::Upsert => String::new(),
            _ => format!(" ({WITHOUT_A_SHARE})"),
        };
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the user lacks {}, and {} stages its rows in a table of its own, so that nobody sees half of them: grant \
                 it, or name another schema in `ledger.schema`{without}",
                self.staging.join(", "),
                mode.name()
            ),
        ))
    }
}

/// Where finished splits are recorded; `None` when the job does without.
pub(crate) fn commits(
    config: &WriterConfig,
    request: &WriteRequest,
    target: &TableName,
    own: &OwnTables,
    warnings: &mut Vec<String>,
) -> Result<Option<Commits>> {
    if config.exactly_once == Some(false) {
        warnings.push(
            "`exactlyOnce` is false: the target keeps no record of finished splits, so a split whose outcome is unknown \
             is not tried again, and a run that died starts from its beginning"
                .into(),
        );
        return Ok(None);
    }
    if request.run_id.len() > MAX_RUN_ID || !request.run_id.is_ascii() {
        return Err(Error::config(format!(
            "the run id `{}` cannot be recorded: use at most {MAX_RUN_ID} ASCII characters",
            request.run_id
        )));
    }
    own.record()?;
    Ok(Some(Commits::new(&request.run_id, target, Some(&own.schema))))
}
