//! Starting, signalling and waiting for processes.
//!
//! The signal that ends a server with its parent is sent when the parent *thread* ends, and a test's thread
//! ends before its process. So every server is started by one thread that lives as long as the process.

use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

/// How often a process is asked whether it has ended. Little beside the time any start or end takes.
const POLL: Duration = Duration::from_millis(5);

/// How long a process may take to be gone after SIGKILL. It is the kernel that takes the time, to give back
/// memory and files; a process not gone by then hangs in a device, and nobody can help it.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

struct Order {
    command: Command,
    started: oneshot::Sender<io::Result<Process>>,
}

static STARTER: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);

/// A process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a process that dies with this one.
    pub(crate) async fn start(command: Command) -> io::Result<Process> {
        let (started, answer) = oneshot::channel();
        order(Order { command, started })?;
        answer.await.map_err(io::Error::other)?
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the end; `None` is a time-out.
    pub(crate) async fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // Until it was waited for, the process id cannot become another's.
        if self.ended().is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.map_or(Ok(()), |pid| Ok(kill_process(pid, signal)?))
    }

    /// Kills the process and its children at once, as if their power had failed, and waits until they are gone.
    ///
    /// PostgreSQL works in children. They would notice the end of the first process and end themselves, but not
    /// before their next wait, and might commit until then.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        let children = self.kill_all();
        let deadline = Instant::now() + KILL_TIMEOUT;
        while !self.all_ended(&children) {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Sends the signals, and returns which children there were.
    fn kill_all(&mut self) -> Vec<i32> {
        // Stopped, it can neither have more children nor take note of one's end, so that the numbers stay theirs.
        if self.signal(Signal::STOP).is_err() || self.ended().is_some() {
            return Vec::new();
        }
        let deadline = Instant::now() + Duration::from_millis(200);
        while state(self.child.id()).is_some_and(|state| state != 'T') && Instant::now() < deadline {
            thread::yield_now();
        }
        let children = children(self.child.id());
        // The result is of no use: it fails when the process has ended, which is what is wanted.
        let _ = self.child.kill();
        for pid in children.iter().copied().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        children
    }

    fn all_ended(&mut self, children: &[i32]) -> bool {
        let gone = |pid: &i32| match u32::try_from(*pid).ok().and_then(state) {
            // Ended and not waited for: whoever inherited it may take its time.
            Some('Z' | 'X') | None => true,
            Some(_) => false,
        };
        self.ended().is_some() && children.iter().all(gone)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        let children = self.kill_all();
        let deadline = Instant::now() + KILL_TIMEOUT;
        while !self.all_ended(&children) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }
}

/// Gives an order to the thread that starts processes, and starts that thread if this is the first.
fn order(order: Order) -> io::Result<()> {
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    let orders = match &*starter {
        Some(orders) => orders.clone(),
        None => {
            let (orders, received) = mpsc::channel::<Order>();
            thread::Builder::new().name("pontoon-servers".to_owned()).spawn(move || {
                for Order { mut command, started } in received {
                    // Where whoever gave the order has gone away, this drops the process, and so kills it.
                    drop(started.send(command.spawn().map(|child| Process { child })));
                }
            })?;
            starter.insert(orders).clone()
        }
    };
    orders.send(order).map_err(io::Error::other)
}

/// The state of a process as the kernel writes it (`R`, `S`, `T`, `Z`, ...), `None` if there is none.
fn state(pid: u32) -> Option<char> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|(state, _)| state)
}

/// The children of a process.
fn children(parent: u32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parse_stat(&stat).is_some_and(|(_, its_parent)| its_parent == parent)
    };
    processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

/// State and parent in a line of `/proc/PID/stat`: `PID (NAME) STATE PARENT ...`. A name may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((state, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_mislead() {
        assert_eq!(parse_stat("12 (a) R 9 (b)) S 7 12 12 0"), Some(('S', 7)));
        assert_eq!(parse_stat(""), None);
    }

    #[tokio::test]
    async fn kill_takes_the_children_along() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & sleep 600 & wait"]);
        let mut shell = Process::start(command).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while children(shell.id()).len() < 2 {
            assert!(Instant::now() < deadline, "the shell started nothing");
            tokio::time::sleep(POLL).await;
        }
        let children = children(shell.id());
        shell.kill().await.unwrap();
        for child in children {
            assert!(matches!(state(child.unsigned_abs()), None | Some('Z')));
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let error = Process::start(Command::new("/nowhere/at/all")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
