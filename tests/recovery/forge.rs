//! What a test stores as the host, an operator or a stranger would: opened, changed, sealed and signed again.

use std::fs;
use std::path::Path;

use sealift::crypto::{DataIdentity, Digest, IdentityFile, Recipient, Sealed, Unprompted, seal, sha256};
use serde_json::{Value, json};

use crate::support::world::World;

/// The data identity of an epoch, as the operator opens it.
pub fn data_identity(world: &World, epoch: u32) -> DataIdentity {
    let operator = IdentityFile::parse(&fs::read(world.identity()).unwrap(), "operator", &Unprompted).unwrap();
    let wrapped = fs::read(world.path(&format!("repository/keys/{epoch}/1.age"))).unwrap();
    DataIdentity::unwrap(&wrapped, operator.keys()).unwrap()
}

/// The plain bytes of a pack or a manifest.
pub fn opened(identity: &DataIdentity, object: &Path) -> Vec<u8> {
    zstd::decode_all(&identity.open(&fs::read(object).unwrap()).unwrap()[..]).unwrap()
}

pub fn sealed(identity: &DataIdentity, plain: &[u8]) -> Sealed {
    let recipient = Recipient::parse(&identity.recipient().to_string()).unwrap();
    seal(&zstd::encode_all(plain, 1).unwrap(), &[recipient]).unwrap()
}

/// Stores what is sealed under its own name in a folder of the repository.
pub fn put(world: &World, folder: &str, sealed: &Sealed) -> Digest {
    fs::write(world.path(&format!("repository/{folder}/{}.age", sealed.digest())), sealed.bytes()).unwrap();
    sealed.digest()
}

/// The manifest of a snapshot: its JSON, and its binary tail.
pub fn manifest(world: &World, sequence: u64) -> (Value, Vec<u8>) {
    let epoch = world.record_json(sequence)["manifest"]["epoch"].as_u64().unwrap();
    let plain = opened(&data_identity(world, u32::try_from(epoch).unwrap()), &world.manifest(sequence));
    let end = plain.iter().position(|byte| *byte == b'\n').unwrap();
    (serde_json::from_slice(&plain[..end]).unwrap(), plain[end..].to_vec())
}

/// The snapshot after `parent`, signed by the host: like it, but with this manifest and whatever `change` does.
pub fn commit(world: &World, parent: u64, (head, tail): (&Value, &[u8]), change: impl FnOnce(&mut Value)) -> u64 {
    let mut record = next_record(world, parent);
    let epoch = u32::try_from(record["manifest"]["epoch"].as_u64().unwrap()).unwrap();
    let sealed = sealed(&data_identity(world, epoch), &[head.to_string().as_bytes(), tail].concat());
    record["manifest"] = json!({ "name": put(world, "manifests", &sealed), "bytes": sealed.len(), "epoch": epoch });
    change(&mut record);
    world.write_record(parent + 1, &record, &world.signer());
    parent + 1
}

/// What the record after `parent` would be, had nothing changed.
pub fn next_record(world: &World, parent: u64) -> Value {
    let mut record = world.record_json(parent);
    record["sequence"] = json!(parent + 1);
    record["previous"] = json!(sha256(&fs::read(world.record(parent)).unwrap()));
    record["earlier"] = json!([[1, parent]]);
    record
}
