//! Whole jobs against real servers and real files, every value compared at both ends.

mod datax;
mod docs;
mod engine;
mod orders;
mod registry;
mod routes;
mod support;
