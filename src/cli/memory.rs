//! Opening a memory for a command.

use std::sync::Arc;

use aether::config::Span;
use aether::{Config, Error, Memory, MemoryBuilder, PointId, Registry};

use super::settings::Settings;
use super::{Done, Failure};

/// Opens a memory that must exist already. `quiet` leaves the scheduler's turns out, for commands that only look.
pub(crate) async fn open_existing(settings: &Settings, quiet: bool) -> Done<Memory> {
    let mut config = settings.load()?;
    must_exist(&config)?;
    if quiet {
        config.flux.tick = Span::default();
    }
    open(config, Arc::new(aether::registry()?)).await
}

/// Refuses a folder that is not there, so that a mistyped name does not become an empty memory.
pub(crate) fn must_exist(config: &Config) -> Done<()> {
    let path = &config.memory.path;
    if path.is_dir() {
        return Ok(());
    }
    Err(Failure::Failed(Error::invalid_input(format!(
        "no memory in {}: expected a folder made by `aether import FILE --dir {0}`; name it with --dir or memory.path",
        path.display()
    ))))
}

/// Opens a memory with these plug-ins.
pub(crate) async fn open(config: Config, registry: Arc<Registry>) -> Done<Memory> {
    Ok(MemoryBuilder::new(config, registry).open().await?)
}

/// Reads ids from the command line: integers, UUIDs, else texts; or all as texts.
pub(crate) fn ids(words: &[String], text: bool) -> Done<Vec<PointId>> {
    let id = |word: &String| {
        let id = if text {
            Ok(PointId::from(word.as_str()))
        } else {
            aether::import::parse_id(word)
        };
        id.and_then(|id| id.validate().map(|()| id))
            .map_err(|e| Failure::usage(e.to_string()))
    };
    words.iter().map(id).collect()
}
