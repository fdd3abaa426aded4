//! SQLite's own statements: values straight out of and into the library, without a copy of each cell.
//!
//! The driver opens connections; its rows, however, duplicate every value and cross a channel one by one. A
//! [`Database`] holds the driver's lock on the connection and steps statements itself. All `unsafe` code of this system
//! is in this file, and its interface is safe: a statement borrows its database, a value borrows its statement, and
//! stepping or binding needs the statement mutably, so no value outlives the moment SQLite keeps it for.
//!
//! Everything here blocks: call it through [`Connection::run`](crate::Connection::run).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libsqlite3_sys as ffi;
use sqlx::sqlite::{LockedSqliteHandle, SqliteConnection};
use weir_core::{Error, Result};

use crate::error::{Failure, driver_error};

/// How long a statement waits for another program's lock before the run gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stored value, borrowed from SQLite or on its way to it. Text is UTF-8 unless the file holds broken text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(&'a [u8]),
    /// BLOB.
    Blob(&'a [u8]),
}

impl Value<'_> {
    /// The storage class as SQLite's `typeof` names it, in capitals.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Integer(_) => "INTEGER",
            Self::Real(_) => "REAL",
            Self::Text(_) => "TEXT",
            Self::Blob(_) => "BLOB",
        }
    }
}

/// A column of a statement's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    /// The name in the result.
    pub name: String,
    /// The declared type, where the column is a table's column that has one.
    pub declared: Option<String>,
}

/// A connection that this thread holds for itself.
pub struct Database<'c> {
    raw: NonNull<ffi::sqlite3>,
    // Keeps the driver's thread off the connection. Raw pointers make the type neither Send nor Sync.
    handle: LockedSqliteHandle<'c>,
    go_on: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl<'c> Database<'c> {
    /// Takes the connection from the driver's thread, which is idle between statements. `go_on` is asked every few
    /// thousand steps of a statement; `false` interrupts it.
    pub fn lock(
        connection: &'c mut SqliteConnection,
        go_on: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        let mut handle = futures::executor::block_on(connection.lock_handle()).map_err(driver_error)?;
        let go_on: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(go_on);
        let asked = go_on.clone();
        handle.set_progress_handler(20_000, move || asked());
        let raw = handle.as_raw_handle();
        Ok(Self { raw, handle, go_on })
    }

    /// Compiles one statement.
    ///
    /// # Errors
    /// SQLite's own message for faulty SQL; text after the end of the statement.
    pub fn prepare(&self, sql: &str) -> Result<Statement<'_>, Failure> {
        // Even compiling reads the schema, which another program may hold.
        match self.patiently(|| self.compile(sql))? {
            (Some(statement), rest) if rest.trim().is_empty() => Ok(statement),
            (Some(_), _) => Err(Failure::new(ffi::SQLITE_ERROR, "there is more than one statement: keep one")),
            (None, _) => Err(Failure::new(ffi::SQLITE_ERROR, "there is no statement")),
        }
    }

    fn compile<'s>(&self, sql: &'s str) -> Result<(Option<Statement<'_>>, &'s str), Failure> {
        let length = c_int::try_from(sql.len()).map_err(|_| Failure::new(ffi::SQLITE_TOOBIG, "the SQL is too long"))?;
        let mut statement = ptr::null_mut();
        let mut tail: *const c_char = ptr::null();
        // SAFETY: the connection is open and ours while `handle` is held; `sql` is `length` bytes long and SQLite
        // reads no further; both out-pointers are valid for the call.
        let code = unsafe {
            ffi::sqlite3_prepare_v2(self.raw.as_ptr(), sql.as_ptr().cast(), length, &mut statement, &mut tail)
        };
        if code != ffi::SQLITE_OK {
            return Err(self.failure(code));
        }
        let used = if tail.is_null() { sql.len() } else { (tail as usize).saturating_sub(sql.as_ptr() as usize) };
        let rest = sql.get(used..).unwrap_or("");
        Ok((NonNull::new(statement).map(|raw| Statement { raw, database: self, has_row: false }), rest))
    }

    /// Runs one or more statements to their end and ignores their rows. A statement that meets another program's lock
    /// is tried again for a while.
    pub fn execute(&self, sql: &str) -> Result<(), Failure> {
        let mut rest = sql;
        while !rest.trim().is_empty() {
            let (statement, after) = self.patiently(|| {
                let (mut statement, after) = self.compile(rest)?;
                if let Some(statement) = &mut statement {
                    while statement.step()? {}
                }
                Ok((statement, after))
            })?;
            drop(statement);
            rest = after;
        }
        Ok(())
    }

    /// Tries `action` again while another program holds the lock it needs.
    pub fn patiently<T>(&self, mut action: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            match action() {
                Err(failure) if failure.is_busy() && start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                    if !(self.go_on)() {
                        return Err(Failure::new(ffi::SQLITE_INTERRUPT, "interrupted"));
                    }
                }
                result => return result,
            }
        }
    }

    /// Runs a query and hands each row to `row`.
    pub fn query(&self, sql: &str, values: &[Value<'_>], mut row: impl FnMut(&Statement<'_>)) -> Result<(), Failure> {
        let mut statement = self.prepare(sql)?;
        self.patiently(|| statement.start(values))?;
        while statement.has_row {
            row(&statement);
            statement.step()?;
        }
        Ok(())
    }

    /// The first column of the first row, as an integer.
    pub fn integer(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<i64>, Failure> {
        let mut found = None;
        self.query(sql, values, |row| found = found.or(row.integer(0)))?;
        Ok(found)
    }

    /// The first column of all rows, as text.
    pub fn texts(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        self.query(sql, values, |row| found.extend(row.text(0)))?;
        Ok(found)
    }

    /// The rows that the last finished INSERT, UPDATE or DELETE changed.
    pub fn changes(&self) -> u64 {
        // SAFETY: the connection is open and ours.
        unsafe { ffi::sqlite3_changes64(self.raw.as_ptr()) }.max(0).unsigned_abs()
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        // SAFETY: the connection is open and ours.
        unsafe { ffi::sqlite3_get_autocommit(self.raw.as_ptr()) == 0 }
    }

    fn failure(&self, code: c_int) -> Failure {
        // SAFETY: the connection is open and ours; the message is NUL-terminated and copied before any other call.
        let (extended, message) = unsafe {
            let message = ffi::sqlite3_errmsg(self.raw.as_ptr());
            let text = if message.is_null() { String::new() } else { CStr::from_ptr(message).to_string_lossy().into() };
            (ffi::sqlite3_extended_errcode(self.raw.as_ptr()), text)
        };
        Failure::new(if extended & 0xff == code & 0xff { extended } else { code }, message)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        self.handle.remove_progress_handler();
    }
}

/// A compiled statement.
pub struct Statement<'d> {
    raw: NonNull<ffi::sqlite3_stmt>,
    database: &'d Database<'d>,
    has_row: bool,
}

impl Statement<'_> {
    /// Goes to the next row; `false` after the last one.
    pub fn step(&mut self) -> Result<bool, Failure> {
        // SAFETY: the statement is alive until dropped, and no value of its last row is borrowed (`&mut self`).
        let code = unsafe { ffi::sqlite3_step(self.raw.as_ptr()) };
        self.has_row = code == ffi::SQLITE_ROW;
        match code {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            code => {
                let failure = self.database.failure(code);
                self.reset();
                Err(failure)
            }
        }
    }

    /// Starts over with `values` as parameters and goes to the first row. The values are copied.
    pub fn start(&mut self, values: &[Value<'_>]) -> Result<bool, Failure> {
        self.reset();
        self.bind(values, ffi::SQLITE_TRANSIENT())?;
        self.step()
    }

    /// Runs a statement that gives no rows, with `values` as parameters.
    pub fn run(&mut self, values: &[Value<'_>]) -> Result<(), Failure> {
        self.reset();
        // The values are not copied: they live until the bindings are cleared below, on every way out.
        let result = self.bind(values, ffi::SQLITE_STATIC()).and_then(|()| {
            while self.step()? {}
            Ok(())
        });
        self.reset();
        // SAFETY: the statement is alive.
        unsafe { ffi::sqlite3_clear_bindings(self.raw.as_ptr()) };
        result
    }

    /// Every caller either lets SQLite copy (`SQLITE_TRANSIENT`) or clears the bindings before `values` end.
    fn bind(&mut self, values: &[Value<'_>], keep: ffi::sqlite3_destructor_type) -> Result<(), Failure> {
        for (i, value) in (1..).zip(values) {
            let raw = self.raw.as_ptr();
            // An empty slice's pointer is dangling but not null, and SQLite reads no byte of it.
            // SAFETY: the statement is alive and reset; pointers and lengths come from slices that live as long as
            // `keep` asks for (see above).
            let code = unsafe {
                match *value {
                    Value::Null => ffi::sqlite3_bind_null(raw, i),
                    Value::Integer(n) => ffi::sqlite3_bind_int64(raw, i, n),
                    Value::Real(x) => ffi::sqlite3_bind_double(raw, i, x),
                    Value::Text(t) => {
                        let encoding = ffi::SQLITE_UTF8 as u8;
                        ffi::sqlite3_bind_text64(raw, i, t.as_ptr().cast(), t.len() as u64, keep, encoding)
                    }
                    Value::Blob(b) => {
                        ffi::sqlite3_bind_blob64(raw, i, b.as_ptr().cast::<c_void>(), b.len() as u64, keep)
                    }
                }
            };
            if code != ffi::SQLITE_OK {
                return Err(self.database.failure(code));
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.has_row = false;
        // SAFETY: the statement is alive. The code returned repeats the last step's, which was handled there.
        unsafe { ffi::sqlite3_reset(self.raw.as_ptr()) };
    }

    /// The value of column `index` in the current row; NULL where there is no row or no such column.
    pub fn value(&self, index: usize) -> Value<'_> {
        let Ok(i) = c_int::try_from(index) else { return Value::Null };
        let raw = self.raw.as_ptr();
        // SAFETY: the statement is alive; without a row or with an index out of range SQLite answers NULL. A value is
        // only asked for in the form it has, so no conversion moves it; the first call of `column_text` may change
        // UTF-16 to UTF-8, after which the pointer stays until the next step or reset, which need `&mut self`. The
        // length is asked after the pointer, as SQLite demands.
        unsafe {
            match ffi::sqlite3_column_type(raw, i) {
                ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_column_int64(raw, i)),
                ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_column_double(raw, i)),
                ffi::SQLITE_TEXT => {
                    let pointer = ffi::sqlite3_column_text(raw, i);
                    Value::Text(bytes(pointer, ffi::sqlite3_column_bytes(raw, i)))
                }
                ffi::SQLITE_BLOB => {
                    let pointer = ffi::sqlite3_column_blob(raw, i);
                    Value::Blob(bytes(pointer.cast(), ffi::sqlite3_column_bytes(raw, i)))
                }
                _ => Value::Null,
            }
        }
    }

    /// Whether SQLite ran out of memory while it handed out a value: what was handed out is then not the value.
    pub fn out_of_memory(&self) -> bool {
        // SAFETY: the connection is open and ours.
        unsafe { ffi::sqlite3_errcode(self.database.raw.as_ptr()) == ffi::SQLITE_NOMEM }
    }

    /// A value as text, if it is text.
    pub fn text(&self, index: usize) -> Option<String> {
        match self.value(index) {
            Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }

    /// A value as an integer, if it is one.
    pub fn integer(&self, index: usize) -> Option<i64> {
        match self.value(index) {
            Value::Integer(n) => Some(n),
            _ => None,
        }
    }

    /// The columns of the result.
    pub fn columns(&self) -> Vec<ResultColumn> {
        // SAFETY: the statement is alive; names and types are NUL-terminated and copied at once.
        unsafe {
            (0..ffi::sqlite3_column_count(self.raw.as_ptr()))
                .map(|i| ResultColumn {
                    name: copied(ffi::sqlite3_column_name(self.raw.as_ptr(), i)).unwrap_or_default(),
                    declared: copied(ffi::sqlite3_column_decltype(self.raw.as_ptr(), i)),
                })
                .collect()
        }
    }
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        // SAFETY: finalised once, here; the database outlives the statement.
        unsafe { ffi::sqlite3_finalize(self.raw.as_ptr()) };
    }
}

/// # Safety
/// `pointer` is null or valid for `length` bytes for `'a`.
unsafe fn bytes<'a>(pointer: *const u8, length: c_int) -> &'a [u8] {
    match usize::try_from(length) {
        // SAFETY: by the caller's promise.
        Ok(length) if length > 0 && !pointer.is_null() => unsafe { slice::from_raw_parts(pointer, length) },
        _ => &[],
    }
}

/// # Safety
/// `pointer` is null or points to a NUL-terminated text.
unsafe fn copied(pointer: *const c_char) -> Option<String> {
    // SAFETY: by the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.into_error()
    }
}
