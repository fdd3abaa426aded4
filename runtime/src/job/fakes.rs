//! Connectors for the tests of this module. Opening one fails with the parameters that it was given.

use schemars::{JsonSchema, schema_for};
use weir_core::config::OneOrMany;
use weir_core::{Faults, ReaderPlugin, Secret, WriterPlugin};

/// Parameters of both ends.
#[derive(JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "only its schema is used")]
#[derive(Default)]
struct Config {
    /// Where it is.
    #[schemars(extend("x-aliases" = ["jdbcUrl"]))]
    url: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    table: OneOrMany<String>,
    column: OneOrMany<String>,
    #[schemars(range(min = 1))]
    batch_size: Option<u64>,
    create_table: Option<bool>,
    session: OneOrMany<String>,
    connection: OneOrMany<Connection>,
}

/// One of several.
#[derive(JsonSchema, Default)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
#[allow(dead_code, reason = "only its schema is used")]
struct Connection {
    #[schemars(extend("x-aliases" = ["url"]))]
    jdbc_url: OneOrMany<String>,
    username: Option<String>,
    password: Option<Secret>,
    table: OneOrMany<String>,
}

weir_core::inventory::submit! {
    ReaderPlugin {
        name: "fake",
        aliases: &["fakereader"],
        summary: "reads nothing",
        schema: || schema_for!(Config),
        ignored: &[("fetchSize", "there is nothing to fetch")],
        refused: &[("splitMode", "there is nothing to split")],
        open: |parameters, context| Err(Faults::one("", format!("opened {:?} with {parameters}", context.form))),
        catalog: None,
        recognise: |_, _| None,
    }
}

weir_core::inventory::submit! {
    WriterPlugin {
        name: "fake",
        aliases: &["fakewriter"],
        summary: "writes nothing",
        schema: || schema_for!(Config),
        ignored: &[],
        refused: &[],
        open: |parameters, context| Err(Faults::one("", format!("opened {:?} with {parameters}", context.form))),
        recognise: |_, _| None,
    }
}

weir_core::inventory::submit! {
    WriterPlugin {
        name: "sink",
        aliases: &["sinkwriter"],
        summary: "takes anything",
        schema: || schema_for!(Config),
        ignored: &[],
        refused: &[],
        open: |_, _| Err(Faults::one("", "closed")),
        recognise: |_, _| None,
    }
}
