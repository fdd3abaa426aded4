//! Windows along the server's own record of changes, where a table has change tracking.
//!
//! The record holds, for each key, the version of the last transaction that changed its row. A window is a range of
//! versions, and its rows are those whose last change lies in it. Versions are numbers that the server counts up when
//! transactions commit, so no row appears late.

use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, Result, Window, WindowRequest};
use weir_sql::IncrementalConfig;
use weir_sql::incremental::{Asked, Point, Scale};
use weir_sqlserver::{QUOTING, Session, Table, Tracking, kept_since, tracking};

use crate::source::Described;

/// What stands for the change column: the record's own name for the version.
pub(crate) const COLUMN: &str = "SYS_CHANGE_VERSION";

const SCALE: Scale = Scale::Number(0);

/// The changes that a split's rows are found by: the server must still keep them when the last row has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// The table, quoted.
    table: String,
    /// The version after which they begin.
    since: i64,
}

/// The job's words for the table's window, if they mean change tracking: no column that the table has comes first.
///
/// # Errors
/// They mean nothing else, and change tracking is off or hidden.
pub(crate) async fn meant(
    session: &mut Session,
    table: &Table,
    config: &IncrementalConfig,
) -> Result<Option<Tracking>> {
    let has = |name: &String| {
        let name = QUOTING.unquote(name).to_lowercase();
        table.columns.iter().any(|column| column.name.to_lowercase() == name)
    };
    let mut wanted = config.column.as_slice().iter();
    let found = wanted.find(|name| has(name) || name.eq_ignore_ascii_case(COLUMN));
    if found.is_none_or(has) {
        return Ok(None);
    }
    match tracking(session, &table.name).await? {
        None if wanted.any(has) => Ok(None),
        None => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "`incremental` is to go by change tracking, which is off for the table: ALTER DATABASE … SET \
                 CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS), ALTER TABLE {} ENABLE CHANGE_TRACKING; or name a column",
                table.name.quoted(QUOTING)
            ),
        )
        .with("parameter", "incremental.column")),
        found => Ok(found),
    }
}

/// The window of a run that begins now.
///
/// # Errors
/// A watermark that the server no longer knows, or does not know yet; those of [`Asked::window`].
pub(crate) fn window(
    tracking: Tracking,
    (label, place): (&str, &str),
    config: &IncrementalConfig,
    request: &WindowRequest,
) -> Result<Window> {
    let asked =
        Asked { table: label, place, column: COLUMN, scale: SCALE, nullable: false, indexed: true, config, request };
    let now = i128::from(tracking.version);
    if let Some(Point::Number(mark)) = asked.watermark()?
        && mark > now + 1
    {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "the last run read all changes before version {mark}, and the database is at version {now}: it was \
                 restored, or made anew; read everything once more with --full"
            ),
        ));
    }
    let mut window = asked.window(Some(Point::Number(now)))?;
    if let Some(low) = &window.low
        && since(low)? < tracking.oldest
    {
        return Err(forgotten(since(low)?));
    }
    window.warnings.push(format!("{label}: rows that were deleted at the source are not seen, and stay at the target"));
    Ok(window)
}

/// The version after which a window's changes begin, given its low end.
fn since(low: &str) -> Result<i64> {
    let low: i64 = low.parse().map_err(|_| {
        let text = format!("the window's bound {low} is no version: the job read something else before");
        Error::new(ErrorKind::Conflict, text)
    })?;
    Ok((low - 1).max(0))
}

fn forgotten(since: i64) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "the server no longer keeps all changes after version {since} (the database's CHANGE_RETENTION is over, or the \
             table was emptied by TRUNCATE): read everything once more with --full"
        ),
    )
}

/// The condition for the rows of a window, the changes that it needs, and the statement that counts its rows where
/// counting is cheap.
pub(crate) fn narrowed(
    described: &Described,
    table: &Table,
    window: &Window,
) -> Result<(String, Changes, Option<String>)> {
    let from = &described.from;
    let high = match &window.high {
        Some(high) => since(high)? + 1,
        None => return Ok(("1 = 0".into(), Changes { table: from.clone(), since: i64::MAX }, None)),
    };
    let equal = |key: &String| {
        let key = QUOTING.quote(key);
        format!("weir_changes.{key} = {from}.{key}")
    };
    let same: Vec<String> = table.primary_key().iter().map(equal).collect();
    let same = same.join(" AND ");
    if same.is_empty() {
        return Err(Error::new(ErrorKind::Conflict, "the table has lost its primary key since the run was planned"));
    }
    let changes = |since: i64| format!("CHANGETABLE(CHANGES {from}, {since}) AS weir_changes");
    let Some(low) = &window.low else {
        // A first run reads everything, but for what has changed since it began: that is the next one's.
        let since = high - 1;
        let condition = format!("NOT EXISTS (SELECT 1 FROM {} WHERE {same})", changes(since));
        return Ok((condition, Changes { table: from.clone(), since }, None));
    };
    let since = since(low)?;
    let (changes, before) = (changes(since), format!("weir_changes.{COLUMN} < {high}"));
    let condition = format!("EXISTS (SELECT 1 FROM {changes} WHERE {same} AND {before})");
    let count =
        format!("SELECT COUNT_BIG(*) FROM {changes} WHERE {before} AND weir_changes.SYS_CHANGE_OPERATION <> 'D'");
    Ok((condition, Changes { table: from.clone(), since }, Some(count)))
}

impl Changes {
    /// Whether the server has kept them until now; without that, rows may be missing from what was read.
    ///
    /// # Errors
    /// It has not.
    pub(crate) async fn still_kept(&self, session: &mut Session) -> Result<()> {
        match kept_since(session, &self.table, self.since).await? {
            true => Ok(()),
            false => Err(forgotten(self.since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Isolation;
    use weir_core::Watermark;
    use weir_sql::TableName;
    use weir_sqlserver::Unique;

    fn described() -> (Described, Table) {
        let key = |columns: &[&str]| Unique { primary: true, columns: columns.iter().map(|c| c.to_string()).collect() };
        let table = Table {
            id: 1,
            name: TableName::parse("dbo.t", QUOTING).unwrap(),
            view: false,
            rows: Some(1000),
            bytes: None,
            columns: Vec::new(),
            unique: vec![key(&["a", "b]"])],
            checks: Vec::new(),
            referenced_by: Vec::new(),
        };
        let described = Described {
            label: "dbo.t".into(),
            from: "[dbo].[t]".into(),
            bare: false,
            columns: Vec::new(),
            table: Some(table.clone()),
            isolation: Isolation::Snapshot,
        };
        (described, table)
    }

    fn after(watermark: Option<&str>, tracking: Tracking) -> Result<Window> {
        let config = IncrementalConfig { column: vec![COLUMN.to_owned()].into(), ..Default::default() };
        let mark = |value: &str| Watermark {
            table: "dbo.t".into(),
            place: "h/d".into(),
            column: COLUMN.into(),
            value: value.into(),
        };
        let watermarks = watermark.into_iter().map(mark).collect();
        let request =
            WindowRequest { watermarks, places: vec!["h/d".into()], clocks: "UTC".parse().unwrap(), clocks_said: true };
        window(tracking, ("dbo.t", "h/d"), &config, &request)
    }

    #[test]
    fn windows_of_versions_touch() {
        let (described, table) = described();
        let first = after(None, Tracking { version: 41, oldest: 7 }).unwrap();
        assert_eq!((first.low.as_deref(), first.high.as_deref()), (None, Some("42")));
        assert!(first.warnings[0].contains("deleted"), "{:?}", first.warnings);
        let (condition, changes, count) = narrowed(&described, &table, &first).unwrap();
        assert_eq!(
            condition,
            "NOT EXISTS (SELECT 1 FROM CHANGETABLE(CHANGES [dbo].[t], 41) AS weir_changes \
             WHERE weir_changes.[a] = [dbo].[t].[a] AND weir_changes.[b]]] = [dbo].[t].[b]]])"
        );
        assert_eq!((changes.since, count), (41, None));
        let next = after(Some("42"), Tracking { version: 50, oldest: 7 }).unwrap();
        let (condition, changes, count) = narrowed(&described, &table, &next).unwrap();
        assert_eq!(
            condition,
            "EXISTS (SELECT 1 FROM CHANGETABLE(CHANGES [dbo].[t], 41) AS weir_changes WHERE weir_changes.[a] = \
             [dbo].[t].[a] AND weir_changes.[b]]] = [dbo].[t].[b]]] AND weir_changes.SYS_CHANGE_VERSION < 51)"
        );
        assert_eq!(changes, Changes { table: "[dbo].[t]".into(), since: 41 });
        assert!(count.unwrap().ends_with("SYS_CHANGE_VERSION < 51 AND weir_changes.SYS_CHANGE_OPERATION <> 'D'"));
        assert_eq!(next.describe(), "SYS_CHANGE_VERSION from 42 to before 51");
    }

    #[test]
    fn a_watermark_that_the_server_does_not_know_is_refused() {
        let kept = Tracking { version: 50, oldest: 41 };
        assert!(after(Some("42"), kept).is_ok());
        let error = after(Some("41"), kept).unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.message().contains("--full"), "{error}");
        assert!(after(Some("51"), kept).is_ok(), "nothing has changed since");
        let error = after(Some("52"), kept).unwrap_err();
        assert!(error.message().contains("restored") && error.message().contains("--full"), "{error}");
    }
}
