//! What was tuned and compiled for GPUs, kept on disk, so that only the first start is slow.
//!
//! For each new shape of an operation CubeCL tries several kernels and remembers the fastest; so it
//! does with SPIR-V, PTX and HIP code, while WGSL and MSL are compiled, and kept, by the GPU's
//! driver. It remembers in one file, which is in a folder of ours: what `WEAL_CACHE_DIR` names, or
//! else `weal` in the user's cache folder. Any number of processes may use the file at once. Losing
//! it costs time and nothing else: where it cannot be used, it is done without, and where it is
//! damaged, it is put aside and begun anew.

use std::ffi::OsString;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::environment;
use cubecl::records::RecordLevel;
use cubecl_environment::persistence::{Access, Database};

use crate::engine::panic_message;

/// Names the folder.
const FOLDER: &str = "WEAL_CACHE_DIR";
/// The file's name, without the ending.
const NAME: &str = "kernels";
/// The namespaces of what was tuned begin with this.
const TUNED: &str = "autotune";
/// A file that has grown beyond this, in bytes, is begun anew: versions of kernels that are gone
/// are never taken out.
const MOST_BYTES: u64 = 1 << 30;

/// Says where the cache is. Does so once; has to come before the first GPU is asked for.
pub(crate) fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::default();
        // An account of how each shape was tuned, which nobody reads.
        config.environment.records.level = RecordLevel::Off;
        config.environment.name = NAME.to_owned();
        match folder(&|name| std::env::var_os(name)).and_then(usable) {
            Ok(folder) => {
                config.environment.path = CacheConfig::Directory(folder);
                config.compilation.cache = true;
            }
            Err(why) => {
                tracing::warn!(
                    "what is tuned for the GPU is not kept: {why}; {FOLDER} names another folder"
                );
                config.autotune.disable_cache = true;
                config.throughput.disable_cache = true;
            }
        }
        CubeClRuntimeConfig::try_set(config.override_from_env());
    });
}

/// Shapes of operations in the cache, of all devices and all versions.
#[cfg(test)]
pub(crate) fn tuned() -> u64 {
    let tuned = environment::namespaces()
        .into_iter()
        .filter(|kept| kept.namespace.starts_with(TUNED));
    tuned.map(|kept| kept.entries).sum()
}

/// Where the cache belongs.
fn folder(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, String> {
    let path = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = |below: &str| path("HOME").map(|home| home.join(below));
    let users = if cfg!(windows) {
        path("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home("Library/Caches")
    } else {
        path("XDG_CACHE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| home(".cache"))
    };
    let ours = || users.map(|users| users.join("weal"));
    path(FOLDER)
        .or_else(ours)
        .ok_or_else(|| "the user has no cache folder".to_owned())
}

/// The folder, once it is there, can be written to, and holds no file that cannot be used.
fn usable(folder: PathBuf) -> Result<PathBuf, String> {
    let refused =
        |error: std::io::Error| format!("{} cannot be written to: {error}", folder.display());
    fs::create_dir_all(&folder)
        .and_then(|()| tempfile::tempfile_in(&folder))
        .map_err(refused)?;
    if let Err(why) = check(&folder) {
        let file = file(&folder);
        tracing::warn!("{} is put aside and begun anew: {why}", file.display());
        put_aside(&folder)
            .map_err(|error| format!("{} cannot be put aside: {error}", file.display()))?;
    }
    Ok(folder)
}

fn file(folder: &Path) -> PathBuf {
    folder.join(format!("{NAME}.{}", environment::EXTENSION))
}

/// The names of the file and of those that the database keeps beside it.
fn names(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let ours = |name: &OsString| name.to_string_lossy().starts_with(NAME);
    names
        .filter(|name| name.as_ref().map_or(true, ours))
        .collect()
}

/// Whether a folder holds a cache all of which can be read, or none.
fn check(folder: &Path) -> Result<(), String> {
    let names = names(folder).map_err(|error| format!("it cannot be looked at: {error}"))?;
    let bytes: u64 = names
        .iter()
        .filter_map(|name| fs::metadata(folder.join(name)).ok())
        .map(|file| file.len())
        .sum();
    if bytes == 0 {
        return Ok(());
    }
    if bytes > MOST_BYTES {
        return Err(format!("it has {bytes} bytes"));
    }
    let read = || {
        let database = Database::open_at(&file(folder), Access::ReadWrite)?;
        for kept in database
            .summary()
            .iter()
            .filter(|kept| kept.namespace.starts_with(TUNED))
        {
            let mut entries = 0;
            database.scan(&kept.namespace, &mut |_, _| entries += 1);
            if entries < kept.entries {
                return Err(format!(
                    "of {} entries of {}, {entries} can be read",
                    kept.entries, kept.namespace
                ));
            }
        }
        Ok(())
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| Err(panic_message(&*panic)))
}

/// Gives the files other names, in place of what was put aside before.
fn put_aside(folder: &Path) -> std::io::Result<()> {
    names(folder)?.iter().try_for_each(|name| {
        let mut aside = OsString::from("damaged-");
        aside.push(name);
        fs::rename(folder.join(name), folder.join(aside))
    })
}

#[cfg(test)]
mod tests;
