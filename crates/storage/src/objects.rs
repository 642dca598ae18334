//! The catalog's durable form: each object as the SQL text that made it.

use repr::ObjectId;
use rocksdb::{IteratorMode, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};

use crate::{CATALOG, LOG, SCHEMA, Storage, StorageError};

/// One object as it is stored. No plan and no schema: a restart binds `sql` again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// The object's id.
    pub id: u32,
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The statement that made it.
    pub sql: String,
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

    /// Stores objects, replacing those of the same id. Durable on return.
    pub fn put_objects(&self, objects: &[StoredObject]) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        for object in objects {
            let value = serde_json::to_vec(object).expect("strings and numbers serialise");
            batch.put_cf(self.family(CATALOG), object.id.to_be_bytes(), value);
        }
        self.write_synced(batch)
    }

    /// Forgets objects, and the rows of those that are tables. Durable on return.
    pub fn remove_objects(&self, ids: &[ObjectId]) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        for id in ids {
            let key = id.0.to_be_bytes();
            batch.delete_cf(self.family(CATALOG), key);
            batch.delete_cf(self.family(SCHEMA), key);
            batch.delete_range_cf(self.family(LOG), key, (id.0 + 1).to_be_bytes());
        }
        self.write_synced(batch)?;
        self.log.forget(ids);
        Ok(())
    }

    fn write_synced(&self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.db.write_opt(batch, &options)?)
    }
}
