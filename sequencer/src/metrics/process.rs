//! The process itself in numbers, under the names that every Prometheus client uses, read from `/proc/self` at each
//! scrape.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clock ticks per second in `/proc/self/stat`: `USER_HZ`, which Linux fixes at 100 for programs.
const TICKS: f64 = 100.0;

type Gauge = super::Gauge;
type Counter = super::Counter;

/// The process's gauges.
#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter,
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
}

impl Process {
    #[rustfmt::skip]
    pub(super) fn new(registry: &super::Registry) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let gauge = |name, help| super::process_gauge(registry, name, help);
        gauge("process_start_time_seconds", "Start of the process, Unix seconds").set(now.as_secs_f64());
        Self {
            cpu: super::process_counter(registry, "process_cpu_seconds_total", "User and system CPU time"),
            resident: gauge("process_resident_memory_bytes", "Resident memory"),
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory"),
            open_fds: gauge("process_open_fds", "Open file descriptors"),
            max_fds: gauge("process_max_fds", "Most file descriptors that it may open"),
            threads: gauge("process_threads", "Threads"),
        }
    }

    /// Reads everything anew. What cannot be read keeps its last value.
    pub(super) fn read(&self) {
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            self.read_stat(&stat);
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
            let soft = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
            set(&self.max_fds, soft);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // The folder itself is open while it is read.
            let open = u32::try_from(files.count().saturating_sub(1)).ok();
            set(&self.open_fds, open.map(f64::from));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib: Option<f64> = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
            set(&self.resident, kib.map(|kib| kib * 1024.0));
        }
    }

    /// Source: proc_pid_stat(5). The second field may hold spaces, so counting starts behind its parenthesis.
    fn read_stat(&self, stat: &str) {
        let Some((_, rest)) = stat.rsplit_once(')') else {
            return;
        };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| -> Option<f64> { fields.get(number - 3)?.parse().ok() };
        let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS);
        if let Some(cpu) = cpu {
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        }
        set(&self.threads, field(20));
        set(&self.virtual_memory, field(23));
    }
}

fn set(gauge: &Gauge, value: Option<f64>) {
    if let Some(value) = value {
        gauge.set(value);
    }
}
