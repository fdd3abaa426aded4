//! The parameters of the stream reader.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// Parameters of the stream reader.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The columns, each an object or a plain constant: `["a", 1, {"type": "long", "random": "0,9"}]`.
    pub column: Vec<Column>,
    /// How many rows each channel reads: with 4 channels, four times as many rows in all.
    #[schemars(range(min = 1))]
    pub slice_record_count: Option<u64>,
    /// Makes the random values the same in every run with the same columns, channels and count. By default they differ.
    pub seed: Option<u64>,
}

/// One column: an object, or a constant that stands for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Column {
    /// A constant text.
    Text(String),
    /// A constant truth value.
    Bool(bool),
    /// A constant number.
    Number(Number),
    /// A column that says how its values come about.
    Spec(ColumnSpec),
}

/// How the values of a column come about: exactly one of `value`, `random` and `incr`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct ColumnSpec {
    /// The column's name; by default `column1`, `column2` …
    pub name: Option<String>,
    /// The type: string, long, double, bool, date or bytes. By default string; long for `incr`; under the plain name
    /// also the type of a JSON number or truth value.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The same value in every row.
    #[schemars(extend("x-keep-empty" = true))]
    pub value: Option<Value>,
    /// Random values, `"min,max"`, both included: the range of a long, double or date, the length of a string or bytes;
    /// of a bool the weights of false and true.
    pub random: Option<String>,
    /// A counter, `"start,step"`, that goes on through all channels.
    pub incr: Option<String>,
    /// How dates are written in `value` and `random`; by default `yyyy-MM-dd HH:mm:ss`.
    pub date_format: Option<String>,
}
