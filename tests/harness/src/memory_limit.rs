//! A cgroup with a memory limit, for the processes that a test starts in it.
//!
//! It counts what the kernel counts for a container with that limit: the heap, the page cache, and the kernel's own
//! memory for the processes. Page cache is reclaimed under memory pressure, so a peak at the limit is no failure; an
//! OOM kill is. Nothing is swapped.
//!
//! Supports cgroup v1 and v2. Usually needs root. A cgroup that a killed test left behind is removed by the next one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// The prefix of all cgroup names; the id of the creating process and a number follow.
const PREFIX: &str = "node-insights-memory-";

/// How long a drop waits for the last process of the cgroup to exit.
const GRACE: Duration = Duration::from_secs(10);

/// Numbers the cgroups of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A cgroup; its drop kills what runs in it, and removes it.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryLimit {
    /// Creates a cgroup whose processes together may use this much memory.
    ///
    /// # Errors
    ///
    /// Where no such cgroup can be created: without root, or without a memory controller.
    pub fn new(bytes: u64) -> Result<Self> {
        let (root, version) = hierarchy(&fs::read_to_string("/proc/mounts")?)?;
        if version == Version::Two {
            let delegated = read(&root.join("cgroup.subtree_control"))?;
            ensure!(
                delegated.split_whitespace().any(|name| name == "memory"),
                "{} does not delegate the memory controller",
                root.display()
            );
        }
        remove_stale(&root);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        // From here on its drop removes it.
        let group = Self { folder, version };
        let bytes = bytes.to_string();
        match version {
            Version::One => {
                group.write("memory.limit_in_bytes", &bytes)?;
                group.write_if_present("memory.memsw.limit_in_bytes", &bytes)?;
            }
            Version::Two => {
                group.write("memory.max", &bytes)?;
                group.write_if_present("memory.swap.max", "0")?;
            }
        }
        Ok(group)
    }

    /// The command by which a shell puts itself, and whatever it then execs, into the cgroup.
    #[must_use]
    pub fn enter(&self) -> String {
        format!("echo $$ > '{}'", self.procs().display())
    }

    /// The cgroup's peak memory, in bytes.
    ///
    /// # Errors
    ///
    /// When the kernel does not count it: cgroup v2 before Linux 5.19.
    pub fn peak_bytes(&self) -> Result<u64> {
        let text = self.read(match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        })?;
        Ok(text.trim().parse()?)
    }

    /// How many of its processes were OOM-killed.
    ///
    /// # Errors
    ///
    /// When the kernel does not count it: cgroup v1 before Linux 4.13.
    pub fn oom_kills(&self) -> Result<u64> {
        let text = self.read(match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        })?;
        field(&text, "oom_kill")
    }

    fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    fn read(&self, file: &str) -> Result<String> {
        read(&self.folder.join(file))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// A kernel that was built without swap, or without a limit for it, has no such file.
    fn write_if_present(&self, file: &str, text: &str) -> Result<()> {
        if self.folder.join(file).exists() {
            self.write(file, text)
        } else {
            Ok(())
        }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let deadline = Instant::now() + GRACE;
        loop {
            match fs::remove_dir(&self.folder) {
                // A process is still in it.
                Err(error)
                    if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline =>
                {
                    for pid in members(&fs::read_to_string(self.procs()).unwrap_or_default()) {
                        // It may have ended since.
                        let _ = kill_process(pid, Signal::KILL);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(()) | Err(_) => return,
            }
        }
    }
}

/// Where memory cgroups are created: in v1, if it has the memory controller, else in v2.
fn hierarchy(mounts: &str) -> Result<(PathBuf, Version)> {
    let mut two = None;
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        let [_, place, kind, options, ..] = fields[..] else {
            continue;
        };
        match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                return Ok((place.into(), Version::One));
            }
            "cgroup2" => two = Some(PathBuf::from(place)),
            _ => {}
        }
    }
    match two {
        Some(place) => Ok((place, Version::Two)),
        None => bail!("no cgroups are mounted here"),
    }
}

/// Removes the empty cgroups of processes that are gone.
fn remove_stale(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((pid, _)) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
        else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn members(procs: &str) -> impl Iterator<Item = Pid> + '_ {
    let pids = procs.lines().filter_map(|line| line.parse().ok());
    pids.filter_map(Pid::from_raw)
}

/// The value of a key, in a file with a key and a number on each line.
fn field(text: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines
        .find(|(key, _)| *key == name)
        .with_context(|| format!("there is no {name} in {text:?}"))?;
    Ok(value.trim().parse()?)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_with_the_memory_controller_is_found() {
        let one = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                   cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
                   cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                   cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n";
        let found = hierarchy(one).unwrap();
        assert_eq!(found, ("/sys/fs/cgroup/memory".into(), Version::One));
        let two = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        let found = hierarchy(two).unwrap();
        assert_eq!(found, ("/sys/fs/cgroup".into(), Version::Two));
        assert!(hierarchy("proc /proc proc rw 0 0\n").is_err());
    }

    #[test]
    fn a_count_is_found_by_its_full_name() {
        let events = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(field(events, "oom_kill").unwrap(), 2);
        assert!(field(events, "kill").is_err());
    }
}
