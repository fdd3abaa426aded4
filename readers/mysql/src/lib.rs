//! Reads tables of mysql.
