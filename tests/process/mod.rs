//! What tests with processes of their own share: they have a `main`, since the same program is parent and child.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Whether the caller of the test program asked for the test of this name: by naming nothing, or a part of it.
pub(crate) fn wanted(name: &str) -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--list") {
        println!("{name}: test");
        return false;
    }
    // What follows a flag with a value is taken for a filter as well; it then only runs the test once more than asked.
    let mut filters = args.iter().filter(|a| !a.starts_with('-')).peekable();
    filters.peek().is_none() || filters.any(|f| name.contains(f.as_str()))
}

/// Starts this program again as a child that works in `folder`; what it prints comes through a pipe.
pub(crate) fn spawn(role: &str, folder: &Path, variables: &[(&str, String)]) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .env(ROLE, role)
        .env(FOLDER, folder)
        .envs(variables.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The role and folder of a child; `None` in the parent.
pub(crate) fn role() -> Option<(String, std::path::PathBuf)> {
    let folder = std::env::var_os(FOLDER)?;
    Some((std::env::var(ROLE).ok()?, folder.into()))
}

const ROLE: &str = "AETHER_TEST_CHILD";
const FOLDER: &str = "AETHER_TEST_FOLDER";
