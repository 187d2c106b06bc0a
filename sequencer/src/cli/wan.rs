//! Regions of a wide-area network and the one-way delays between them.
//!
//! Tables are half of the median round trips that public clouds measure between their regions. Leaves to others: who
//! delays packets by them (`relay`), who starts nodes in them (`devnet`) and who measures (`bench`).

use std::path::Path;

use serde::{Deserialize, Serialize};

pub(super) mod physics;

/// Most regions of a table: one node each.
const REGIONS_MAX: usize = 32;

/// Longest one-way delay of a table, in milliseconds.
const DELAY_MS_MAX: f64 = 10_000.0;

/// Longest name of a region, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The tables that have a name, for help texts.
pub(super) const NAMES: &str = "4-eu-us, 4-global, 7-global, 10-global";

/// What every command that takes a table says of it.
pub(super) const HELP: &str = "\
Tables of regions (one-way delays are half of the median round trips between public-cloud regions; one node each):
  4-eu-us     us-east-1, us-west-2, eu-west-1, eu-central-1
  4-global    us-east-1, eu-west-1, ap-northeast-1, ap-southeast-1
  7-global    us-west-1, us-east-1, eu-west-1, ap-northeast-1, ap-south-1, sa-east-1, eu-central-1
  10-global   those seven, eu-north-1, ap-northeast-2 and ap-southeast-2
  FILE        one of your own, TOML, or JSON if it ends with .json: regions = [\"a\", \"b\"], oneWayMs = [[0, 40], [40, 0]]";

const EU_US: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1"];
const EU_US_MS: [[f64; 4]; 4] = [
    [0.0, 32.11, 34.84, 46.45],
    [32.11, 0.0, 59.21, 71.30],
    [34.84, 59.21, 0.0, 13.61],
    [46.45, 71.30, 13.61, 0.0],
];

const GLOBAL_4: [&str; 4] = ["us-east-1", "eu-west-1", "ap-northeast-1", "ap-southeast-1"];
const GLOBAL_4_MS: [[f64; 4]; 4] = [
    [0.0, 34.84, 74.81, 109.66],
    [34.84, 0.0, 101.19, 89.40],
    [74.81, 101.19, 0.0, 35.38],
    [109.66, 89.40, 35.38, 0.0],
];

const GLOBAL_10: [&str; 10] = [
    "us-west-1",
    "us-east-1",
    "eu-west-1",
    "ap-northeast-1",
    "eu-north-1",
    "ap-south-1",
    "sa-east-1",
    "eu-central-1",
    "ap-northeast-2",
    "ap-southeast-2",
];
const GLOBAL_10_MS: [[f64; 10]; 10] = [
    [0.0, 32.03, 65.01, 54.25, 86.34, 115.90, 87.52, 76.57, 66.87, 69.59],
    [32.03, 0.0, 34.84, 74.81, 56.25, 95.54, 57.67, 46.45, 89.83, 99.87],
    [65.01, 34.84, 0.0, 101.19, 20.15, 62.82, 89.20, 13.61, 116.46, 127.83],
    [54.25, 74.81, 101.19, 0.0, 123.47, 66.90, 129.32, 113.64, 18.18, 53.19],
    [86.34, 56.25, 20.15, 123.47, 0.0, 74.33, 111.58, 11.48, 125.12, 135.70],
    [115.90, 95.54, 62.82, 66.90, 74.33, 0.0, 150.70, 64.56, 67.43, 77.38],
    [87.52, 57.67, 89.20, 129.32, 111.58, 150.70, 0.0, 102.26, 144.76, 156.12],
    [76.57, 46.45, 13.61, 113.64, 11.48, 64.56, 102.26, 0.0, 115.60, 125.75],
    [66.87, 89.83, 116.46, 18.18, 125.12, 67.43, 144.76, 115.60, 0.0, 72.84],
    [69.59, 99.87, 127.83, 53.19, 135.70, 77.38, 156.12, 125.75, 72.84, 0.0],
];

/// Which of the ten make the seven.
const GLOBAL_7: [usize; 7] = [0, 1, 2, 3, 5, 6, 7];

/// Regions and the one-way delays between them: checked, so that every row has a delay for every region.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wan {
    /// Its name, or the file it came from.
    pub(super) name: String,
    /// One for each node, in the nodes' order.
    pub(super) regions: Vec<String>,
    /// Milliseconds from the region of the row to that of the column.
    pub(super) one_way_ms: Vec<Vec<f64>>,
}

/// A table as a file has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    name: Option<String>,
    regions: Vec<String>,
    one_way_ms: Vec<Vec<f64>>,
}

impl Wan {
    /// The table called `text`, or the one in the file of that name.
    ///
    /// # Errors
    /// One line that names what is wrong, for the command line.
    pub(super) fn find(text: &str) -> Result<Self, String> {
        if let Some(wan) = Self::named(text) {
            return Ok(wan);
        }
        let path = Path::new(text);
        let content = std::fs::read_to_string(path)
            .map_err(|error| format!("neither a known table ({NAMES}) nor a file that can be read: {error}"))?;
        Self::parse(&content, text)
    }

    /// A table as TOML, or as JSON if `source` ends with `.json`.
    ///
    /// # Errors
    /// One line that names the field, what it has, and what is allowed.
    pub(super) fn parse(content: &str, source: &str) -> Result<Self, String> {
        let file: File = if Path::new(source).extension().is_some_and(|end| end == "json") {
            serde_json::from_str(content).map_err(|error| format!("{source}: {error}"))?
        } else {
            toml::from_str(content).map_err(|error| format!("{source}: {}", error.message()))?
        };
        let wan = Self {
            name: file.name.unwrap_or_else(|| source.to_owned()),
            regions: file.regions,
            one_way_ms: file.one_way_ms,
        };
        wan.check().map_err(|problem| format!("{source}: {problem}"))?;
        Ok(wan)
    }

    /// Number of regions, and of nodes.
    pub(super) fn count(&self) -> usize {
        self.regions.len()
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "4-eu-us" => Self::of(name, &EU_US, &EU_US_MS),
            "4-global" => Self::of(name, &GLOBAL_4, &GLOBAL_4_MS),
            "7-global" => {
                let regions = GLOBAL_7.map(|at| GLOBAL_10[at]);
                let rows = GLOBAL_7.map(|from| GLOBAL_7.map(|to| GLOBAL_10_MS[from][to]));
                Self::of(name, &regions, &rows)
            }
            "10-global" => Self::of(name, &GLOBAL_10, &GLOBAL_10_MS),
            _ => return None,
        })
    }

    fn of<const N: usize>(name: &str, regions: &[&str; N], one_way_ms: &[[f64; N]; N]) -> Self {
        Self {
            name: name.to_owned(),
            regions: regions.iter().map(|region| (*region).to_owned()).collect(),
            one_way_ms: one_way_ms.iter().map(|row| row.to_vec()).collect(),
        }
    }

    fn check(&self) -> Result<(), String> {
        let count = self.regions.len();
        if !(1..=REGIONS_MAX).contains(&count) {
            return Err(format!("regions has {count} entries, it must have 1 to {REGIONS_MAX}"));
        }
        for (at, region) in self.regions.iter().enumerate() {
            if region.is_empty() || region.len() > NAME_BYTES_MAX || region.chars().any(char::is_control) {
                return Err(format!(
                    "regions[{at}] is {region:?}, it must have 1 to {NAME_BYTES_MAX} bytes"
                ));
            }
        }
        if self.one_way_ms.len() != count {
            let rows = self.one_way_ms.len();
            return Err(format!(
                "oneWayMs has {rows} rows, it must have one for each of {count} regions"
            ));
        }
        for (from, row) in self.one_way_ms.iter().enumerate() {
            if row.len() != count {
                let length = row.len();
                return Err(format!(
                    "oneWayMs[{from}] has {length} delays, it must have one for each of {count} regions"
                ));
            }
            for (to, delay) in row.iter().enumerate() {
                if !(0.0..=DELAY_MS_MAX).contains(delay) {
                    return Err(format!(
                        "oneWayMs[{from}][{to}] is {delay}, it must be 0 to {DELAY_MS_MAX} ms"
                    ));
                }
                if from == to && *delay != 0.0 {
                    return Err(format!(
                        "oneWayMs[{from}][{to}] is {delay}, it must be 0: a node does not send to itself"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_help_is_a_sound_symmetric_table() {
        for name in NAMES.split(", ") {
            let wan = Wan::find(name).unwrap();
            wan.check().unwrap();
            assert!(HELP.contains(&format!("  {name} ")) && name.starts_with(&wan.count().to_string()));
            for (from, row) in wan.one_way_ms.iter().enumerate() {
                for (to, delay) in row.iter().enumerate() {
                    assert!((delay - wan.one_way_ms[to][from]).abs() < 1e-9, "{name}: {from} {to}");
                }
            }
        }
    }

    #[test]
    fn a_table_of_ones_own_may_be_toml_or_json_and_asymmetric() {
        let toml = Wan::parse("regions = [\"a\", \"b\"]\noneWayMs = [[0, 40], [20.5, 0]]", "x.toml").unwrap();
        let json = r#"{"name":"x.toml","regions":["a","b"],"oneWayMs":[[0,40],[20.5,0]]}"#;
        assert_eq!(toml, Wan::parse(json, "y.json").unwrap());
        assert_eq!((toml.name.as_str(), toml.one_way_ms[1][0]), ("x.toml", 20.5));
    }

    #[test]
    fn a_wrong_table_is_refused_with_field_value_and_limit() {
        let why = |json: &str| Wan::parse(json, "t.json").unwrap_err();
        assert!(why(r#"{"regions":[],"oneWayMs":[]}"#).contains("regions has 0 entries, it must have 1 to 32"));
        assert!(why(r#"{"regions":["a","b"],"oneWayMs":[[0,1]]}"#).contains("oneWayMs has 1 rows"));
        assert!(why(r#"{"regions":["a","b"],"oneWayMs":[[0,1],[1]]}"#).contains("oneWayMs[1] has 1 delays"));
        assert!(why(r#"{"regions":["a","b"],"oneWayMs":[[0,-1],[1,0]]}"#).contains("oneWayMs[0][1] is -1"));
        assert!(why(r#"{"regions":["a"],"oneWayMs":[[3]]}"#).contains("oneWayMs[0][0] is 3, it must be 0"));
        assert!(why(r#"{"regions":["a"],"oneWayMs":[[0]],"delays":1}"#).contains("delays"));
        assert!(Wan::find("5-mars").unwrap_err().contains(NAMES));
    }
}
