//! The cache in several processes: a test starts its own program again, to do one thing with a
//! folder of its own.

use std::process::{Child, Command, Stdio};

use burn::tensor::Tensor;
use cubecl::environment::{Namespace, Store, StoreOptions};

use super::*;
use crate::device::{DeviceChoice, OpenDevice};
use crate::gpus::gpus;
use crate::kernel_warmup::used_kernels;
use weal_testing::require;

/// Set in the processes that a test starts.
const CHILD: &str = "WEAL_KERNEL_CACHE_CHILD";

/// This program, to run one test only, with its cache in `folder`.
fn start(test: &str, folder: &Path, child: &str) -> Child {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args([
        "--exact",
        "--nocapture",
        &format!("kernel_cache::tests::{test}"),
    ]);
    program
        .env(FOLDER, folder)
        .env(CHILD, child)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The numbers that a child said.
fn said(child: Child) -> Vec<u64> {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("said "))
        .expect(&text);
    line.split(' ')
        .map(|number| number.parse().unwrap())
        .collect()
}

/// Tunes what opening a GPU and a small product take. Says how much was tuned before and after, and
/// how many kernels were used.
fn use_a_gpu() {
    let gpu = OpenDevice::open(DeviceChoice::Gpu).unwrap();
    let before = tuned();
    let ones = || Tensor::<2>::ones([24, 24], gpu.raw());
    let product = gpu.watched(|| ones().matmul(ones()).sum().into_scalar::<f32>());
    assert_eq!(product, 24.0 * 24.0 * 24.0);
    println!("\nsaid {before} {} {}", tuned(), used_kernels());
}

#[test]
fn a_second_start_tunes_nothing_anew() {
    if std::env::var_os(CHILD).is_some() {
        return use_a_gpu();
    }
    if gpus().is_empty() {
        return require::leave_out(
            "tuning a GPU once",
            "it has no GPU, not even a software one",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        said(start(
            "a_second_start_tunes_nothing_anew",
            folder.path(),
            "use a GPU",
        ))
    };
    let [first, second] = [start(), start()];
    println!("{first:?}, then {second:?}");
    let [before, after, tried] = first[..] else {
        panic!("{first:?}")
    };
    assert!(after > before, "the product was not tuned: {first:?}");
    let [found, left, used] = second[..] else {
        panic!("{second:?}")
    };
    assert_eq!(
        (found, left),
        (after, after),
        "the second start has all that the first one tuned, and adds nothing"
    );
    assert!(
        used < tried,
        "the second start tries {used} kernels, as the first one did {tried}"
    );
}

fn keep(folder: &Path, name: &str, entries: u64) {
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
        keep(Path::new(&folder), name.to_str().unwrap(), ENTRIES);
        return println!("\nsaid {}", tuned());
    }
    let folder = tempfile::tempdir().unwrap();
    let names = ["one", "two", "three", "four"];
    let all = names.map(|name| start("several_processes_share_a_file", folder.path(), name));
    for saw in all.map(said) {
        assert!(saw[0] >= ENTRIES, "{saw:?}");
    }
    let database = Database::open_at(&file(folder.path()), Access::ReadWrite).unwrap();
    let kept: Vec<u64> = database.summary().iter().map(|kept| kept.entries).collect();
    assert_eq!(kept, [ENTRIES; 4]);
}

/// A child that keeps something in `folder`, whatever is there.
fn keep_in(folder: &Path) {
    assert_eq!(
        said(start("a_damaged_file_is_put_aside", folder, "keep")),
        [ENTRIES]
    );
    assert_eq!(check(folder), Ok(()));
}

#[test]
fn a_damaged_file_is_put_aside() {
    if std::env::var_os(CHILD).is_some() {
        let folder = std::env::var_os(FOLDER).unwrap();
        keep(Path::new(&folder), "new", ENTRIES);
        return println!("\nsaid {}", tuned());
    }
    let whole = tempfile::tempdir().unwrap();
    keep_in(whole.path());
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
            keep_in(copy_damaged(&name, *damage).path());
        }
    }
    // All in one file, of which nothing can be made up for.
    Database::open_at(&file(whole.path()), Access::ReadWrite)
        .unwrap()
        .into_standalone()
        .unwrap();
    for (number, damage) in damages.iter().enumerate() {
        println!("one file, damage {number}");
        let folder = copy_damaged(&"kernels.db".into(), *damage);
        keep_in(folder.path());
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
fn the_folder_is_ours_or_in_the_users_cache() {
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
