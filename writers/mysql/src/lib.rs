//! Writes tables of mysql.
