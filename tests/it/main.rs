//! Whole jobs against real servers and real files, every value compared at both ends.

#[cfg(feature = "cli")]
mod bad_input;
mod database;
mod datax;
mod docs;
mod engine;
mod evolution;
#[cfg(all(feature = "cli", unix))]
mod hostile;
mod incremental;
mod orders;
mod own_files;
mod reference;
mod registry;
mod replay;
mod routes;
mod samples;
mod share;
mod sqlserver;
mod support;
mod types;
mod verify;
