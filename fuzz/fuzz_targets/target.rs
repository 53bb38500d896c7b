//! The target of this program's name, from `tests/targets/mod.rs`; or the one that `AETHER_TARGET` names, so that one program is all of them:
//! each takes a minute to link.

#![no_main]

#[allow(dead_code, reason = "of the writers of files, only one is needed")]
#[path = "../../tests/files/mod.rs"]
mod files;
#[path = "../../tests/targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: targets::Target = {
        let name = std::env::var("AETHER_TARGET");
        let name = name.unwrap_or_else(|_| env!("CARGO_BIN_NAME").to_owned());
        let mut all = targets::all().into_iter();
        all.find(|target| target.name.replace('.', "-") == name)
            .unwrap_or_else(|| panic!("there is no target {name:?}"))
    };
}

fuzz_target!(|bytes: &[u8]| {
    TARGET.with(|target| (target.read)(bytes));
});
