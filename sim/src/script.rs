//! Who hears whom, round by round: the scenarios of "Twins: BFT Systems Made Robust" (Bano et al., OPODIS 2021).
//!
//! Some validators have a twin, a second process with the same key and a disk of its own. Both run the production
//! code; what either does alone is honest, and together they equivocate, forget locks and withhold, as the network
//! between them and the others lets them. A script says for each of [`STAGES`] stages which processes share a set; a
//! process speaks to its own set only, and what it says to others is held back until the healing.
//!
//! A process counts its stages by what it signs. Round `r` of height `h` begins its stage `h - 1 + r`, and its
//! precommit there is of the next stage already, so that between the prevotes and the precommits of each round the sets
//! change: a block may be locked in one set and decided, or not, in another. Sets that changed between rounds only
//! would decide or lock nothing. Leaders follow the chain's rule and are not part of the script: at height `h`, round
//! `r`, node `h + r` of `n` leads (unless a node that was silent in its turn is passed over), so each node leads one
//! stage of `n`. Any other order of leaders within a height is the same but for the nodes' names.

use crate::rng::Rng;

/// Stages of a script; from then on all hear all.
pub(crate) const STAGES: usize = 4;

/// Which set each process is in.
pub(crate) type Partition = Vec<u8>;

/// One scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    twins: Vec<usize>,
    stages: Vec<Partition>,
}

impl Script {
    /// The nodes that have twins, in the order of the twins' processes, which stand behind those of the nodes.
    pub(crate) fn twins(&self) -> &[usize] {
        &self.twins
    }

    /// Whether what `from` says at its `stage` reaches `to`.
    pub(crate) fn hears(&self, stage: usize, from: usize, to: usize) -> bool {
        self.stages.get(stage).is_none_or(|sets| sets[from] == sets[to])
    }

    /// A scenario for many nodes, as many of them with twins as may be faulty.
    pub(crate) fn sampled(number: u64, nodes: usize) -> Self {
        let mut rng = Rng::new(number);
        let faulty = (nodes - 1) / 3;
        let mut twins: Vec<usize> = Vec::new();
        while twins.len() < faulty {
            let twin = rng.index(nodes);
            if !twins.contains(&twin) {
                twins.push(twin);
            }
        }
        let identities: Vec<usize> = (0..nodes).chain(twins.iter().copied()).collect();
        let mut stages = Vec::new();
        while stages.len() < STAGES {
            let most = rng.between(1, 2);
            let sets: Partition = (0..identities.len())
                .map(|_| u8::try_from(rng.between(0, most)).unwrap_or(0))
                .collect();
            if has_quorum(&sets, &identities) {
                stages.push(sets);
            }
        }
        Self { twins, stages }
    }
}

impl std::fmt::Display for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "twins of {:?};", self.twins)?;
        let nodes = self.stages.first().map_or(0, Vec::len) - self.twins.len();
        for sets in &self.stages {
            write!(f, " ")?;
            for set in 0..=sets.iter().copied().max().unwrap_or(0) {
                let members = (0..sets.len()).filter(|process| sets[*process] == set);
                let names = members.map(|process| match process.checked_sub(nodes) {
                    Some(twin) => format!("{}'", self.twins[twin]),
                    None => process.to_string(),
                });
                let names: Vec<String> = names.collect();
                if !names.is_empty() {
                    write!(f, "{{{}}}", names.join(" "))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether some set has more than two thirds of the nodes, a node and its twin counting once.
fn has_quorum(sets: &[u8], identities: &[usize]) -> bool {
    let nodes = identities.iter().max().map_or(0, |last| last + 1);
    sets.iter().any(|set| {
        let mut members: Vec<usize> = (0..sets.len())
            .filter(|at| sets[*at] == *set)
            .map(|at| identities[at])
            .collect();
        members.sort_unstable();
        members.dedup();
        members.len() * 3 > nodes * 2
    })
}

/// All scenarios of four nodes, one of them with a twin.
///
/// - Sets: of the 52 partitions of five processes the 20 that have a set with a quorum, three different nodes. In any
///   other nobody gets 2/3 of votes of any kind, so nobody gets to the next stage: the scenario is the one that heals
///   there, and that is in the list too (all in one set from there on).
/// - The node with the twin: each of 4, that is, its leading in each of the stages.
/// - A twin and its node are the same but for their names, so of two scenarios that differ in this alone the first
///   counts. Other nodes are not alike: each leads in a turn of its own.
///
/// That is 4 * (20^4 + 6^4) / 2 = 322,592; 6 partitions are their own mirror.
#[derive(Debug)]
pub(crate) struct Enumeration {
    partitions: Vec<Partition>,
    /// Place of each partition's mirror, in which node and twin change places.
    mirrors: Vec<usize>,
}

/// Nodes of the enumeration, and its processes: node 0 of a partition is the one with the twin, 1 is the twin.
const NODES: usize = 4;
const PROCESSES: usize = NODES + 1;

impl Enumeration {
    pub(crate) fn new() -> Self {
        let mut partitions = Vec::new();
        all_partitions(&mut Vec::new(), &mut partitions);
        partitions.retain(|sets| has_quorum(sets, &[0, 0, 1, 2, 3]));
        let place = |sets: &Partition| partitions.iter().position(|other| other == sets).unwrap_or(0);
        let mirrors = partitions.iter().map(|sets| place(&mirror(sets))).collect();
        Self { partitions, mirrors }
    }

    /// Numbers of scenarios are below this; about half of them count.
    pub(crate) fn numbers(&self) -> u64 {
        NODES as u64 * (self.partitions.len() as u64).pow(STAGES as u32)
    }

    /// How many scenarios count.
    pub(crate) fn count(&self) -> u64 {
        (0..self.numbers()).filter(|number| self.counts(*number)).count() as u64
    }

    fn places(&self, number: u64) -> (usize, Vec<usize>) {
        let mut rest = usize::try_from(number).unwrap_or(usize::MAX);
        let mut places = Vec::with_capacity(STAGES);
        for _ in 0..STAGES {
            places.push(rest % self.partitions.len());
            rest /= self.partitions.len();
        }
        (rest % NODES, places)
    }

    /// Whether a number's scenario is the first among its mirrors.
    pub(crate) fn counts(&self, number: u64) -> bool {
        let (_, places) = self.places(number);
        let mirrored = places.iter().map(|place| self.mirrors[*place]);
        places.iter().copied().le(mirrored)
    }

    /// A number's scenario.
    pub(crate) fn script(&self, number: u64) -> Script {
        let (twin, places) = self.places(number);
        let stage = |place: &usize| {
            let sets = &self.partitions[*place];
            let others = (0..NODES).filter(|node| *node != twin);
            let mut stage = vec![0; PROCESSES];
            (stage[twin], stage[NODES]) = (sets[0], sets[1]);
            for (at, node) in others.enumerate() {
                stage[node] = sets[at + 2];
            }
            stage
        };
        Script {
            twins: vec![twin],
            stages: places.iter().map(stage).collect(),
        }
    }
}

/// All partitions of the processes, each once: a process is in a set that one before it is in, or in the next new set.
fn all_partitions(sets: &mut Partition, found: &mut Vec<Partition>) {
    if sets.len() == PROCESSES {
        found.push(sets.clone());
        return;
    }
    let new = sets.iter().max().map_or(0, |last| last + 1);
    for set in 0..=new {
        sets.push(set);
        all_partitions(sets, found);
        sets.pop();
    }
}

/// The same partition with node and twin in each other's place, its sets numbered in order again.
fn mirror(sets: &Partition) -> Partition {
    let mut swapped = sets.clone();
    swapped.swap(0, 1);
    let mut names: Vec<u8> = Vec::new();
    let mut renamed = Vec::new();
    for set in swapped {
        if !names.contains(&set) {
            names.push(set);
        }
        let name = names.iter().position(|name| *name == set).unwrap_or(0);
        renamed.push(u8::try_from(name).unwrap_or(0));
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_there_once_and_those_with_a_quorum_are_twenty() {
        let mut all = Vec::new();
        all_partitions(&mut Vec::new(), &mut all);
        assert_eq!(all.len(), 52, "the Bell number of 5");
        let enumeration = Enumeration::new();
        assert_eq!(enumeration.partitions.len(), 20);
        let own = (0..20).filter(|place| enumeration.mirrors[*place] == *place);
        assert_eq!(own.count(), 6);
    }

    #[test]
    fn of_a_scenario_and_its_mirror_one_counts() {
        let enumeration = Enumeration::new();
        assert_eq!(enumeration.numbers(), 640_000);
        assert_eq!(enumeration.count(), 322_592);
        let mut rng = Rng::new(1);
        for _ in 0..1_000 {
            let number = rng.below(enumeration.numbers());
            let (twin, places) = enumeration.places(number);
            let mirrored = places.iter().rev().fold(twin as u64, |number, place| {
                number * 20 + enumeration.mirrors[*place] as u64
            });
            let both = enumeration.counts(number) && enumeration.counts(mirrored);
            assert!(enumeration.counts(number) || enumeration.counts(mirrored));
            assert!(!both || number == mirrored);
        }
    }

    #[test]
    fn every_sample_has_a_quorum_in_every_stage() {
        for number in 0..1_000 {
            let script = Script::sampled(number, 7);
            assert_eq!(script.twins.len(), 2);
            let identities: Vec<usize> = (0..7).chain(script.twins.iter().copied()).collect();
            assert!(script.stages.iter().all(|sets| has_quorum(sets, &identities)));
        }
    }
}
