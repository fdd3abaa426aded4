//! From the staging table into the target: the statements of the publishing transaction.

use weir_core::{Error, Receipt, Result, WritePlan};
use weir_sql::config::DuplicateKeys;
use weir_sql::keys::equal_keys;
use weir_sql::order::Steps;
use weir_sqlserver::{QUOTING, Session, cell_number, cell_text};

use crate::state::{Publish, ROW, SPLIT, State};

/// The names that the statements are made of.
pub(crate) struct Names {
    target: String,
    staging: String,
    /// The written columns.
    columns: Vec<String>,
    /// Those of them that an update may set: the server's own numbers stay.
    settable: Vec<String>,
    /// Those of them whose values of equal keys may differ all the same: texts, by case or accent.
    texts: Vec<String>,
    /// Which rows of the staging table belong to finished splits.
    chosen: String,
    /// The identity column, if it is written: no statement changes the number of a row that is there.
    number: Option<String>,
    /// Whether a row whose number is another is made anew.
    renumbers: bool,
}

impl Names {
    pub(crate) fn new(plan: &WritePlan, state: &State, receipts: &[Receipt]) -> Result<Self> {
        let staging = state.staging.as_ref().ok_or_else(|| Error::internal("nothing is staged"))?;
        let mut splits: Vec<u32> = receipts.iter().map(|r| r.split).collect();
        splits.sort_unstable();
        let chosen = match splits.as_slice() {
            [] => "1 = 0".into(),
            splits => format!("s.{SPLIT} IN ({})", splits.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
        };
        let both = || plan.columns.iter().zip(&state.columns);
        Ok(Self {
            target: state.table.quoted(QUOTING),
            staging: staging.quoted(QUOTING),
            columns: plan.columns.iter().map(|c| c.name.clone()).collect(),
            settable: both().filter(|(_, w)| !w.identity).map(|(c, _)| c.name.clone()).collect(),
            texts: both().filter(|(_, w)| w.kind().is_text()).map(|(c, _)| c.name.clone()).collect(),
            chosen,
            renumbers: state.renumbers,
            number: both().find(|(_, w)| w.identity).map(|(c, _)| c.name.clone()),
        })
    }

    fn list(&self) -> String {
        QUOTING.quote_all(&self.columns)
    }

    fn values(&self) -> String {
        self.columns.iter().map(|n| format!("s.{}", QUOTING.quote(n))).collect::<Vec<_>>().join(", ")
    }

    /// Two NULLs are equal here, as they are to a unique key of this system.
    pub(crate) fn equal(keys: &[String], nullable: &[String]) -> String {
        let one = |key: &String| {
            let name = QUOTING.quote(key);
            match nullable.contains(key) {
                true => format!("(t.{name} = s.{name} OR (t.{name} IS NULL AND s.{name} IS NULL))"),
                false => format!("t.{name} = s.{name}"),
            }
        };
        keys.iter().map(one).collect::<Vec<_>>().join(" AND ")
    }

    /// Assignments of every column that may differ between rows of equal keys.
    fn sets(&self, keys: &[String], with_keys: bool) -> String {
        let differs = |n: &&String| !keys.contains(n) || (with_keys && self.texts.contains(n));
        let sets = self.settable.iter().filter(differs).map(|n| format!("{0} = s.{0}", QUOTING.quote(n)));
        sets.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn steps(&self, publish: &Publish, keys: &[String]) -> Steps {
        let Self { target, staging, chosen, .. } = self;
        let (list, values) = (self.list(), self.values());
        match publish {
            Publish::None => Steps::default(),
            Publish::Insert => {
                let insert =
                    format!("INSERT INTO {target} ({list}) SELECT {values} FROM {staging} AS s WHERE {chosen}");
                Steps { fill: self.numbered(insert), ..Steps::default() }
            }
            Publish::Replace => {
                let insert =
                    format!("INSERT INTO {target} ({list}) SELECT {values} FROM {staging} AS s WHERE {chosen}");
                // The lock keeps other writers' rows from slipping in between the two.
                let clear = format!("DELETE FROM {target} WITH (TABLOCKX)");
                Steps { clear: Some(clear), fill: self.numbered(insert), ..Steps::default() }
            }
            Publish::Diff(keys) => {
                let (equal, sets) = (Self::equal(keys, &[]), self.sets(keys, true));
                // A row whose number is another now is deleted, and inserted with it.
                let mut stays = keys.clone();
                stays.extend(self.number.iter().filter(|number| self.renumbers && !keys.contains(number)).cloned());
                let clear = format!(
                    "DELETE t FROM {target} AS t WITH (TABLOCKX) WHERE NOT EXISTS \
                     (SELECT 1 FROM {staging} AS s WHERE {} AND {chosen})",
                    Self::equal(&stays, &[])
                );
                let mut fill = Vec::new();
                if !sets.is_empty() {
                    fill.push(format!(
                        "UPDATE t SET {sets} FROM {target} AS t INNER JOIN {staging} AS s ON {equal} WHERE {chosen}"
                    ));
                }
                let insert = format!(
                    "INSERT INTO {target} ({list}) SELECT {values} FROM {staging} AS s WHERE {chosen} AND NOT EXISTS \
                     (SELECT 1 FROM {target} AS t WHERE {equal})"
                );
                fill.extend(self.numbered(insert));
                Steps { clear: Some(clear), by_key: true, fill, ..Steps::default() }
            }
            Publish::Upsert { nullable } => {
                let (equal, sets, last) = (Self::equal(keys, nullable), self.sets(keys, false), self.last_rows(keys));
                let mut fill = Vec::new();
                if !sets.is_empty() {
                    fill.push(format!(
                        "UPDATE t SET {sets} FROM {target} AS t WITH (UPDLOCK, HOLDLOCK) INNER JOIN {last} ON {equal} \
                         WHERE s.weir_last = 1"
                    ));
                }
                let insert = format!(
                    "INSERT INTO {target} ({list}) SELECT {values} FROM {last} WHERE s.weir_last = 1 AND NOT EXISTS \
                     (SELECT 1 FROM {target} AS t WITH (UPDLOCK, HOLDLOCK) WHERE {equal})"
                );
                fill.extend(self.numbered(insert));
                Steps { fill, ..Steps::default() }
            }
        }
    }

    /// An INSERT that brings its own numbers for an identity column.
    fn numbered(&self, insert: String) -> Vec<String> {
        let Self { target, .. } = self;
        match self.number.is_some() {
            true => {
                vec![format!("SET IDENTITY_INSERT {target} ON"), insert, format!("SET IDENTITY_INSERT {target} OFF")]
            }
            false => vec![insert],
        }
    }

    /// The rows of the staging table, of which the last of each key has `weir_last` 1.
    fn last_rows(&self, keys: &[String]) -> String {
        let Self { staging, chosen, .. } = self;
        let groups: Vec<String> = keys.iter().map(|k| format!("s.{}", QUOTING.quote(k))).collect();
        format!(
            "(SELECT {}, ROW_NUMBER() OVER (PARTITION BY {} ORDER BY s.{SPLIT} DESC, s.{ROW} DESC) AS weir_last \
             FROM {staging} AS s WHERE {chosen}) AS s",
            self.values(),
            groups.join(", ")
        )
    }

    /// Fails when two staged rows have one key and the job wants to know.
    pub(crate) async fn check_duplicates(
        &self,
        session: &mut Session,
        plan: &WritePlan,
        wanted: DuplicateKeys,
    ) -> Result<()> {
        let keys = &plan.keys;
        if wanted == DuplicateKeys::Last || keys.is_empty() {
            return Ok(());
        }
        let Self { staging, chosen, .. } = self;
        let names: Vec<String> = keys.iter().map(|k| format!("s.{}", QUOTING.quote(k))).collect();
        let shown: Vec<String> = names.iter().map(|n| format!("CAST({n} AS nvarchar(200))")).collect();
        let row = session
            .row(&format!(
                "SELECT TOP 1 COUNT_BIG(*), {} FROM {staging} AS s WHERE {chosen} GROUP BY {} HAVING COUNT_BIG(*) > 1",
                shown.join(", "),
                names.join(", ")
            ))
            .await?;
        let Some(row) = row else { return Ok(()) };
        let rows = cell_number(&row, 0).unwrap_or_default();
        let key: Vec<String> =
            (1..=keys.len()).map(|i| cell_text(&row, i).map_or("NULL".into(), |t| format!("'{t}'"))).collect();
        let key: String = key.join(", ").chars().take(200).collect();
        Err(equal_keys(&self.target, (&plan.columns, keys), &key, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(identity: bool) -> Names {
        let own = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        Names {
            target: "[dbo].[t]".into(),
            staging: "[dbo].[s]".into(),
            columns: own(&["id", "a"]),
            settable: own(if identity { &["a"] } else { &["id", "a"] }),
            texts: own(&["a"]),
            chosen: "s.weir_split IN (0, 1)".into(),
            number: identity.then(|| "id".into()),
            renumbers: true,
        }
    }

    #[test]
    fn an_upsert_needs_no_merge() {
        let publish = Publish::Upsert { nullable: Vec::new() };
        let all = names(false).steps(&publish, &["id".into()]).fill;
        assert_eq!(all.len(), 2);
        assert!(
            all[0].starts_with("UPDATE t SET [a] = s.[a] FROM [dbo].[t] AS t WITH (UPDLOCK, HOLDLOCK)"),
            "{}",
            all[0]
        );
        assert!(all[0].contains("PARTITION BY s.[id] ORDER BY s.weir_split DESC, s.weir_row DESC"), "{}", all[0]);
        assert!(all[1].ends_with("WHERE t.[id] = s.[id])"), "{}", all[1]);
        // Nothing but keys: there is nothing to update.
        assert_eq!(names(false).steps(&publish, &["id".into(), "a".into()]).fill.len(), 1);
        let null = Publish::Upsert { nullable: vec!["id".into()] };
        assert!(names(false).steps(&null, &["id".into()]).fill[1].contains("t.[id] IS NULL AND s.[id] IS NULL"));
    }

    #[test]
    fn an_overwrite_deletes_and_inserts_with_numbers_of_its_own() {
        let all = names(true).steps(&Publish::Replace, &[]);
        assert_eq!(all.clear.as_deref(), Some("DELETE FROM [dbo].[t] WITH (TABLOCKX)"));
        assert_eq!(
            all.fill,
            [
                "SET IDENTITY_INSERT [dbo].[t] ON",
                "INSERT INTO [dbo].[t] ([id], [a]) SELECT s.[id], s.[a] FROM [dbo].[s] AS s WHERE s.weir_split IN (0, 1)",
                "SET IDENTITY_INSERT [dbo].[t] OFF",
            ]
        );
        let by_text = names(true).steps(&Publish::Diff(vec!["a".into()]), &[]);
        assert!(by_text.clear.unwrap().contains("t.[a] = s.[a] AND t.[id] = s.[id]"));
        let diff = names(false).steps(&Publish::Diff(vec!["id".into()]), &[]);
        assert!(diff.clear.unwrap().starts_with("DELETE t FROM [dbo].[t] AS t"));
        assert!(diff.fill[0].starts_with("UPDATE t SET [a] = s.[a]"), "{:?}", diff.fill);
    }
}
