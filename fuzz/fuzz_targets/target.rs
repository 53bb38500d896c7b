//! The target of this program's name, from `tests/targets/mod.rs`.

#![no_main]

#[allow(dead_code, reason = "of the writers of files, only one is needed")]
#[path = "../../tests/files/mod.rs"]
mod files;
#[path = "../../tests/targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: targets::Target = targets::all()
        .into_iter()
        .find(|target| target.name.replace('.', "-") == env!("CARGO_BIN_NAME"))
        .expect("a target of this program's name");
}

fuzz_target!(|bytes: &[u8]| {
    TARGET.with(|target| (target.read)(bytes));
});
