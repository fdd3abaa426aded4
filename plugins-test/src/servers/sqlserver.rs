//! SQL Server cannot be installed from a package registry: its tests run where somebody provides one.

/// The URL in `WEIR_TEST_SQLSERVER`; without one the test is counted as not run, see [`not_run`](crate::not_run).
pub fn sqlserver() -> Option<String> {
    let url = std::env::var("WEIR_TEST_SQLSERVER").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        crate::not_run("WEIR_TEST_SQLSERVER names no SQL Server");
    }
    url
}
