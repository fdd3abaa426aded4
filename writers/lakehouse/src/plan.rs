//! What `plan` decides and every later step needs.

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

/// Where an upsert's rows wait, below the table's folder. Delta ignores folders that begin with an underscore.
pub(crate) fn staging(plan: &WritePlan) -> Option<String> {
    (plan.mode == WriteMode::Upsert).then(|| format!("_weir/{}", plan.run_id))
}
