//! How much memory the machine has left for this process: what the system reports, and what the
//! limits of the container allow.
//!
//! Containers limit memory by control groups. A group's limit holds for all groups below it, so
//! every level counts. The page cache belongs to a group's usage, but the kernel drops it before a
//! limit strikes, so it does not count as used here.

use std::path::{Path, PathBuf};
use std::{fs, iter};

/// Bytes of host memory that this process can still get: free memory and the caches that the system
/// would drop, within the limits of its container. `None` if the system does not report it.
pub fn free_host_memory() -> Option<u64> {
    least(free_in_the_system(), groups(Path::new("/")).free)
}

/// The most memory that this process's container may use, in bytes; `None` without a limit.
pub fn container_memory_limit() -> Option<u64> {
    groups(Path::new("/")).limit
}

#[cfg(target_os = "linux")]
fn free_in_the_system() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(not(target_os = "linux"))]
fn free_in_the_system() -> Option<u64> {
    let memory = sysinfo::MemoryRefreshKind::nothing().with_ram();
    let what = sysinfo::RefreshKind::nothing().with_memory(memory);
    let available = sysinfo::System::new_with_specifics(what).available_memory();
    (available > 0).then_some(available)
}

/// What all control groups of a process allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowed {
    limit: Option<u64>,
    free: Option<u64>,
}

impl Allowed {
    fn and(self, other: Self) -> Self {
        Self {
            limit: least(self.limit, other.limit),
            free: least(self.free, other.free),
        }
    }
}

/// The files of one version of control groups.
struct Files {
    limits: &'static [&'static str],
    usage: &'static str,
    /// Lines of `memory.stat` that count the page cache, those of the groups below included.
    cache: [&'static str; 2],
}

const VERSION_1: Files = Files {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    cache: ["total_active_file", "total_inactive_file"],
};
const VERSION_2: Files = Files {
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    cache: ["active_file", "inactive_file"],
};
/// Version 1 writes no limit as the largest multiple of the page size; no machine has as much.
const NO_LIMIT: u64 = 1 << 60;

/// What the control groups of this process allow, with the system's files below `root`.
fn groups(root: &Path) -> Allowed {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut allowed = Allowed::default();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let group = own.lines().find_map(|line| mount.group(line));
        let Some(group) = group else { continue };
        // A group outside the mounted part is seen from within another namespace: the mounted part
        // is the process's own then.
        let below = Path::new(group)
            .strip_prefix(mount.root)
            .unwrap_or(Path::new(""));
        let top = root.join(mount.point.trim_start_matches('/'));
        for level in below.ancestors() {
            allowed = allowed.and(level_allows(&top.join(level), &mount.files));
        }
    }
    allowed
}

/// A mounted hierarchy of control groups that govern memory.
struct Mount<'a> {
    /// The group that is mounted.
    root: &'a str,
    point: &'a str,
    files: Files,
    is_version_1: bool,
}

impl<'a> Mount<'a> {
    /// Parses a line of `mountinfo`: number, parent, device, root, mount point, options, optional
    /// fields, `-`, type, source, options of the file system.
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let is_version_1 = match after.next()? {
            "cgroup2" => false,
            "cgroup" if after.nth(1)?.split(',').any(|option| option == "memory") => true,
            _ => return None,
        };
        Some(Self {
            root,
            point,
            files: if is_version_1 { VERSION_1 } else { VERSION_2 },
            is_version_1,
        })
    }

    /// The process's group, if a line of `/proc/self/cgroup` is about this hierarchy: number,
    /// controllers, group; version 2 has no controllers.
    fn group<'b>(&self, line: &'b str) -> Option<&'b str> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let is_meant = if self.is_version_1 {
            controllers.split(',').any(|name| name == "memory")
        } else {
            controllers.is_empty()
        };
        is_meant.then_some(group)
    }
}

fn level_allows(folder: &Path, files: &Files) -> Allowed {
    let number = |name: &str| number(&folder.join(name));
    let limits = files.limits.iter().filter_map(|name| number(name));
    let Some(limit) = limits.filter(|limit| *limit < NO_LIMIT).min() else {
        return Allowed::default();
    };
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = |name: &&str| {
        let value = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
        stat.lines().find_map(value)
    };
    let cache: u64 = files
        .cache
        .iter()
        .filter_map(cache)
        .fold(0, u64::saturating_add);
    let used = number(files.usage).unwrap_or(0).saturating_sub(cache);
    Allowed {
        limit: Some(limit),
        free: Some(limit.saturating_sub(used)),
    }
}

/// The number in a file; `max`, and a file that is not there, are none.
fn number(path: &PathBuf) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(iter::once(other).flatten()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system whose files are the given ones.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn allowed(files: &[(&str, &str)]) -> (Option<u64>, Option<u64>) {
        let found = groups(system(files).path());
        (found.limit, found.free)
    }

    const MOUNT_2: &str = "31 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const MOUNT_1: &str = "22 21 0:20 / /sys rw - sysfs sysfs rw\n\
        36 25 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        37 25 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";

    #[test]
    fn a_container_of_version_2_sees_its_own_limit_at_the_top() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", MOUNT_2),
            ("sys/fs/cgroup/memory.max", "629145600\n"),
            ("sys/fs/cgroup/memory.current", "500000000\n"),
            // The cache of files is not used up; that of shared memory is.
            (
                "sys/fs/cgroup/memory.stat",
                "anon 90000000\nfile 400000000\nshmem 10000000\ninactive_file 300000000\n\
              active_file 90000000\n",
            ),
        ];
        assert_eq!(allowed(&files), (Some(629_145_600), Some(519_145_600)));
    }

    #[test]
    fn the_tightest_level_counts() {
        let nested = [
            ("proc/self/cgroup", "0::/user.slice/job/inner\n"),
            ("proc/self/mountinfo", MOUNT_2),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "2000\n"),
            ("sys/fs/cgroup/user.slice/job/memory.high", "1000\n"),
            ("sys/fs/cgroup/user.slice/job/memory.current", "400\n"),
            ("sys/fs/cgroup/user.slice/job/inner/memory.max", "1500\n"),
            ("sys/fs/cgroup/user.slice/job/inner/memory.current", "300\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "99999\n"),
            ("sys/fs/cgroup/user.slice/other/memory.max", "1\n"),
        ];
        assert_eq!(allowed(&nested), (Some(1000), Some(600)));
    }

    #[test]
    fn version_1_is_read_within_and_without_a_namespace() {
        let group = |cgroup, mounts, folder: &str| {
            let at = |name: &str| format!("sys/fs/cgroup/memory{folder}/{name}");
            let (limit, usage, stat) = (
                at("memory.limit_in_bytes"),
                at("memory.usage_in_bytes"),
                at("memory.stat"),
            );
            allowed(&[
                ("proc/self/cgroup", cgroup),
                ("proc/self/mountinfo", mounts),
                (
                    "sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                (&limit, "600\n"),
                (&usage, "500\n"),
                (
                    &stat,
                    "total_cache 450\ntotal_inactive_file 300\ntotal_active_file 100\n",
                ),
            ])
        };
        let expected = (Some(600), Some(500));
        assert_eq!(
            group("4:memory:/weal\n3:cpu:/\n0::/\n", MOUNT_1, "/weal"),
            expected
        );
        // Docker mounts the container's own group, and names it by its path outside.
        let docker = MOUNT_1.replace("0:32 / /sys", "0:32 /docker/ab /sys");
        assert_eq!(group("4:memory:/docker/ab\n", &docker, ""), expected);
        assert_eq!(group("4:memory:/docker/ab/in\n", &docker, "/in"), expected);
        assert_eq!(group("4:cpu,memory:/elsewhere\n", &docker, ""), expected);
    }

    #[test]
    fn a_machine_without_limits_has_none() {
        assert_eq!(allowed(&[]), (None, None));
        let unlimited = [
            ("proc/self/cgroup", "0::/init.scope\n"),
            ("proc/self/mountinfo", MOUNT_2),
            ("sys/fs/cgroup/init.scope/memory.max", "max\n"),
        ];
        assert_eq!(allowed(&unlimited), (None, None));
        let spoilt = [
            ("proc/self/cgroup", "\n:\nx:y\n0::/a/../../b\n"),
            (
                "proc/self/mountinfo",
                "- cgroup2\n1 2 3 - cgroup2\n1 2 3 / /c rw - cgroup2 c rw\n",
            ),
            ("c/memory.max", "-5\n"),
        ];
        assert_eq!(allowed(&spoilt), (None, None));
    }
}
