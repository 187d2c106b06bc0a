//! The relay's words: one JSON object a line asks, one answers.
//!
//! Pure: changes and reads directions, and knows no socket. A request that is refused changes nothing.

use serde::{Deserialize, Serialize};

use super::shape::{Counts, Direction, Shape};

/// Longest delay and jitter, in milliseconds.
pub(super) const DELAY_MS_MAX: f64 = 60_000.0;

/// Least and most bandwidth, in 10^6 bits per second. Below it a packet takes seconds.
pub(super) const MBIT_MIN: f64 = 0.01;
pub(super) const MBIT_MAX: f64 = 1_000_000.0;

/// Every direction between named nodes.
#[derive(Debug)]
pub(super) struct Directions {
    names: Vec<String>,
    /// Row by row, from the row's node to the column's.
    grid: Vec<Direction>,
    lateness: Lateness,
}

/// How much later than due datagrams were sent, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lateness {
    /// Half were sent within this.
    pub(super) p50_us: u64,
    /// 99 of 100.
    pub(super) p99_us: u64,
    /// The latest.
    pub(super) max_us: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Action {
    Set,
    Reset,
    Show,
    Count,
}

/// One node or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    r#do: Action,
    from: Option<Names>,
    to: Option<Names>,
    node: Option<Names>,
    delay_ms: Option<f64>,
    jitter_ms: Option<f64>,
    reorder: Option<bool>,
    loss: Option<f64>,
    duplicate: Option<f64>,
    cut: Option<bool>,
    mbit_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<Lateness>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link<'a>>,
}

#[derive(Debug, Serialize)]
struct Link<'a> {
    from: &'a str,
    to: &'a str,
    #[serde(flatten)]
    shape: Option<Shape>,
    #[serde(flatten)]
    counts: Option<Counts>,
}

impl Directions {
    /// The directions between `names`: `make(from, to)` gives each.
    pub(super) fn new(names: Vec<String>, make: impl Fn(usize, usize) -> Direction) -> Self {
        let count = names.len();
        let grid = (0..count * count).map(|at| make(at / count, at % count)).collect();
        Self {
            names,
            grid,
            lateness: Lateness::default(),
        }
    }

    /// The direction from one node to another, by their places.
    pub(super) fn at(&mut self, from: usize, to: usize) -> &mut Direction {
        let place = from * self.names.len() + to;
        &mut self.grid[place]
    }

    /// Notes how late datagrams are sent.
    pub(super) fn note_lateness(&mut self, lateness: Lateness) {
        self.lateness = lateness;
    }

    /// Does what `line` asks; returns the answer, without a line feed.
    pub(super) fn obey(&mut self, line: &str) -> String {
        let request: Result<Request, String> =
            serde_json::from_str(line).map_err(|error| format!("not a request: {error}; see `fusion relay --help`"));
        let answer = match request.and_then(|request| self.act(&request)) {
            Ok(answer) => answer,
            Err(error) => Answer {
                ok: false,
                error: Some(error),
                ..Answer::nothing()
            },
        };
        serde_json::to_string(&answer).expect("numbers and names are always JSON")
    }

    fn act(&mut self, request: &Request) -> Result<Answer<'_>, String> {
        let chosen = self.chosen(request)?;
        let has_change = request.change(Shape::delaying(0.0))?.1;
        match request.r#do {
            Action::Set if !has_change => {
                return Err(
                    "set changes nothing: give delayMs, jitterMs, reorder, loss, duplicate, cut or mbitPerSecond"
                        .to_owned(),
                );
            }
            Action::Set => {
                for place in &chosen {
                    let (shape, _) = request.change(self.grid[*place].shape())?;
                    self.grid[*place].set(shape);
                }
            }
            _ if has_change => return Err("only set takes values".to_owned()),
            Action::Reset => {
                for place in &chosen {
                    self.grid[*place].reset();
                }
            }
            Action::Show | Action::Count => {}
        }
        let shows = matches!(request.r#do, Action::Show);
        let counts = matches!(request.r#do, Action::Count);
        let link = |place: &usize| Link {
            from: &self.names[place / self.names.len()],
            to: &self.names[place % self.names.len()],
            shape: shows.then(|| self.grid[*place].shape()),
            counts: counts.then(|| self.grid[*place].counts()),
        };
        let reads = shows || counts;
        Ok(Answer {
            changed: (!reads).then_some(chosen.len()),
            late: counts.then_some(self.lateness),
            links: if reads {
                chosen.iter().map(link).collect()
            } else {
                Vec::new()
            },
            ..Answer::nothing()
        })
    }

    /// Places of the directions that a request is about.
    fn chosen(&self, request: &Request) -> Result<Vec<usize>, String> {
        let from = self.places("from", request.from.as_ref())?;
        let to = self.places("to", request.to.as_ref())?;
        let node = self.places("node", request.node.as_ref())?;
        let has = |places: &Option<Vec<usize>>, place| places.as_ref().is_none_or(|places| places.contains(&place));
        let count = self.names.len();
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let chosen =
            all.filter(|(a, b)| a != b && has(&from, *a) && has(&to, *b) && (has(&node, *a) || has(&node, *b)));
        let chosen: Vec<usize> = chosen.map(|(from, to)| from * count + to).collect();
        if chosen.is_empty() {
            return Err("no direction is meant: from and to name the same node, or none".to_owned());
        }
        Ok(chosen)
    }

    fn places(&self, field: &str, names: Option<&Names>) -> Result<Option<Vec<usize>>, String> {
        let names = match names {
            None => return Ok(None),
            Some(Names::One(name)) => std::slice::from_ref(name),
            Some(Names::Several(names)) => names,
        };
        let place = |name: &String| {
            let place = self.names.iter().position(|known| known == name);
            place.ok_or_else(|| format!("{field} is {name:?}, the nodes are {}", self.names.join(", ")))
        };
        names.iter().map(place).collect::<Result<_, _>>().map(Some)
    }
}

impl Request {
    /// `shape` with what this request asks for, and whether that is anything.
    fn change(&self, mut shape: Shape) -> Result<(Shape, bool), String> {
        let mut some = false;
        let numbers = [
            ("delayMs", self.delay_ms, &mut shape.delay_ms, DELAY_MS_MAX),
            ("jitterMs", self.jitter_ms, &mut shape.jitter_ms, DELAY_MS_MAX),
            ("loss", self.loss, &mut shape.loss, 1.0),
            ("duplicate", self.duplicate, &mut shape.duplicate, 1.0),
            (
                "mbitPerSecond",
                self.mbit_per_second,
                &mut shape.mbit_per_second,
                MBIT_MAX,
            ),
        ];
        for (field, value, slot, max) in numbers {
            let Some(value) = value else { continue };
            if !(0.0..=max).contains(&value) {
                return Err(format!("{field} is {value}, it must be 0 to {max}"));
            }
            if field == "mbitPerSecond" && value != 0.0 && value < MBIT_MIN {
                return Err(format!(
                    "{field} is {value}, it must be 0 for no limit, or {MBIT_MIN} to {max}"
                ));
            }
            (*slot, some) = (value, true);
        }
        for (value, slot) in [(self.reorder, &mut shape.reorder), (self.cut, &mut shape.cut)] {
            let Some(value) = value else { continue };
            (*slot, some) = (value, true);
        }
        Ok((shape, some))
    }
}

impl Answer<'_> {
    fn nothing() -> Self {
        Self {
            ok: true,
            error: None,
            changed: None,
            late: None,
            links: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn directions() -> Directions {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        Directions::new(names, |from, to| {
            Direction::new(Shape::delaying((from * 10 + to) as f64), 1_472, 1)
        })
    }

    fn ask(directions: &mut Directions, request: &Value) -> Value {
        serde_json::from_str(&directions.obey(&request.to_string())).unwrap()
    }

    #[test]
    fn one_direction_one_node_or_all_are_set_and_reset() {
        let mut all = directions();
        let set = ask(
            &mut all,
            &json!({"do": "set", "from": "a", "to": "b", "cut": true, "loss": 0.5}),
        );
        assert_eq!(set, json!({"ok": true, "changed": 1}));
        assert!(all.at(0, 1).shape().cut && !all.at(1, 0).shape().cut, "one way");
        assert_eq!(all.at(0, 1).shape().delay_ms, 1.0, "what is not named stays");
        assert_eq!(
            ask(&mut all, &json!({"do": "set", "node": "c", "delayMs": 7}))["changed"],
            4
        );
        assert_eq!(all.at(2, 0).shape().delay_ms, 7.0);
        let parts = json!({"do": "set", "from": ["a", "b"], "to": ["c"], "cut": true});
        assert_eq!(ask(&mut all, &parts)["changed"], 2);
        assert_eq!(ask(&mut all, &json!({"do": "reset"}))["changed"], 6);
        assert_eq!(all.at(2, 0).shape(), Shape::delaying(20.0));
    }

    #[test]
    fn shapes_and_counts_are_told() {
        let mut all = directions();
        all.at(0, 1).admit(0, 100);
        let counts = ask(&mut all, &json!({"do": "count", "from": "a", "to": "b"}));
        assert_eq!(counts["links"][0]["receivedBytes"], 100);
        assert_eq!(counts["late"]["maxUs"], 0);
        let shapes = ask(&mut all, &json!({"do": "show", "to": "b"}));
        assert_eq!(
            shapes["links"][1],
            json!({
                "from": "c", "to": "b", "delayMs": 21.0, "jitterMs": 0.0, "reorder": false, "loss": 0.0, "duplicate": 0.0,
                "cut": false, "mbitPerSecond": 0.0,
            })
        );
    }

    #[test]
    fn a_wrong_request_is_refused_with_field_value_and_limit_and_changes_nothing() {
        let mut all = directions();
        for (request, says) in [
            (
                json!({"do": "set", "loss": 2, "cut": true}),
                "loss is 2, it must be 0 to 1",
            ),
            (
                json!({"do": "set", "delayMs": -1}),
                "delayMs is -1, it must be 0 to 60000",
            ),
            (
                json!({"do": "set", "mbitPerSecond": 0.001}),
                "mbitPerSecond is 0.001, it must be 0 for no limit",
            ),
            (
                json!({"do": "set", "from": "d", "cut": true}),
                "from is \"d\", the nodes are a, b, c",
            ),
            (
                json!({"do": "set", "from": "a", "to": "a", "cut": true}),
                "no direction is meant",
            ),
            (json!({"do": "set"}), "set changes nothing"),
            (json!({"do": "reset", "cut": false}), "only set takes values"),
            (json!({"do": "set", "delay": 1}), "unknown field `delay`"),
            (json!({"do": "stop"}), "unknown variant `stop`"),
            (json!(3), "not a request"),
        ] {
            let answer = ask(&mut all, &request);
            assert_eq!(answer["ok"], false);
            let error = answer["error"].as_str().unwrap();
            assert!(error.contains(says), "{request}: {error}");
        }
        assert!(all.grid.iter().all(|direction| !direction.shape().cut));
    }
}
