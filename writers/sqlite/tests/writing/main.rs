//! Real files, written as a run writes them.

mod ahead;
mod kill;
mod modes;
mod once;
mod support;
