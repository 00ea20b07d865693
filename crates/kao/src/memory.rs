//! How much memory this process can have.
//!
//! The machine has some free; a container (Docker, Kubernetes, SLURM, systemd) may allow less. On
//! Linux that is a limit of a control group, of version 1 or 2, and every group above it may set
//! one of its own. On other systems nothing is known, and nothing is refused.

use crate::error::{Error, Result};
use crate::quantities::size;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Bytes that could still be had, where the system says.
pub fn available() -> Option<u64> {
    Linux { root: Path::new("/") }.available()
}

/// The most memory that this process has had, where the system says.
pub fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// Refuses work that takes `needed` bytes where fewer could be had: `field` is what asks for it, and
/// `what` describes that, such as `so many images`.
///
/// # Errors
/// Names the field, and both numbers.
pub fn check(field: &str, what: &str, needed: u64) -> Result<()> {
    check_against(field, what, needed, available())
}

fn check_against(field: &str, what: &str, needed: u64, available: Option<u64>) -> Result<()> {
    match available {
        Some(free) if needed > free => {
            let (needed, free) = (size(needed), size(free));
            let problem = format!("{what} would take about {needed} of memory; {free} is free");
            Err(Error::invalid(field, problem))
        }
        _ => Ok(()),
    }
}

/// The files in which Linux tells, below a folder that is `/` but in tests.
struct Linux<'a> {
    root: &'a Path,
}

impl Linux<'_> {
    /// The least of what the machine has free and what each control group allows.
    fn available(&self) -> Option<u64> {
        self.machine().into_iter().chain(self.control_groups()).min()
    }

    /// What programs can have before the machine swaps.
    fn machine(&self) -> Option<u64> {
        let info = self.read("proc/meminfo")?;
        let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes.saturating_mul(1024))
    }

    /// What each control group of this process allows that has a limit.
    fn control_groups(&self) -> Vec<u64> {
        let Some(groups) = self.read("proc/self/cgroup") else { return Vec::new() };
        let mut allowed = Vec::new();
        for line in groups.lines() {
            // `hierarchy:controllers:path`, the controllers empty for version 2.
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                // In a hybrid setup version 2 is mounted beside version 1.
                for mount in ["sys/fs/cgroup", "sys/fs/cgroup/unified"] {
                    allowed.extend(self.along(mount, path, &VERSION_2));
                }
            } else if controllers.split(',').any(|controller| controller == "memory") {
                allowed.extend(self.along("sys/fs/cgroup/memory", path, &VERSION_1));
            }
        }
        allowed
    }

    /// What the groups from `path` up to the mount point allow. Within a container the path may be
    /// that of the host, which is not there; then the mount point itself is the container's group.
    fn along(&self, mount: &str, path: &str, files: &Files) -> Vec<u64> {
        let mount = PathBuf::from(mount);
        let below = Path::new(path).components();
        let names = below.filter(|component| matches!(component, Component::Normal(_)));
        let group = names.fold(mount.clone(), |group, name| group.join(name));
        let groups = group.ancestors().take_while(|group| group.starts_with(&mount));
        groups.filter_map(|group| self.group(group, files)).collect()
    }

    /// What one group still allows, where it has a limit.
    fn group(&self, group: &Path, files: &Files) -> Option<u64> {
        let number = |name: &str| self.read(group.join(name))?.trim().parse::<u64>().ok();
        // `max` is no number.
        let limit = number(files.limit)?;
        let used = number(files.used).unwrap_or(0);
        // Of what is used, cached files that nobody reads any more are given up when asked for.
        let statistics = self.read(group.join("memory.stat")).unwrap_or_default();
        let cached = statistics.lines().find_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            (name == files.cached).then(|| bytes.trim().parse::<u64>().ok()).flatten()
        });
        Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

/// The files of a control group.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat`.
    cached: &'static str,
}

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file",
};

const VERSION_2: Files =
    Files { limit: "memory.max", used: "memory.current", cached: "inactive_file" };

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::{TempDir, tempdir};

    const MIB: u64 = 1 << 20;

    /// A machine with 8 GiB free, whose process is in these groups.
    fn machine(groups: &str, files: &[(&str, &str)]) -> TempDir {
        let root = tempdir().unwrap();
        let meminfo = "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n";
        let all = [("proc/meminfo", meminfo), ("proc/self/cgroup", groups)];
        for (path, text) in all.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn available_mib(root: &TempDir) -> u64 {
        Linux { root: root.path() }.available().unwrap() / MIB
    }

    fn mib(n: u64) -> String {
        format!("{}\n", n * MIB)
    }

    #[test]
    fn without_limits_it_is_what_the_machine_has() {
        assert_eq!(available_mib(&machine("", &[])), 8192);
        let unlimited =
            machine("0::/user.slice\n", &[("sys/fs/cgroup/user.slice/memory.max", "max\n")]);
        assert_eq!(available_mib(&unlimited), 8192);
        // Version 1 writes the largest number there is.
        let unlimited = machine(
            "5:memory:/\n",
            &[("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")],
        );
        assert_eq!(available_mib(&unlimited), 8192);
        let nothing = tempdir().unwrap();
        assert_eq!(Linux { root: nothing.path() }.available(), None);
    }

    #[test]
    fn a_limit_of_version_2_counts_less_what_is_in_use() {
        let [limit, used] = [300, 120].map(mib);
        let files = [
            ("sys/fs/cgroup/job/memory.max", limit.as_str()),
            ("sys/fs/cgroup/job/memory.current", &used),
        ];
        assert_eq!(available_mib(&machine("0::/job\n", &files)), 180);
        // Cached files are no hindrance.
        let statistics = format!("anon 5\ninactive_file {}\nactive_file 9\n", 100 * MIB);
        let files = [files[0], files[1], ("sys/fs/cgroup/job/memory.stat", &statistics)];
        assert_eq!(available_mib(&machine("0::/job\n", &files)), 280);
    }

    #[test]
    fn of_nested_groups_the_tightest_counts_wherever_it_is() {
        let [wide, tight, used] = [4000, 500, 450].map(mib);
        let file = |group: &str, name: &str| format!("sys/fs/cgroup/{group}memory.{name}");
        let groups = "0::/a/b/c\n";
        for [outer, inner] in [["a/", "a/b/c/"], ["a/b/c/", "a/"], ["a/b/", ""]] {
            let names = [file(outer, "max"), file(inner, "max")];
            let files = [(names[0].as_str(), wide.as_str()), (names[1].as_str(), tight.as_str())];
            assert_eq!(available_mib(&machine(groups, &files)), 500, "{outer} {inner}");
        }
        // A wide group that others have nearly filled is tighter than a small empty one.
        let [a_max, a_used, b_max] =
            [file("a/", "max"), file("a/", "current"), file("a/b/", "max")];
        let files = [(a_max.as_str(), tight.as_str()), (&a_used, &used), (&b_max, &wide)];
        assert_eq!(available_mib(&machine(groups, &files)), 50);
        // What uses more than its limit has nothing left.
        let files = [(a_max.as_str(), used.as_str()), (&a_used, &tight)];
        assert_eq!(available_mib(&machine(groups, &files)), 0);
    }

    #[test]
    fn version_1_has_files_of_its_own() {
        let [limit, used] = [300, 200].map(mib);
        let statistics = format!("inactive_file 1\ntotal_inactive_file {}\n", 50 * MIB);
        let files = [
            ("sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes", limit.as_str()),
            ("sys/fs/cgroup/memory/slurm/job/memory.usage_in_bytes", &used),
            ("sys/fs/cgroup/memory/slurm/job/memory.stat", &statistics),
        ];
        let groups = "7:cpu,cpuacct:/\n5:hugetlb,memory:/slurm/job\n0::/\n";
        assert_eq!(available_mib(&machine(groups, &files)), 150);
        assert_eq!(available_mib(&machine("7:cpu,cpuacct:/slurm/job\n", &files)), 8192);
    }

    #[test]
    fn within_a_container_the_mount_point_is_its_group() {
        let limit = mib(300);
        // The path is that of the host, and is not there.
        let files = [("sys/fs/cgroup/memory/memory.limit_in_bytes", limit.as_str())];
        assert_eq!(available_mib(&machine("4:memory:/docker/0123abc\n", &files)), 300);
        let files = [("sys/fs/cgroup/memory.max", limit.as_str())];
        for path in ["/", "/kubepods/pod1/c1", "/../../sibling"] {
            assert_eq!(available_mib(&machine(&format!("0::{path}\n"), &files)), 300, "{path}");
        }
        let files = [("sys/fs/cgroup/unified/job/memory.max", limit.as_str())];
        assert_eq!(available_mib(&machine("4:memory:/\n0::/job\n", &files)), 300);
    }

    #[test]
    fn only_what_cannot_fit_is_refused() {
        assert!(check_against("count", "so many images", 5 * MIB, Some(5 * MIB)).is_ok());
        assert!(check_against("count", "so many images", u64::MAX, None).is_ok());
        let error = check_against("count", "so many images", 300 * MIB, Some(7 * MIB)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "count: so many images would take about 300 MiB of memory; 7.0 MiB is free"
        );
    }
}
