//! The catalog's durable form: each object as the SQL text that makes it, with what the text does not say.

use std::collections::BTreeMap;

use repr::ObjectId;
use rocksdb::{IteratorMode, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};

use crate::{CATALOG, LOG, LogPosition, SCHEMA, SEQUENCE, Storage, StorageError, TableWrite};

/// One object as it is stored. No plan and no schema: a restart binds `sql` again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// The object's id.
    pub id: u32,
    /// What users know it by.
    pub oid: u32,
    /// What kind of object it is, for people and for the order of a restart.
    pub kind: String,
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The statement that makes it.
    pub sql: String,
    /// The numbers of a table's columns, where they are not 1, 2, 3 and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub column_numbers: Vec<i16>,
    /// What the names in a view's query mean, as the engine writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<serde_json::Value>,
    /// COMMENT ON it under 0, on its columns under their numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub comments: BTreeMap<i16, String>,
}

/// Where a sequence stands, as it is stored: numbers up to `last_value` are not given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSequence {
    /// The number given out last, or a later one.
    pub last_value: i64,
    /// Whether `last_value` counts as given out.
    pub is_called: bool,
}

/// What a transaction makes of the catalog.
#[derive(Clone, Debug, Default)]
pub struct CatalogChange {
    /// Stored anew, replacing those of the same id.
    pub put: Vec<StoredObject>,
    /// Forgotten, with the rows of those that are tables.
    pub removed: Vec<ObjectId>,
    /// Sequences that are gone, by OID.
    pub removed_sequences: Vec<u32>,
}

impl CatalogChange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty() && self.removed_sequences.is_empty()
    }
}

impl Storage {
    /// Every object, in the order of ids: an object comes after those it was made from.
    pub fn objects(&self) -> Result<Vec<StoredObject>, StorageError> {
        self.db
            .iterator_cf(self.family(CATALOG), IteratorMode::Start)
            .map(|entry| {
                let (_, value) = entry?;
                serde_json::from_slice(&value).map_err(|error| StorageError::Corrupt {
                    what: "catalog object".to_string(),
                    reason: error.to_string(),
                })
            })
            .collect()
    }

    /// One transaction's changes of the catalog and of tables: all of them or none. Durable on return where the catalog
    /// changes, else after [`Storage::sync`].
    ///
    /// Errors: RocksDB's, when nothing was written.
    pub fn commit(&self, change: &CatalogChange, writes: &[TableWrite<'_>]) -> Result<LogPosition, StorageError> {
        let mut batch = WriteBatch::default();
        for object in &change.put {
            let value = serde_json::to_vec(object).expect("strings and numbers serialise");
            batch.put_cf(self.family(CATALOG), object.id.to_be_bytes(), value);
        }
        for id in &change.removed {
            let key = id.0.to_be_bytes();
            batch.delete_cf(self.family(CATALOG), key);
            batch.delete_cf(self.family(SCHEMA), key);
            batch.delete_range_cf(self.family(LOG), key, (id.0 + 1).to_be_bytes());
        }
        for oid in &change.removed_sequences {
            batch.delete_cf(self.family(SEQUENCE), oid.to_be_bytes());
        }
        let position = self.write(batch, writes)?;
        self.log.forget(&change.removed);
        if !change.is_empty() {
            self.sync(position)?;
        }
        Ok(position)
    }

    /// Where a sequence stands; None if it never moved.
    pub fn sequence(&self, oid: u32) -> Result<Option<StoredSequence>, StorageError> {
        let value = self.db.get_cf(self.family(SEQUENCE), oid.to_be_bytes())?;
        let parse = |value: Vec<u8>| {
            serde_json::from_slice(&value)
                .map_err(|error| StorageError::Corrupt { what: format!("sequence {oid}"), reason: error.to_string() })
        };
        value.map(parse).transpose()
    }

    /// Stores where a sequence stands. Durable on return.
    pub fn put_sequence(&self, oid: u32, sequence: StoredSequence) -> Result<(), StorageError> {
        let value = serde_json::to_vec(&sequence).expect("numbers serialise");
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(SEQUENCE), oid.to_be_bytes(), value);
        self.write_synced(batch)
    }

    pub(crate) fn write_synced(&self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.db.write_opt(batch, &options)?)
    }
}
