//! The roles' durable form: one document, replaced as a whole. There are few of them and they change rarely.

use crate::{Storage, StorageError};

/// Beside the format version, in the default column family.
const ROLES_KEY: &[u8] = b"roles";

impl Storage {
    /// The document last given to [`Storage::put_roles`]; None in a new data directory.
    pub fn roles(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.db.get(ROLES_KEY)?)
    }

    /// Replaces the document. Durable on return.
    pub fn put_roles(&self, document: &[u8]) -> Result<(), StorageError> {
        let mut batch = rocksdb::WriteBatch::default();
        batch.put(ROLES_KEY, document);
        self.write_synced(batch)
    }
}
