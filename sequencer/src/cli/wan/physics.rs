//! What the speed of light leaves: the least latency of three-hop consensus over a table of delays.
//!
//! Pure. Computing, signatures and disks cost nothing here; validators have equal power, every vote travels directly,
//! and the proposer rotates in the order of the table. Nobody can be faster on this table with Tendermint and without
//! proposing ahead.

use serde::Serialize;

use super::Wan;

/// The least times over a table, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Minimum {
    /// Votes that decide.
    pub(in crate::cli) quorum: usize,
    /// From a random node to a random proposer, which may be itself.
    pub(in crate::cli) hop_ms: f64,
    /// From a proposal to the next one.
    pub(in crate::cli) interval_ms: f64,
    /// From a proposal until a random node knows it decided: proposal, prevotes, precommits.
    pub(in crate::cli) decide_ms: f64,
    /// From a user at a random node to its final receipt: a hop, half an interval, a decision.
    pub(in crate::cli) final_ms: f64,
    /// The same if a proposal never had to wait for the one before it.
    pub(in crate::cli) without_waiting_ms: f64,
    /// The same as `final_ms` for users at each node.
    pub(in crate::cli) final_by_node_ms: Vec<f64>,
}

impl Minimum {
    /// The least times over `wan`.
    pub(in crate::cli) fn of(wan: &Wan) -> Self {
        let delays = &wan.one_way_ms;
        let count = wan.count();
        let quorum = count - (count - 1) / 3;
        let decided: Vec<Vec<f64>> = (0..count).map(|proposer| decided(delays, proposer, quorum)).collect();
        let intervals = (0..count).map(|proposer| decided[proposer][(proposer + 1) % count]);
        let interval_ms = mean(intervals);
        let to_proposer = |node: usize| mean((0..count).map(|proposer| delays[node][proposer]));
        let until_decided = |node: usize| mean((0..count).map(|proposer| decided[proposer][node]));
        let (hop_ms, decide_ms) = (mean((0..count).map(to_proposer)), mean((0..count).map(until_decided)));
        Self {
            quorum,
            hop_ms,
            interval_ms,
            decide_ms,
            final_ms: hop_ms + interval_ms / 2.0 + decide_ms,
            without_waiting_ms: hop_ms + decide_ms,
            final_by_node_ms: (0..count)
                .map(|node| to_proposer(node) + interval_ms / 2.0 + until_decided(node))
                .collect(),
        }
    }
}

/// When each node knows a decision, counted from the proposal.
fn decided(delays: &[Vec<f64>], proposer: usize, quorum: usize) -> Vec<f64> {
    let proposed = &delays[proposer];
    let polka = heard(delays, proposed, proposed, quorum);
    heard(delays, &polka, proposed, quorum)
}

/// When each node has votes of a quorum that were sent at `sent`, and the proposal that they are about.
fn heard(delays: &[Vec<f64>], sent: &[f64], proposed: &[f64], quorum: usize) -> Vec<f64> {
    let at = |node: usize| {
        let mut arrivals: Vec<f64> = sent.iter().zip(delays).map(|(sent, row)| sent + row[node]).collect();
        arrivals.sort_by(f64::total_cmp);
        arrivals[quorum - 1].max(proposed[node])
    };
    (0..delays.len()).map(at).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_minima_of_the_tables_come_out() {
        for (name, quorum, interval, decide, least, unwaiting) in [
            ("4-eu-us", 3, 118.0, 115.0, 206.0, 147.0),
            ("4-global", 3, 227.0, 230.0, 400.0, 286.0),
            ("10-global", 7, 291.0, 286.0, 507.0, 362.0),
        ] {
            let minimum = Minimum::of(&Wan::find(name).unwrap());
            assert_eq!(minimum.quorum, quorum);
            let close = |is: f64, known: f64| assert!((is - known).abs() <= 1.0, "{name}: {is} and not {known}");
            close(minimum.interval_ms, interval);
            close(minimum.decide_ms, decide);
            close(minimum.final_ms, least);
            close(minimum.without_waiting_ms, unwaiting);
            close(mean(minimum.final_by_node_ms.iter().copied()), least);
        }
    }

    #[test]
    fn equal_delays_make_three_hops() {
        let row = |at: usize| (0..4).map(|to| if to == at { 0.0 } else { 10.0 }).collect::<Vec<_>>();
        let wan = Wan {
            name: "even".to_owned(),
            regions: vec!["x".to_owned(); 4],
            one_way_ms: (0..4).map(row).collect(),
        };
        let minimum = Minimum::of(&wan);
        assert!((minimum.interval_ms - 30.0).abs() < 1e-9 && (minimum.hop_ms - 7.5).abs() < 1e-9);
        assert!(
            (minimum.decide_ms - 30.0).abs() < 1e-9,
            "the proposer too waits for two round trips: {minimum:?}"
        );
    }

    #[test]
    fn one_node_waits_for_nobody() {
        let wan = Wan::parse(r#"{"regions":["a"],"oneWayMs":[[0]]}"#, "a.json").unwrap();
        assert_eq!(Minimum::of(&wan).final_ms, 0.0);
    }
}
