//! What `plan` decides and every later step needs, and the names that a run gives to what it makes.

use std::collections::BTreeMap;

use deltalake::kernel::StructField;
use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, WriteMode, WritePlan};

/// The writer's own part of a [`WritePlan`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The table's columns, present or to be created, in its order.
    pub(crate) fields: Vec<StructField>,
    pub(crate) partition_columns: Vec<String>,
    /// Constant partition values, by the table's column names.
    pub(crate) partition: BTreeMap<String, String>,
}

impl State {
    pub(crate) fn of(plan: &WritePlan) -> Result<Self> {
        serde_json::from_value(plan.state.clone())
            .map_err(|e| Error::internal("the plan was not made by the lakehouse writer").because(e))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&StructField> {
        self.fields.iter().find(|f| f.name == name)
    }
}

/// The mark of a run in the table's log.
pub(crate) fn application(plan: &WritePlan) -> String {
    format!("weir:{}", plan.run_id)
}

/// Where a run's records lie, and an upsert's rows wait, below the table's folder. Delta ignores folders that begin with
/// an underscore.
pub(crate) fn staging(plan: &WritePlan) -> String {
    format!("_weir/{}", run_name(&plan.run_id))
}

/// Whether rows wait in the staging until the commit merges them; else they lie where they will stay.
pub(crate) fn is_staged(plan: &WritePlan) -> bool {
    plan.mode == WriteMode::Upsert
}

/// How the names of all data files of a run begin, by which those of a lost attempt are found.
pub(crate) fn run_prefix(plan: &WritePlan) -> String {
    format!("weir_{}_", run_name(&plan.run_id))
}

/// How the names of the data files of one attempt begin.
pub(crate) fn file_prefix(plan: &WritePlan, part: &str, attempt: u32) -> String {
    format!("{}{part}_{attempt}_", run_prefix(plan))
}

/// A run's id as part of a file name. Different ids stay different, none is the beginning of another followed by `_`,
/// and none is longer than a file system takes.
fn run_name(run_id: &str) -> String {
    const LONGEST: usize = 100;
    let mut name = String::with_capacity(run_id.len());
    for byte in run_id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!(".{other:02x}")),
        }
    }
    if name.len() > LONGEST {
        // FNV-1a; `h` is no hexadecimal digit, so no short name looks like this.
        let hash = run_id
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        name.truncate(LONGEST - 20);
        name.push_str(&format!(".h{hash:016x}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::run_name;

    #[test]
    fn runs_have_names_of_their_own() {
        assert_eq!(run_name("0191-ab"), "0191-ab");
        assert_eq!(run_name("night/1_é"), "night.2f1.5f.c3.a9");
        assert_ne!(run_name("a.2f"), run_name("a/"));
        let long = |end: &str| run_name(&format!("{}{end}", "x".repeat(300)));
        assert!(long("a").len() <= 100 && long("a") != long("b"));
    }
}
