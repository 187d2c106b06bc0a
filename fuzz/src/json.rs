//! Decoders of JSON: what nodes answer, what clients keep, and the genesis.

use std::fmt::Debug;

use fusion_client::json::{
    BlockJson, CommitteeJson, CursorJson, ErrorData, EvidenceJson, GenesisJson, HeadJson, HeadsParams, JsonError,
    LaneHashesJson, PeersJson, ReceiptJson, ReceiptStatusJson, ReceiptsParams, RollupBlockJson, SendSyncParams,
    StatusJson, StreamJson, Timeout, from_str,
};
use fusion_client::{Trust, verify_receipt};
use fusion_types::{Committee, DecidedBlock, Genesis, Receipt, RollupBlock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fixture::fixture;

/// Reads a document; what is read survives being written.
fn document<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = from_str(text).ok()?;
    let again = serde_json::to_string(&value).expect("what was read can be written");
    let back: T = from_str(&again).expect("what was written can be read");
    assert_eq!(back, value, "{again}");
    Some(value)
}

/// A mirror: what it mirrors and it say the same.
fn mirror<J, T>(text: &str) -> Option<T>
where
    J: DeserializeOwned + Serialize + PartialEq + Debug + for<'a> From<&'a T>,
    T: for<'a> TryFrom<&'a J, Error = JsonError>,
{
    let json: J = document(text)?;
    // But for white space and the order of keys, one text for each.
    let given: Value = serde_json::from_str(text).expect("it was read");
    assert_eq!(
        serde_json::to_value(&json).ok(),
        Some(given),
        "a second text of one document"
    );
    let value = T::try_from(&json).ok()?;
    assert_eq!(J::from(&value), json, "a second document of one value");
    Some(value)
}

/// `receipt.json`, and the verifier that a user calls on it.
pub fn json_receipt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let receipt = mirror::<ReceiptJson, Receipt>(text);
    let genesis = &fixture().genesis;
    let verdict = verify_receipt(text, &Trust::of(genesis));
    assert_eq!(verdict.receipt.is_some(), verdict.failure.is_none());
    if let Some(receipt) = receipt {
        let verified = receipt.verify(genesis.network(), genesis.committee());
        assert_eq!(verdict.receipt.as_ref(), verified.ok().map(|()| &receipt));
    }
}

/// Blocks and lanes as nodes answer them.
pub fn json_block(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let genesis = &fixture().genesis;
    if let Some(decided) = mirror::<BlockJson, DecidedBlock>(text) {
        let _ = decided.certificate.verify(genesis.network(), genesis.committee());
    }
    mirror::<RollupBlockJson, RollupBlock>(text);
    if let Some(stream) = document::<StreamJson>(text) {
        let _ = stream.next.decode();
        let blocks: Result<Vec<_>, _> = stream.blocks.iter().map(RollupBlock::try_from).collect();
        let _ = blocks;
    }
}

/// Committees and the genesis.
pub fn json_genesis(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    mirror::<CommitteeJson, Committee>(text);
    let trust = Trust::from_genesis_json(text);
    let Some(json) = document::<GenesisJson>(text) else {
        assert!(trust.is_err());
        return;
    };
    match Genesis::try_from(&json) {
        Ok(genesis) => {
            assert_eq!(trust.map(|trust| trust.network).ok(), Some(genesis.network()));
            crate::codec::genesis(&fusion_types::encode(&genesis));
        }
        Err(_) => assert!(trust.is_err()),
    }
}

/// Everything else that a node answers or takes.
pub fn json_answers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    document::<StatusJson>(text);
    document::<PeersJson>(text);
    document::<EvidenceJson>(text);
    document::<ReceiptStatusJson>(text);
    document::<HeadJson>(text);
    document::<LaneHashesJson>(text);
    document::<HeadsParams>(text);
    document::<ReceiptsParams>(text);
    document::<SendSyncParams>(text);
    document::<Timeout>(text);
    // Holds any JSON, numbers included that come back in another form.
    let _ = from_str::<ErrorData>(text);
    if let Some(cursor) = document::<CursorJson>(text) {
        let _ = cursor.decode();
    }
}
