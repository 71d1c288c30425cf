//! Child processes that never outlive the test that started them.
//!
//! ```text
//!   this process ──lifeline (pipe)──► supervise.sh ──fork──► program
//!                ◄──process id, exit code──┘        ◄─SIGKILL at end of file
//! ```
//!
//! A [`Process`] ends in three ways, and none leaves anything behind: by its drop, by a panic (which
//! drops it), and by the death of this process, even by SIGKILL, because the supervisor sees the
//! lifeline close. Each program is in its own process group, so a Ctrl-C in the terminal reaches only
//! the test, whose end then ends the program.
//!
//! Output goes to files, never to pipes: a program that writes a lot is never blocked by a test that
//! does not read.
//!
//! Needs bash and Linux (`/proc`). Grandchildren are not handled: a program that forks has to end its
//! own children.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Passed to `bash -c`, so that the tests do not depend on the path of a checkout.
const SUPERVISOR: &str = include_str!("../supervise.sh");

/// The poll interval of a wait: short compared with the 100 ms in which an idle operator has to exit.
const POLL: Duration = Duration::from_millis(5);

/// How long a drop waits for a killed program. SIGKILL takes milliseconds; a program stuck in the
/// kernel takes longer, and must not hang the tests.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// How many last lines of a log an error message quotes.
const TAIL_LINES: usize = 15;

/// A running program, ended at the latest when this value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    supervisor: Mutex<Supervisor>,
    lifeline: Option<ChildStdin>,
    stdout_log: PathBuf,
    stderr_log: PathBuf,
}

#[derive(Debug)]
struct Supervisor {
    child: Child,
    /// Set once known: the kernel reports it only once.
    exit: Option<Exit>,
}

/// How a program ended.
///
/// A code above 128 is read as a signal, as in a shell: a program that exits by itself with such a
/// code cannot be distinguished from one that a signal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it (9 is SIGKILL, 15 SIGTERM).
    Signal(i32),
}

impl Process {
    /// Starts `program` under a supervisor, with the environment of this process plus `envs`.
    ///
    /// `name` is for error messages and for the logs, `NAME.stdout.log` and `NAME.stderr.log` in
    /// `log_dir`; a second process of that name gets `NAME-2.…`.
    ///
    /// Blocks for the few milliseconds that bash needs to start.
    ///
    /// # Errors
    ///
    /// When the logs cannot be created or bash cannot be started. A `program` that does not exist is
    /// not an error here: it exits with code 127 and its reason in the stderr log.
    pub fn spawn(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        envs: &[(&str, &str)],
        log_dir: &Path,
    ) -> Result<Self> {
        Self::supervise(name, program, args, envs, log_dir, None)
    }

    /// As [`Self::spawn`], for a program with a lot of data in the folder `data`: if this process is
    /// killed, the supervisor removes it.
    pub(crate) fn spawn_with_data(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        data: &Path,
        log_dir: &Path,
    ) -> Result<Self> {
        Self::supervise(name, program, args, &[], log_dir, Some(data))
    }

    fn supervise(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        envs: &[(&str, &str)],
        log_dir: &Path,
        data: Option<&Path>,
    ) -> Result<Self> {
        let (stdout_log, stderr_log) = create_logs(name, log_dir)
            .with_context(|| format!("creating the logs of {name} in {}", log_dir.display()))?;
        let mut supervisor = Command::new("bash")
            .args(["-c", SUPERVISOR, "supervise"])
            .args([&stdout_log, &stderr_log])
            .arg(data.map_or(OsStr::new(""), Path::as_os_str))
            .arg(program)
            .args(args)
            .envs(envs.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Only bash's own messages, such as "Killed"; the program's stderr goes to the log.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting bash, which supervises the programs of a test")?;
        let lifeline = supervisor.stdin.take();
        let pid = read_pid(&mut supervisor)
            .with_context(|| format!("reading the process id of {name} from its supervisor"))?;
        Ok(Self {
            name: name.to_owned(),
            pid,
            supervisor: Mutex::new(Supervisor {
                child: supervisor,
                exit: None,
            }),
            lifeline,
            stdout_log,
            stderr_log,
        })
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id of the program itself, not of its supervisor.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends SIGTERM. Does nothing if the program has already ended.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends SIGKILL. Does nothing if the program has already ended.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends any signal, for example [`Signal::STOP`] to freeze the program as a paused VM would.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The supervisor reaps the program just before it exits itself: while it runs, the id
        // belongs to the program.
        if self.exited()?.is_some() {
            return Ok(());
        }
        match kill_process(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("sending {signal:?} to {}", self.name))
            }
        }
    }

    /// How the program ended, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// When the kernel does not report it.
    pub fn exited(&self) -> Result<Option<Exit>> {
        // A panic elsewhere cannot leave it inconsistent.
        let mut supervisor = self
            .supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if supervisor.exit.is_none() {
            let status = supervisor
                .child
                .try_wait()
                .with_context(|| format!("checking whether {} is running", self.name))?;
            supervisor.exit = status.map(|status| match (status.code(), status.signal()) {
                (Some(code), _) if code > 128 => Exit::Signal(code - 128),
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or_default()),
            });
        }
        Ok(supervisor.exit)
    }

    /// Waits for the program to end.
    ///
    /// # Errors
    ///
    /// When the kernel does not report it.
    pub async fn wait(&self) -> Result<Exit> {
        loop {
            if let Some(exit) = self.exited()? {
                return Ok(exit);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for the program to end, at most `timeout`.
    ///
    /// # Errors
    ///
    /// When it still runs after `timeout`; it is left running.
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<Exit> {
        match tokio::time::timeout(timeout, self.wait()).await {
            Ok(exit) => exit,
            Err(_) => bail!("{} still runs after {timeout:?}", self.name),
        }
    }

    /// The file that the program's stdout goes to.
    #[must_use]
    pub fn stdout_log(&self) -> PathBuf {
        self.stdout_log.clone()
    }

    /// The file that the program's stderr goes to.
    #[must_use]
    pub fn stderr_log(&self) -> PathBuf {
        self.stderr_log.clone()
    }

    /// What the program has written to stdout so far; empty when the file cannot be read.
    #[must_use]
    pub fn read_stdout(&self) -> String {
        read_lossy(&self.stdout_log)
    }

    /// What the program has written to stderr so far; empty when the file cannot be read.
    #[must_use]
    pub fn read_stderr(&self) -> String {
        read_lossy(&self.stderr_log)
    }

    /// The last lines of stderr, for an error message.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        let text = self.read_stderr();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// The program's resident memory, in bytes (`VmRSS`).
    ///
    /// # Errors
    ///
    /// When the program has ended.
    pub fn rss_bytes(&self) -> Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The program's peak resident memory, in bytes (`VmHWM`).
    ///
    /// # Errors
    ///
    /// When the program has ended: the kernel then no longer knows it.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// The CPU time that the program has used, user and system together, in kernel ticks (10 ms).
    ///
    /// # Errors
    ///
    /// When the program has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = self.proc_file("stat")?;
        // The second field, the program's name in parentheses, may contain spaces: count from its end.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11) // fields 14 and 15 of proc_pid_stat(5): utime, stime
            .take(2)
            .map(|field| field.parse::<u64>().context("a tick count is not a number"))
            .sum::<Result<u64>>()?;
        let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second())?;
        Ok(tick * u32::try_from(ticks)?)
    }

    /// Detaches the program from this process, and returns its process id.
    ///
    /// # Errors
    ///
    /// When the supervisor is gone, and hence the program as well.
    pub fn keep(mut self) -> Result<u32> {
        // Cleared only after a successful write: the drop ends what still has its lifeline.
        if let Some(lifeline) = &mut self.lifeline {
            lifeline
                .write_all(b"keep\n")
                .with_context(|| format!("asking the supervisor of {} to keep it", self.name))?;
        }
        self.lifeline = None;
        Ok(self.pid())
    }

    fn status_bytes(&self, key: &str) -> Result<u64> {
        let status = self.proc_file("status")?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .with_context(|| format!("{} has ended: no {key} in its status", self.name))?;
        Ok(kibibytes.parse::<u64>()? * 1024)
    }

    fn proc_file(&self, file: &str) -> Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid()))
            .with_context(|| format!("reading /proc of {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifeline.is_none() {
            return; // detached
        }
        if self.kill().is_err() {
            self.lifeline = None; // the supervisor has to kill it
        }
        let deadline = Instant::now() + KILL_GRACE;
        while matches!(self.exited(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The lifeline closes only after the program has ended, so that its data and logs stay for the
        // owner to read.
    }
}

impl Exit {
    /// Whether the program exited with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Creates the two logs under the first free name, so that a restarted program does not write to the
/// logs of its predecessor.
fn create_logs(name: &str, dir: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let mut number = 1;
    loop {
        let stem = if number == 1 {
            name.to_owned()
        } else {
            format!("{name}-{number}")
        };
        let stdout = dir.join(format!("{stem}.stdout.log"));
        let stderr = dir.join(format!("{stem}.stderr.log"));
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&stdout)
        {
            Ok(_) => {
                fs::File::create(&stderr)?;
                return Ok((stdout, stderr));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn read_pid(supervisor: &mut Child) -> Result<Pid> {
    let stdout = supervisor.stdout.take().context("it has no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let pid = line
        .trim()
        .parse()
        .with_context(|| format!("{line:?} is not a process id"))?;
    Pid::from_raw(pid).with_context(|| format!("{pid} is not a process id"))
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
