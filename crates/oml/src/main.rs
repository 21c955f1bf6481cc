//! The `oml` command.

fn main() {}
