//! How much memory this process can have: what it holds and can still get of what the machine has, and what its control group allows (cgroup v2 and v1).

use std::fs;
use std::path::Path;

/// Bytes that this process can hold without swapping, those that it holds already included; `None` where the system does not tell.
pub(crate) fn bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| field(&text, "MemAvailable:"))
        .map(|kib| kib * 1024);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups
        .lines()
        .filter_map(|line| left_in_group(Path::new("/sys/fs/cgroup"), line));
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = field(&own, "VmRSS:").unwrap_or(0) * 1024;
    group.chain(machine).min().map(|left| left + own)
}

/// What the group of a line of `/proc/self/cgroup` and the groups above it leave; `None` where there is no limit.
fn left_in_group(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, names) = match controllers {
        "" => (root.to_owned(), ["memory.max", "memory.current"]),
        list if list.split(',').any(|name| name == "memory") => (
            root.join("memory"),
            ["memory.limit_in_bytes", "memory.usage_in_bytes"],
        ),
        _ => return None,
    };
    let own = root.join(path.trim_start_matches('/'));
    own.ancestors()
        .take_while(|folder| folder.starts_with(&root))
        .filter_map(|folder| {
            let number = |name: &str| {
                let text = fs::read_to_string(folder.join(name)).ok()?;
                text.trim().parse::<u64>().ok()
            };
            let [limit, used] = names.map(number);
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            // Files that were read are given up when memory is wanted.
            let cached = field(&stat, "inactive_file").unwrap_or(0);
            Some(limit?.saturating_sub(used?.saturating_sub(cached)))
        })
        .min()
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let write = |folder: &Path, name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
        };
        let left = |line: &str| left_in_group(root.path(), line);
        assert_eq!(left("0::/a/b"), None);
        write(&inner, "memory.max", "max\n");
        write(&inner, "memory.current", "700\n");
        assert_eq!(left("0::/a/b"), None);
        let outer = root.path().join("a");
        write(&outer, "memory.max", "1000\n");
        write(&outer, "memory.current", "900\n");
        write(&outer, "memory.stat", "anon 5\ninactive_file 150\n");
        assert_eq!(left("0::/a/b"), Some(250));
        write(&inner, "memory.max", "800\n");
        assert_eq!(left("0::/a/b"), Some(100));
        write(&inner, "memory.max", "600\n");
        assert_eq!(left("0::/a/b"), Some(0));
        assert_eq!(left("1:cpu:/a/b"), None);
        assert_eq!(left("nonsense"), None);

        let old = root.path().join("memory/docker");
        fs::create_dir_all(&old).unwrap();
        write(&old, "memory.limit_in_bytes", "5000");
        write(&old, "memory.usage_in_bytes", "2000");
        assert_eq!(left("4:cpu,memory:/docker"), Some(3000));
    }

    #[test]
    fn the_machine_says_what_is_available() {
        let text = "MemTotal:       24000 kB\nMemAvailable:   12000 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(12000));
        assert_eq!(field(text, "MemFree:"), None);
        #[cfg(target_os = "linux")]
        assert!(bytes().is_some_and(|bytes| bytes > 0));
    }
}
