//! Job file to plan, tasks, channels, commit and report.
