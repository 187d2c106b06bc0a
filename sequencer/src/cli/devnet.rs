//! `fusion devnet`: a whole network on one machine, each node a process of this same binary.
//!
//! Promises: ready means that every node has a decided block; Ctrl-C leaves no process behind; if this process is
//! killed its nodes end too (they watch the pipe on their stdin). A node that dies is reported, and the
//! others go on: whoever killed it may start it again by hand with the command shown. It then belongs to the network
//! again: `devnet.json` holds its new process, found by the lock of its home, and Ctrl-C ends it too.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use fusion_client::json::RollupJson;
use rustix::process::Signal;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use super::relay::Relay;
use super::stops::Stops;
use super::wan::{self as table, Wan};
use super::{lock, print};
use crate::exit::{Exit, ExitError};

mod child;
mod founding;
mod home;
mod l1;
mod probe;
mod report;
mod wan;

use child::Child;
use home::{Home, Plan};
use l1::{L1, L1Choice, L1Json};
use probe::Meter;

/// Longest wait until every node has a decided block.
const READY_MAX: Duration = Duration::from_secs(30);

/// How often a starting node is asked.
const POLL: Duration = Duration::from_millis(20);

/// How often dead processes are noticed.
const REAP: Duration = Duration::from_millis(250);

const HELP: &str = "\
The network has the rollups 901 (evm, first come first served), 902 (evm, by fee) and 1001 (opaque).
Nodes listen on 127.0.0.1 from port 7100 on, or on free ports. Logs are in node*/node.log below the home folder.

Examples:
  fusion devnet                          4 nodes in a temporary folder; Ctrl-C stops them and removes it
  fusion devnet --home mynet             keeps the data; the same command resumes the chain
  fusion devnet --nodes 7 --json         one line of JSON when ready, for scripts
  fusion devnet --wan 4-eu-us            a node in each region, with the delays between them
  fusion devnet --l1 none                orders only; without it an L1 runs here too, and batches are posted there";

#[derive(Debug, Args)]
#[command(after_help = format!("{HELP}\n\n{}", table::HELP))]
pub(super) struct DevnetArgs {
    /// Number of nodes, 1 to 32 [default: 4, or as many as the home has].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=32))]
    nodes: Option<u16>,
    /// Folder for all data; kept. An existing one is resumed.
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Keep the temporary folder when stopping.
    #[arg(long, conflicts_with = "home")]
    keep: bool,
    /// First port; node i takes P+10i (p2p, UDP), P+10i+1 (RPC) and P+10i+2 (metrics).
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1024..=65_200))]
    base_port: Option<u16>,
    /// Put a region's distance between the nodes: 4-eu-us, 4-global, 7-global, 10-global, or a file with a table.
    #[arg(long, value_name = "NAME|FILE", value_parser = Wan::find)]
    wan: Option<Wan>,
    /// The L1 that a new network settles on: embedded, anvil, the address of one, or none.
    #[arg(long, value_name = "L1", default_value = "embedded")]
    l1: L1Choice,
    /// File with the key of the account that deploys the contracts on an L1 given by its address: 32 bytes in hex.
    #[arg(long, value_name = "FILE")]
    l1_key: Option<PathBuf>,
    /// Print one line of JSON when ready, and nothing else.
    #[arg(long)]
    json: bool,
    /// Stop when stdin is closed: `fusion bench --wan` holds the other end.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

/// What `--json` prints and `devnet.json` holds.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    genesis: &'a Path,
    nodes: Vec<ReadyNode<'a>>,
    rollups: &'a [RollupJson],
    #[serde(skip_serializing_if = "Option::is_none")]
    wan: Option<ReadyWan<'a>>,
    /// Where the network settles, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    l1: Option<&'a L1Json>,
}

/// The network between the nodes, and where its relay takes orders: see `fusion relay --help`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadyWan<'a> {
    #[serde(flatten)]
    table: &'a Wan,
    control: Option<SocketAddr>,
}

#[derive(Debug, Serialize)]
struct ReadyNode<'a> {
    name: &'a str,
    pid: u32,
    home: &'a Path,
    rpc: String,
    metrics: String,
    p2p: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
}

pub(super) fn run(args: &DevnetArgs) -> Result<(), ExitError> {
    let started = Instant::now();
    let mut home = Home::open(args.home.as_deref(), args.keep)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ExitError::new(Exit::Io, format_args!("cannot start: {error}")))?;
    let (plan, settling) = runtime.block_on(prepare(home.path(), args))?;
    let result = runtime.block_on(async {
        let mut devnet = Devnet::start(&plan, settling, args)?;
        let result = devnet.run(started).await;
        devnet.stop().await;
        if devnet.somebody_runs() {
            home.keep();
        } else {
            plan.forget_ready();
        }
        result
    });
    if let Some(path) = home.close() {
        drop(writeln!(std::io::stderr(), "data kept in {}", path.display()));
    }
    result
}

/// Where a network settles.
struct Settles {
    json: L1Json,
    /// Ours, for as long as the network runs; none if it is somebody else's, or was lost at the last stop.
    _l1: Option<L1>,
    /// Whether it is there.
    is_there: bool,
}

/// Makes or loads the network, and its L1.
async fn prepare(home: &Path, args: &DevnetArgs) -> Result<(Plan, Option<Settles>), ExitError> {
    let load = |rules| Plan::load_or_create(home, args.nodes, args.base_port, args.wan.as_ref(), rules);
    if home::exists(home) {
        let json = L1Json::load(home)?;
        let settles = json.map(|json| Settles {
            is_there: !json.is_ours,
            json,
            _l1: None,
        });
        return Ok((load(None)?, settles));
    }
    let Some(l1) = L1::start(&args.l1, args.l1_key.as_deref()).await? else {
        return Ok((load(None)?, None));
    };
    let plan = load(Some(&l1.rules().await?))?;
    let json = founding::found(&plan, &l1).await?;
    let settles = Settles {
        json,
        _l1: Some(l1),
        is_there: true,
    };
    Ok((plan, Some(settles)))
}

/// A running network.
struct Devnet<'a> {
    plan: &'a Plan,
    settles: Option<Settles>,
    children: Vec<Member>,
    relay: Option<Relay>,
    json: bool,
    live_line: bool,
    stops: Stops,
}

/// What is known of a node's process.
enum Member {
    /// Started by us.
    Ours(Box<Child>),
    /// Ended.
    Down,
    /// Ended, and now this process runs in its home: started by hand.
    ByHand(u32),
}

impl<'a> Devnet<'a> {
    fn start(plan: &'a Plan, settles: Option<Settles>, args: &DevnetArgs) -> Result<Self, ExitError> {
        let json = args.json;
        let listening = plan.nodes.iter().map(|node| (node.name.clone(), node.p2p));
        let relay = match &plan.between {
            Some(between) => Some(between.start(listening.collect())?),
            None => None,
        };
        let lost = settles.as_ref().is_some_and(|settles| !settles.is_there);
        let overrides: &[&str] = if lost { &["settlement.l1=[]"] } else { &[] };
        let children = plan
            .nodes
            .iter()
            .map(|node| Child::start(node, overrides).map(|child| Member::Ours(Box::new(child))));
        Ok(Self {
            plan,
            settles,
            stops: Stops::new(args.die_with_parent)?,
            children: children.collect::<Result<_, _>>()?,
            relay,
            json,
            live_line: !json && std::io::stdout().is_terminal(),
        })
    }

    /// Until a signal, or until it is clear that the network does not start.
    async fn run(&mut self, started: Instant) -> Result<(), ExitError> {
        if !self.wait_until_ready().await? {
            return Ok(());
        }
        if self.settles.as_ref().is_some_and(|settles| !settles.is_there) {
            self.say("the L1 of this network ended with the devnet that made it: it orders, and settles no more");
        }
        let line = self.write_ready()?;
        if self.json {
            print(&line)?;
        } else {
            print(&report::ready(self.plan, &self.ready(), started.elapsed()))?;
        }
        self.watch().await
    }

    /// False when asked to stop before.
    async fn wait_until_ready(&mut self) -> Result<bool, ExitError> {
        let deadline = Instant::now() + READY_MAX;
        let mut waiting: Vec<usize> = (0..self.plan.nodes.len()).collect();
        while !waiting.is_empty() {
            for index in 0..self.children.len() {
                if let Some(end) = self.ended(index) {
                    return Err(self.failed(index, &format!("ended with {end} before the first block")));
                }
            }
            let mut still = Vec::new();
            for index in waiting {
                // A resumed node has blocks at once: it is ready when a quorum is connected too.
                let status = probe::status(self.plan.nodes[index].rpc).await;
                if status.is_none_or(|status| status.height == 0 || status.power_connected < status.quorum) {
                    still.push(index);
                }
            }
            waiting = still;
            if Instant::now() > deadline
                && let Some(index) = waiting.first()
            {
                return Err(self.failed(*index, &format!("has no decided block after {} s", READY_MAX.as_secs())));
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.stops.next() => return Ok(false),
            }
        }
        Ok(true)
    }

    fn failed(&self, index: usize, what: &str) -> ExitError {
        let node = &self.plan.nodes[index];
        let log = child::last_lines(&node.log(), 10);
        ExitError::new(
            Exit::Unavailable,
            format_args!("{} {what}; the end of {}:\n{log}", node.name, node.log().display()),
        )
    }

    /// Says in `devnet.json` what runs; returns what it holds.
    fn write_ready(&self) -> Result<String, ExitError> {
        let line = serde_json::to_string(&self.ready()).map_err(ExitError::internal)?;
        self.plan.write_ready(&line)?;
        Ok(line)
    }

    fn ready(&self) -> Ready<'_> {
        let between = self.plan.between.as_ref();
        let nodes = self
            .plan
            .nodes
            .iter()
            .zip(&self.children)
            .enumerate()
            .map(|(index, (node, member))| ReadyNode {
                name: &node.name,
                pid: match member {
                    Member::Ours(child) => child.pid,
                    Member::ByHand(pid) => *pid,
                    Member::Down => 0,
                },
                home: &node.home,
                rpc: format!("http://{}", node.rpc),
                metrics: format!("http://{}/metrics", node.metrics),
                p2p: node.p2p.to_string(),
                region: between.map(|between| between.table.regions[index].as_str()),
            });
        Ready {
            genesis: &self.plan.genesis,
            nodes: nodes.collect(),
            rollups: &self.plan.rollups,
            l1: self
                .settles
                .as_ref()
                .filter(|settles| settles.is_there)
                .map(|settles| &settles.json),
            wan: between.map(|between| ReadyWan {
                table: &between.table,
                control: self.relay.as_ref().and_then(|relay| relay.control),
            }),
        }
    }

    /// Shows how the network does until a signal comes.
    async fn watch(&mut self) -> Result<(), ExitError> {
        let mut meter = Meter::new(self.plan.nodes.len());
        let mut reap = tokio::time::interval(REAP);
        let every = Duration::from_secs(if self.live_line { 1 } else { 5 });
        let mut show = tokio::time::interval(every);
        show.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stops.next() => {
                    // Whoever came a moment ago is to be stopped too.
                    self.notice_by_hand();
                    return Ok(());
                }
                _ = reap.tick() => {
                    if self.reap() | self.notice_by_hand()
                        && let Err(error) = self.write_ready()
                    {
                        self.say(&error.message);
                    }
                }
                _ = show.tick() => {
                    if !self.json {
                        let samples = probe::samples(&self.plan.nodes).await;
                        if let Some(line) = meter.line(samples) {
                            self.show(&match &self.plan.between {
                                Some(between) => format!("{} | {line}", between.table.name),
                                None => line,
                            })?;
                        }
                    }
                }
            }
        }
    }

    fn show(&self, line: &str) -> Result<(), ExitError> {
        if !self.live_line {
            return print(line);
        }
        let mut out = std::io::stdout().lock();
        // Whoever closes our terminal ends us with a signal; a line that nobody sees is no failure.
        drop(write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush()));
        Ok(())
    }

    /// Says something besides the status line.
    fn say(&self, text: &str) {
        let clear = if self.live_line { "\r\x1b[2K" } else { "" };
        // A terminal that has closed is no reason to leave nodes behind.
        drop(writeln!(std::io::stderr(), "{clear}{text}"));
    }

    /// How the process of a node ended, told once.
    fn ended(&mut self, index: usize) -> Option<String> {
        let Member::Ours(child) = &mut self.children[index] else {
            return None;
        };
        let end = child.ended()?;
        self.children[index] = Member::Down;
        Some(end)
    }

    /// Notices which of our processes ended; whether any has.
    fn reap(&mut self) -> bool {
        let mut changed = false;
        for index in 0..self.children.len() {
            if let Some(end) = self.ended(index) {
                changed = true;
                let node = &self.plan.nodes[index];
                // Whoever kills a node knows why; the log of one that ends by itself says it.
                let log = if end.starts_with("signal: 9") {
                    String::new()
                } else {
                    child::last_lines(&node.log(), 5)
                };
                let again = node.start_command();
                self.say(&format!(
                    "{} ended: {end}\n{log}start it again with: {again}",
                    node.name
                ));
            }
        }
        changed
    }

    /// Notices which of the nodes that ended run by hand now, and which of those ended; whether any did.
    fn notice_by_hand(&mut self) -> bool {
        let mut changed = false;
        for index in 0..self.children.len() {
            let node = &self.plan.nodes[index];
            let before = match self.children[index] {
                Member::Ours(_) => continue,
                Member::Down => None,
                Member::ByHand(pid) => Some(pid),
            };
            let now = lock::owner(&node.home);
            if now == before {
                continue;
            }
            changed = true;
            self.say(&match now {
                Some(pid) => format!("{} runs again, started by hand as process {pid}", node.name),
                None => format!("{} ended; start it again with: {}", node.name, node.start_command()),
            });
            self.children[index] = now.map_or(Member::Down, Member::ByHand);
        }
        changed
    }

    /// Ends all processes, those started by hand too: all are asked at once, and none outlives [`child::STOP_MAX`].
    async fn stop(&mut self) {
        if self.live_line {
            self.say("");
        }
        let deadline = Instant::now() + child::STOP_MAX;
        let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
        for (node, member) in self.plan.nodes.iter().zip(&mut self.children) {
            match member {
                Member::Ours(child) => {
                    child.terminate();
                    ours.push(child);
                }
                Member::ByHand(pid) => {
                    // Looked at again: a number may belong to another process by now.
                    if lock::owner(&node.home) == Some(*pid) {
                        child::signal(*pid, Signal::TERM);
                        by_hand.push((node, *pid));
                    }
                }
                Member::Down => {}
            }
        }
        for child in ours {
            child.wait_until(deadline).await;
        }
        for (node, pid) in by_hand {
            let runs = || lock::owner(&node.home) == Some(pid);
            while runs() && Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            }
            if runs() {
                child::signal(pid, Signal::KILL);
            }
        }
    }

    /// Whether a node runs all the same, started by hand a moment ago or by another user: then its data stays.
    fn somebody_runs(&self) -> bool {
        self.plan.nodes.iter().any(|node| lock::owner(&node.home).is_some())
    }
}
