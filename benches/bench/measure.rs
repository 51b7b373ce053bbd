//! What a run takes: time, processor time of each process, memory. Read from `/proc`, so that it is the kernel's own
//! account of whole processes.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Ticks of a second in `/proc/PID/stat`: `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux.
const TICKS: f64 = 100.0;

/// How often a process is looked at whose peak is to be known.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One run of one contestant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// From the start of the work until it is durable.
    pub(crate) seconds: f64,
    /// Processor seconds of whoever carries the rows; 0 where that is a server itself.
    pub(crate) carrier: f64,
    /// Processor seconds of the servers, source first.
    pub(crate) servers: [f64; 2],
    /// The most memory that the carrier had, in bytes.
    pub(crate) peak: u64,
}

/// Processor seconds of a process, with those children that live or have been waited for.
pub(crate) fn processor_seconds(process: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return 0.0 };
    // The name, in brackets, may hold anything. User, system, and both of the children that are over.
    let Some((_, fields)) = stat.rsplit_once(") ") else { return 0.0 };
    let own: f64 = fields.split(' ').skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    let children = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = children.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        children.flat_map(|line| line.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect();
    own / TICKS + children.into_iter().map(processor_seconds).sum::<f64>()
}

/// Looks at a process all the time, as long as it lives.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: JoinHandle<f64>,
}

impl Watch {
    pub(crate) fn start(process: u32) -> Watch {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, highest) = (stop.clone(), peak.clone());
        let thread = thread::spawn(move || {
            let mut seconds: f64 = 0.0;
            while !stopped.load(Ordering::Relaxed) {
                seconds = seconds.max(processor_seconds(process));
                highest.fetch_max(peak_memory(process), Ordering::Relaxed);
                thread::sleep(LOOK_EVERY);
            }
            seconds
        });
        Watch { stop, peak, thread }
    }

    /// Processor seconds and the most memory in bytes, as last seen while it lived.
    pub(crate) fn end(self) -> (f64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        (self.thread.join().unwrap(), self.peak.load(Ordering::Relaxed))
    }
}

/// The most memory that a process ever had.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}
