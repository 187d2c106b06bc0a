//! Parameters of methods: decoded, and explained where that fails.
//!
//! Promises: whoever gives a wrong parameter is told of which method it is, which one, what was given and what is
//! expected: in the words of the table of methods (`openrpc.rs`), never in those of a decoder. Costs nothing while
//! parameters are right.

use jsonrpsee::Extensions;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::Deserialize;
use serde_json::Value;

use super::errors;
use super::methods::{Answer, path_rollup};
use super::openrpc::{self, Param};

/// Longest part of a parameter that an answer repeats, in characters.
const QUOTE_MAX: usize = 64;

/// Decodes parameters, by position or by name; none at all are an empty list.
pub(super) fn read<'a, T: Deserialize<'a>>(params: &'a Params<'_>) -> Option<T> {
    serde_json::from_str(text(params)).ok()
}

/// Like [`read`], with the answer for whoever gave something else.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    method: &str,
    params: &'a Params<'_>,
    extensions: &Extensions,
) -> Answer<T> {
    read(params).ok_or_else(|| wrong(method, params, extensions))
}

fn text<'a>(params: &'a Params<'_>) -> &'a str {
    params.as_str().filter(|text| *text != "null").unwrap_or("[]")
}

/// What is wrong with parameters that do not decode.
pub(super) fn wrong(method: &str, params: &Params<'_>, extensions: &Extensions) -> ErrorObjectOwned {
    let table = openrpc::find(method).map_or(&[][..], |method| method.params);
    // On a rollup's path the short form is the usual one: its error is the helpful one.
    let implied = path_rollup(extensions).is_some() && table.first().is_some_and(|first| first.name == "rollup");
    let table = if implied { &table[1..] } else { table };
    let given = serde_json::from_str(text(params)).unwrap_or(Value::Null);
    explain(method, table, &given)
}

/// The first thing that is wrong with `given`; what is expected in all if it is none of the usual mistakes.
pub(super) fn explain(what: &str, table: &[Param], given: &Value) -> ErrorObjectOwned {
    let mistake = match given {
        Value::Array(items) if items.len() > table.len() => None,
        Value::Array(items) => table
            .iter()
            .enumerate()
            .find_map(|(at, param)| misfit(what, param, items.get(at))),
        Value::Object(fields) => table
            .iter()
            .find_map(|param| misfit(what, param, fields.get(param.name)))
            .or_else(|| {
                let mut names = fields.keys();
                let unknown = names.find(|name| table.iter().all(|param| param.name != *name))?;
                let unknown = quote(&Value::from(unknown.as_str()));
                Some(format!("{what} has no parameter {unknown}, {}", all(table)))
            }),
        _ => None,
    };
    errors::invalid_params(mistake.unwrap_or_else(|| format!("{what}: {}", all(table))))
}

fn misfit(what: &str, param: &Param, given: Option<&Value>) -> Option<String> {
    let expected = param.kind.expected();
    match given {
        None | Some(Value::Null) if !param.required => None,
        None => Some(format!("{what}: {} is missing, expected {expected}", param.name)),
        Some(given) if param.kind.fits(given) => None,
        Some(given) => Some(message(what, param.name, given, expected)),
    }
}

/// One parameter is not what it has to be.
pub(super) fn mismatch(method: &str, name: &str, given: &Value, expected: &str) -> ErrorObjectOwned {
    errors::invalid_params(message(method, name, given, expected))
}

fn message(method: &str, name: &str, given: &Value, expected: &str) -> String {
    format!("{method}: {name} is {}, expected {expected}", quote(given))
}

fn all(table: &[Param]) -> String {
    let params = table.iter().map(|param| {
        let optional = if param.required { "" } else { ", optional" };
        format!("{} ({}{optional})", param.name, param.kind.expected())
    });
    format!("it takes {}", params.collect::<Vec<_>>().join(", "))
}

fn quote(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((at, _)) = text.char_indices().nth(QUOTE_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}
