//! What survives a crash: the catalog's objects, the roles and every acknowledged table write, in one RocksDB.
//!
//! ```text
//! column family   key                              value
//! default         "format"                         format version, u32 little endian
//! default         "roles"                          every role, as JSON
//! catalog         object id, u32 big endian        StoredObject as JSON
//! sequence        OID, u32 big endian              StoredSequence as JSON
//! schema          table id, u32 big endian         Arrow IPC schema message of the table's columns and diff
//! log             table id u32, position u64,      Arrow IPC record batch message (columns.., diff) without its schema
//!                 both big endian
//! ```
//!
//! A write is one `WriteBatch` over all its tables, so it is whole or absent. It goes to RocksDB's write-ahead log at once and
//! is durable after [`Storage::sync`]; callers that wait at the same time share one fsync (group commit). A restart reads each
//! table's log back, consolidates it, and writes it anew where most of it has cancelled.
//!
//! The engine above decides what is written and when it is acknowledged; nothing here knows SQL or timestamps.

mod error;
mod log;
mod objects;
mod roles;

use std::path::Path;

use rocksdb::{ColumnFamilyDescriptor, DB, DBCompressionType, Options};

pub use error::StorageError;
pub use log::{LogPosition, TableRows, TableWrite};
pub use objects::{CatalogChange, StoredObject, StoredSequence};

/// The layout above. Any other is refused. Version 1 had no OIDs, and no sequences, schemas or constraints of their own.
pub const FORMAT_VERSION: u32 = 2;

const CATALOG: &str = "catalog";
const SCHEMA: &str = "schema";
const LOG: &str = "log";
const SEQUENCE: &str = "sequence";
const FORMAT_KEY: &[u8] = b"format";

/// An open data directory. One process at a time; share it by `Arc`.
pub struct Storage {
    db: DB,
    log: log::Log,
}

impl Storage {
    /// Opens `directory`, making it if it is not there.
    ///
    /// Errors: [`StorageError::InUse`] if another server has it open, [`StorageError::UnknownFormat`] if a newer version wrote it.
    pub fn open(directory: &Path) -> Result<Storage, StorageError> {
        std::fs::create_dir_all(directory).map_err(|error| StorageError::Directory {
            path: directory.display().to_string(),
            reason: error.to_string(),
        })?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_keep_log_file_num(4);
        options.set_max_total_wal_size(256 << 20);
        let families = [CATALOG, SCHEMA, LOG, SEQUENCE].map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let db = DB::open_cf_descriptors(&options, directory, families)
            .map_err(|error| StorageError::from_open(directory, error))?;
        check_format(&db)?;
        let log = log::Log::open(&db)?;
        Ok(Storage { db, log })
    }

    fn family(&self, name: &str) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(name).expect("opened with every column family")
    }
}

fn check_format(db: &DB) -> Result<(), StorageError> {
    match db.get(FORMAT_KEY)? {
        None => Ok(db.put(FORMAT_KEY, FORMAT_VERSION.to_le_bytes())?),
        Some(bytes) if bytes == FORMAT_VERSION.to_le_bytes() => Ok(()),
        Some(bytes) => {
            let found = bytes.as_slice().try_into().map(u32::from_le_bytes).map_err(|_| StorageError::Corrupt {
                what: "format version".to_string(),
                reason: format!("{} bytes instead of 4", bytes.len()),
            })?;
            Err(StorageError::UnknownFormat { found, known: FORMAT_VERSION })
        }
    }
}
