//! Where types go.

use super::place::System;

/// Where types go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Database(System),
    Delta,
    Parquet,
    Arrow,
    Csv,
    JsonLines,
}

impl Target {
    pub const ALL: [Self; 9] = [
        Self::Database(System::PostgreSql),
        Self::Database(System::MariaDb),
        Self::Database(System::MySql),
        Self::Database(System::Sqlite),
        Self::Delta,
        Self::Parquet,
        Self::Arrow,
        Self::Csv,
        Self::JsonLines,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Database(system) => system.name(),
            Self::Delta => "Delta",
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow IPC",
            Self::Csv => "CSV",
            Self::JsonLines => "JSON lines",
        }
    }

    pub fn format(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            _ => "",
        }
    }

    /// Whether it remembers the source's own types.
    pub fn remembers(self) -> bool {
        matches!(self, Self::Delta | Self::Parquet | Self::Arrow)
    }
}
