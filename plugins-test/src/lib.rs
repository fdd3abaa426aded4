//! The conformance library and private servers for tests.
