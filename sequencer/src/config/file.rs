//! From TOML text and `--set` to a [`Config`], and every complaint about them in one line with place and key.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::B256;
use toml::Value;
use toml::de::DeTable;

use super::fields::{FIELDS, Field, PEERS_MAX, Slot};
use super::{Config, LogFormat, PeerAddress, Role};

/// Longest text value, in bytes: longer is a mistake.
const TEXT_BYTES_MAX: usize = 4096;

/// Most entries of a list of texts.
const LIST_MAX: usize = 64;

/// Sets what `text` says; returns what is wrong with it, one line each.
pub(super) fn apply(config: &mut Config, text: &str, source: &str) -> Vec<String> {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            return vec![format!("{source}:{line}: {}", error.message().replace('\n', "; "))];
        }
    };
    let lines = key_lines(text);
    let place = |key: &str| {
        lines
            .get(key)
            .map_or_else(|| source.to_owned(), |line| format!("{source}:{line}"))
    };
    let mut problems = Vec::new();
    for (section, value) in &table {
        let known = FIELDS.iter().any(|field| section_of(field.key) == section);
        match value {
            Value::Table(keys) if known => {
                for (key, value) in keys {
                    let key = format!("{section}.{key}");
                    if let Err(problem) = set(config, &key, value) {
                        problems.push(format!("{}: {problem}", place(&key)));
                    }
                }
            }
            Value::Table(_) => problems.push(format!("{}: {}", place(section), unknown_section(section))),
            _ if known => problems.push(format!(
                "{}: {section}: is {}, must be a section",
                place(section),
                kind(value)
            )),
            _ => problems.push(format!("{}: {}", place(section), unknown(section))),
        }
    }
    problems
}

/// Sets each `section.key=value`; a value that is no TOML is taken as text.
pub(super) fn apply_overrides(config: &mut Config, overrides: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for text in overrides {
        let Some((key, value)) = text.split_once('=') else {
            problems.push(format!("--set {text}: must be section.key=value"));
            continue;
        };
        let value = format!("value = {value}")
            .parse::<toml::Table>()
            .ok()
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        if let Err(problem) = set(config, key.trim(), &value) {
            problems.push(format!("--set: {problem}"));
        }
    }
    problems
}

fn set(config: &mut Config, key: &str, value: &Value) -> Result<(), String> {
    let Some(field) = FIELDS.iter().find(|field| field.key == key) else {
        return Err(unknown(key));
    };
    (field.slot)(config)
        .set(value)
        .map_err(|problem| format!("{key}: {problem}"))
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

fn unknown(key: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    // A key in the wrong section is as common as a misspelt one, so both the whole and the last part count.
    let closeness = |field: &Field| {
        let whole = strsim::jaro_winkler(key, field.key);
        let part = strsim::normalized_damerau_levenshtein(&last(key), &last(field.key));
        whole.max(part)
    };
    let best = FIELDS.iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)));
    match best.filter(|field| closeness(field) >= 0.6) {
        Some(field) => format!("{key}: unknown key; did you mean {}?", field.key),
        None => format!("{key}: unknown key; `fusion config default` lists all"),
    }
}

fn unknown_section(section: &str) -> String {
    let closeness = |field: &Field| strsim::normalized_damerau_levenshtein(section, section_of(field.key));
    let best = FIELDS.iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)));
    match best.filter(|field| closeness(field) >= 0.4) {
        Some(field) => format!(
            "[{section}]: unknown section; did you mean [{}]?",
            section_of(field.key)
        ),
        None => format!("[{section}]: unknown section; `fusion config default` lists all"),
    }
}

/// Line of every section and `section.key` in `text`, from 1.
fn key_lines(text: &str) -> HashMap<String, usize> {
    let mut lines = HashMap::new();
    let Ok(table) = DeTable::parse(text) else {
        return lines;
    };
    for (section, value) in table.get_ref() {
        lines.insert(section.get_ref().to_string(), line_of(text, section.span().start));
        if let Some(keys) = value.get_ref().as_table() {
            for key in keys.keys() {
                let name = format!("{}.{}", section.get_ref(), key.get_ref());
                lines.insert(name, line_of(text, key.span().start));
            }
        }
    }
    lines
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

impl Slot<'_> {
    /// Takes `value`, or says what is wrong with it.
    fn set(self, value: &Value) -> Result<(), String> {
        match self {
            Self::Name(slot) => *slot = name(text(value)?)?,
            Self::Text(slot) => text(value)?.clone_into(slot),
            Self::Path(slot) => *slot = PathBuf::from(text(value)?),
            Self::OptionalPath(slot) => *slot = Some(text(value)?).filter(|text| !text.is_empty()).map(PathBuf::from),
            Self::Address(slot) => *slot = socket(text(value)?)?,
            Self::OptionalAddress(slot) => {
                let text = text(value)?;
                *slot = if text.is_empty() { None } else { Some(socket(text)?) };
            }
            Self::List(slot) => *slot = texts(value)?,
            Self::Millis(slot, min, max) => *slot = Duration::from_millis(number(value, min, max, "ms")?),
            Self::Number(slot, min, max, unit) => {
                let number = number(value, min as u64, max as u64, unit)?;
                *slot =
                    usize::try_from(number).map_err(|_| format!("is {number}, more than this machine can address"))?;
            }
            Self::Role(slot) => {
                *slot = match text(value)? {
                    "auto" => Role::Auto,
                    "validator" => Role::Validator,
                    "follower" => Role::Follower,
                    other => {
                        return Err(format!(
                            "is \"{other}\", must be \"auto\", \"validator\" or \"follower\""
                        ));
                    }
                };
            }
            Self::LogFormat(slot) => {
                *slot = match text(value)? {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    other => return Err(format!("is \"{other}\", must be \"text\" or \"json\"")),
                };
            }
            Self::Peers(slot) => *slot = peers(value)?,
        }
        Ok(())
    }

    /// Its value as TOML.
    pub(super) fn value(&self) -> String {
        let quoted = |text: &str| Value::String(text.to_owned()).to_string();
        match self {
            Self::Name(slot) | Self::Text(slot) => quoted(slot),
            Self::Path(slot) => quoted(&slot.to_string_lossy()),
            Self::OptionalPath(slot) => quoted(&slot.as_deref().unwrap_or_else(|| "".as_ref()).to_string_lossy()),
            Self::Address(slot) => quoted(&slot.to_string()),
            Self::OptionalAddress(slot) => quoted(&slot.map_or_else(String::new, |address| address.to_string())),
            Self::List(slot) => {
                let texts = slot.iter().map(|text| quoted(text));
                format!("[{}]", texts.collect::<Vec<_>>().join(", "))
            }
            Self::Millis(slot, ..) => slot.as_millis().to_string(),
            Self::Number(slot, ..) => slot.to_string(),
            Self::Role(Role::Auto) => quoted("auto"),
            Self::Role(Role::Validator) => quoted("validator"),
            Self::Role(Role::Follower) => quoted("follower"),
            Self::LogFormat(LogFormat::Text) => quoted("text"),
            Self::LogFormat(LogFormat::Json) => quoted("json"),
            Self::Peers(slot) => {
                let peers = slot
                    .iter()
                    .map(|peer| format!("{{ id = \"{}\", address = {} }}", peer.id, quoted(&peer.address)));
                format!("[{}]", peers.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Its limits with their unit, where it has some.
    pub(super) fn limits(&self) -> Option<String> {
        match self {
            Self::Millis(_, min, max) => Some(format!("{min} to {max} ms")),
            Self::Number(_, min, max, unit) => Some(format!("{min} to {max} {unit}")),
            _ => None,
        }
    }
}

fn text(value: &Value) -> Result<&str, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("is {}, must be text in quotes", kind(value)))?;
    if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        return Err(format!(
            "has {} bytes, limit is {TEXT_BYTES_MAX} without NUL",
            text.len()
        ));
    }
    Ok(text)
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("is {}, must be a list of texts", kind(value)))?;
    if list.len() > LIST_MAX {
        return Err(format!("has {} entries, limit is {LIST_MAX}", list.len()));
    }
    let entry = |(index, entry)| {
        text(entry)
            .map(str::to_owned)
            .map_err(|problem| format!("[{index}] {problem}"))
    };
    list.iter().enumerate().map(entry).collect()
}

/// A whole number within limits. `26656.0` counts: Helm's `toToml` turns every number into a fraction.
fn number(value: &Value, min: u64, max: u64, unit: &str) -> Result<u64, String> {
    let wrong = |value: &dyn std::fmt::Display| format!("is {value}, must be {min} to {max} {unit}");
    let number = match value {
        Value::Integer(number) => u64::try_from(*number).map_err(|_| wrong(number))?,
        Value::Float(number) => whole(*number).ok_or_else(|| wrong(number))?,
        other => return Err(format!("is {}, must be {min} to {max} {unit}", kind(other))),
    };
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(wrong(&number))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked: not negative, without fraction, below 2^53"
)]
fn whole(number: f64) -> Option<u64> {
    let exact = number >= 0.0 && number.fract() == 0.0 && number < 9_007_199_254_740_992.0;
    exact.then_some(number as u64)
}

fn name(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if text.is_empty() || text.len() > 64 || !printable {
        return Err(format!(
            "is \"{text}\", must be 1 to 64 of letters, digits, '-', '_' and '.'"
        ));
    }
    Ok(text.to_owned())
}

fn socket(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("is \"{text}\", must be ip:port, such as 0.0.0.0:7100 or [::]:7100"))
}

/// Checks `host:port`: a name or an IP address (IPv6 in brackets), and a port that is not 0.
///
/// # Errors
/// What is wrong with it, without the key.
pub fn host_port(text: &str) -> Result<String, String> {
    let wrong = || format!("is \"{text}\", must be host:port, such as node1.example.org:7100");
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return if address.port() == 0 {
            Err(wrong())
        } else {
            Ok(text.to_owned())
        };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let labels = host.split('.').all(|label| {
        let letters = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        !label.is_empty() && label.len() <= 63 && letters
    });
    if port == 0 || host.len() > 253 || !labels {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

fn peers(value: &Value) -> Result<Vec<PeerAddress>, String> {
    let shape = "must be a list of { id = \"0x…\", address = \"host:port\" }";
    let list = value.as_array().ok_or_else(|| format!("is {}, {shape}", kind(value)))?;
    if list.len() > PEERS_MAX {
        return Err(format!("has {} peers, limit is {PEERS_MAX}", list.len()));
    }
    let mut peers: Vec<PeerAddress> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let table = entry
            .as_table()
            .ok_or_else(|| format!("[{index}] is {}, {shape}", kind(entry)))?;
        if let Some(key) = table.keys().find(|key| *key != "id" && *key != "address") {
            return Err(format!("[{index}].{key}: unknown key; a peer has id and address"));
        }
        let part = |key: &str| {
            let value = table.get(key).ok_or_else(|| format!("[{index}].{key} is missing"))?;
            text(value).map_err(|problem| format!("[{index}].{key} {problem}"))
        };
        let id: B256 = part("id")?.parse().map_err(|_| {
            format!(
                "[{index}].id is \"{}\", must be 0x and 64 hex digits",
                part("id").unwrap_or_default()
            )
        })?;
        let address = host_port(part("address")?).map_err(|problem| format!("[{index}].address {problem}"))?;
        if peers.iter().any(|peer| peer.id == id) {
            return Err(format!("[{index}].id {id} is repeated"));
        }
        peers.push(PeerAddress { id, address });
    }
    Ok(peers)
}
