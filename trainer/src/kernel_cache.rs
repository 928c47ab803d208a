//! The kernel cache: tuned and compiled GPU kernels on disk, so that only the first start needs a
//! kernel warm-up.
//!
//! For each new shape of an operation CubeCL tries several kernels and caches which was fastest. It
//! also caches compiled SPIR-V, PTX and HIP code; GPU drivers cache WGSL and MSL themselves. The
//! cache is one file in the folder that `WEAL_CACHE_DIR` names, or else in `weal` in the user's
//! cache folder. Any number of processes may share the file. Losing it costs time and nothing else:
//! without a usable folder nothing is cached, and a damaged file is renamed and replaced.

use std::ffi::OsString;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::environment;
use cubecl::records::RecordLevel;
use cubecl_environment::persistence::{Access, Database};

use crate::panic::panic_message;

/// The environment variable that names the folder.
const FOLDER: &str = "WEAL_CACHE_DIR";
/// The file's name without its extension.
const NAME: &str = "kernels";
/// Prefix of the namespaces that hold tuning results.
const TUNED: &str = "autotune";
/// A larger file, in bytes, is replaced: entries of outdated kernels are never removed.
const MAX_BYTES: u64 = 1 << 30;

/// Configures the cache, once. Call it before anything lists or opens a GPU.
pub(crate) fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::default();
        // Nobody reads the records of how each shape was tuned.
        config.environment.records.level = RecordLevel::Off;
        config.environment.name = NAME.to_owned();
        match folder(&|name| std::env::var_os(name)).and_then(usable) {
            Ok(folder) => {
                config.environment.path = CacheConfig::Directory(folder);
                config.compilation.cache = true;
            }
            Err(why) => {
                tracing::warn!(
                    "tuned GPU kernels are not cached: {why}; set {FOLDER} to a writable folder"
                );
                config.autotune.disable_cache = true;
                config.throughput.disable_cache = true;
            }
        }
        CubeClRuntimeConfig::try_set(config.override_from_env());
    });
}

/// The number of tuned shapes in the cache, for all devices and versions.
#[cfg(test)]
pub(crate) fn tuned() -> u64 {
    let tuned = environment::namespaces()
        .into_iter()
        .filter(|kept| kept.namespace.starts_with(TUNED));
    tuned.map(|kept| kept.entries).sum()
}

/// The folder that the environment selects.
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

/// Makes sure that the folder exists and is writable, and renames a cache file that is damaged.
fn usable(folder: PathBuf) -> Result<PathBuf, String> {
    let refused =
        |error: std::io::Error| format!("{} cannot be written to: {error}", folder.display());
    fs::create_dir_all(&folder)
        .and_then(|()| tempfile::tempfile_in(&folder))
        .map_err(refused)?;
    if let Err(why) = check_patiently(&folder) {
        let file = file(&folder);
        tracing::warn!(
            "renaming the kernel cache {} and starting a new one: {why}",
            file.display()
        );
        rename_damaged(&folder)
            .map_err(|error| format!("{} cannot be renamed: {error}", file.display()))?;
    }
    Ok(folder)
}

fn file(folder: &Path) -> PathBuf {
    folder.join(format!("{NAME}.{}", environment::EXTENSION))
}

/// The names of the cache file and of the files that the database keeps beside it.
fn names(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let ours = |name: &OsString| name.to_string_lossy().starts_with(NAME);
    names
        .filter(|name| name.as_ref().map_or(true, ours))
        .collect()
}

/// Checks that the folder holds a cache whose every entry can be read, or none.
fn check(folder: &Path) -> Result<(), String> {
    let names = names(folder).map_err(|error| format!("its folder cannot be listed: {error}"))?;
    let bytes: u64 = names
        .iter()
        .filter_map(|name| fs::metadata(folder.join(name)).ok())
        .map(|file| file.len())
        .sum();
    if bytes == 0 {
        return Ok(());
    }
    if bytes > MAX_BYTES {
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
                    "only {entries} of the {} entries of {} can be read",
                    kept.entries, kept.namespace
                ));
            }
        }
        Ok(())
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| Err(panic_message(&*panic)))
}

/// Checks again for a while if the file is damaged: it looks so for a moment while another process
/// creates it.
fn check_patiently(folder: &Path) -> Result<(), String> {
    const ATTEMPTS: usize = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    let mut checked = check(folder);
    for _ in 1..ATTEMPTS {
        if checked.is_ok() {
            break;
        }
        thread::sleep(PAUSE);
        checked = check(folder);
    }
    checked
}

/// Renames the files, replacing any that were renamed before.
fn rename_damaged(folder: &Path) -> std::io::Result<()> {
    names(folder)?.iter().try_for_each(|name| {
        let mut aside = OsString::from("damaged-");
        aside.push(name);
        fs::rename(folder.join(name), folder.join(aside))
    })
}

/// Runs tests in several processes, each with a cache of its own.
#[cfg(test)]
pub(crate) mod child {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::FOLDER;

    /// Marks the processes that a test starts.
    pub(crate) const CHILD: &str = "WEAL_KERNEL_CACHE_CHILD";

    /// Starts this program again, to run one test only, with its cache in `folder`.
    pub(crate) fn start(test: &str, folder: &Path, child: &str) -> Child {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "--nocapture", test]);
        program
            .env(FOLDER, folder)
            .env(CHILD, child)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The numbers that a child printed.
    pub(crate) fn printed(child: Child) -> Vec<u64> {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("printed "))
            .expect(&text);
        line.split(' ')
            .map(|number| number.parse().unwrap())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use cubecl::environment::{Namespace, Store, StoreOptions};

    use super::child::{CHILD, printed, start};
    use super::*;

    fn fill_cache(folder: &Path, name: &str, entries: u64) {
        CubeClRuntimeConfig::try_set(CubeClRuntimeConfig::default());
        environment::activate(NAME);
        environment::set_root(usable(folder.to_owned()).unwrap());
        let mut store: Store<u64, String> =
            Store::new(StoreOptions::new().storage(Namespace::scoped(TUNED, name)));
        for entry in 0..entries {
            store.insert(entry, "fastest".repeat(50)).unwrap();
        }
    }

    const ENTRIES: u64 = 100;

    #[test]
    fn several_processes_share_a_file() {
        if let Some(name) = std::env::var_os(CHILD) {
            let folder = std::env::var_os(FOLDER).unwrap();
            fill_cache(Path::new(&folder), name.to_str().unwrap(), ENTRIES);
            return println!("\nprinted {}", tuned());
        }
        let folder = tempfile::tempdir().unwrap();
        let names = ["one", "two", "three", "four"];
        let all = names.map(|name| {
            start(
                "kernel_cache::tests::several_processes_share_a_file",
                folder.path(),
                name,
            )
        });
        for saw in all.map(printed) {
            assert!(saw[0] >= ENTRIES, "{saw:?}");
        }
        let database = Database::open_at(&file(folder.path()), Access::ReadWrite).unwrap();
        let kept: Vec<u64> = database.summary().iter().map(|kept| kept.entries).collect();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(kept, [ENTRIES; 4], "{files:?}");
    }

    /// Starts a child that writes a cache to `folder`, whatever the folder holds.
    fn fill_in_child(folder: &Path) {
        assert_eq!(
            printed(start(
                "kernel_cache::tests::a_damaged_file_is_renamed",
                folder,
                "keep"
            )),
            [ENTRIES]
        );
        assert_eq!(check(folder), Ok(()));
    }

    #[test]
    fn a_damaged_file_is_renamed() {
        if std::env::var_os(CHILD).is_some() {
            let folder = std::env::var_os(FOLDER).unwrap();
            fill_cache(Path::new(&folder), "new", ENTRIES);
            return println!("\nprinted {}", tuned());
        }
        let whole = tempfile::tempdir().unwrap();
        fill_in_child(whole.path());
        let damages: [fn(&mut [u8]); 4] = [
            |bytes| bytes.fill(b'x'),
            |bytes| bytes[..100].fill(0),
            |bytes| bytes.fill(0),
            |bytes| {
                let half = bytes.len() / 2;
                bytes[half..].fill(0xff);
            },
        ];
        let copy_damaged = |name: &OsString, damage: fn(&mut [u8])| {
            let folder = tempfile::tempdir().unwrap();
            for part in names(whole.path()).unwrap() {
                let mut bytes = fs::read(whole.path().join(&part)).unwrap();
                if part == *name {
                    damage(&mut bytes);
                }
                fs::write(folder.path().join(part), bytes).unwrap();
            }
            folder
        };
        for name in names(whole.path()).unwrap() {
            for (number, damage) in damages.iter().enumerate() {
                println!("{name:?}, damage {number}");
                fill_in_child(copy_damaged(&name, *damage).path());
            }
        }
        // With everything in one file, nothing can be recovered.
        Database::open_at(&file(whole.path()), Access::ReadWrite)
            .unwrap()
            .into_standalone()
            .unwrap();
        for (number, damage) in damages.iter().enumerate() {
            println!("one file, damage {number}");
            let folder = copy_damaged(&"kernels.db".into(), *damage);
            fill_in_child(folder.path());
            assert!(folder.path().join("damaged-kernels.db").is_file());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        fs::write(&file, "").unwrap();
        let why = usable(file.join("below")).unwrap_err();
        assert!(why.contains("a file/below cannot be written to"), "{why}");
    }

    #[test]
    #[cfg(all(unix, not(target_os = "macos")))]
    fn the_folder_is_the_one_named_or_in_the_users_cache() {
        let found = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            };
            folder(&variable)
        };
        let home = ("HOME", "/home/ada");
        assert_eq!(found(&[home]), Ok(PathBuf::from("/home/ada/.cache/weal")));
        assert_eq!(
            found(&[home, ("XDG_CACHE_HOME", "/fast")]),
            Ok(PathBuf::from("/fast/weal"))
        );
        assert_eq!(
            found(&[home, ("XDG_CACHE_HOME", "not/absolute")]),
            Ok(PathBuf::from("/home/ada/.cache/weal"))
        );
        assert_eq!(
            found(&[home, (FOLDER, "/var/cache/weal")]),
            Ok(PathBuf::from("/var/cache/weal"))
        );
        assert!(found(&[(FOLDER, "")]).is_err());
    }
}
