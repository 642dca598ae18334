//! What can go wrong with a data directory, and what the user reads then.

use std::path::Path;

use repr::{PgError, SqlState};

/// A failure of the data directory. None is the fault of a statement.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process has the directory open.
    #[error("data directory \"{path}\" is in use by another server")]
    InUse {
        /// The directory.
        path: String,
    },
    /// The directory cannot be made or opened.
    #[error("could not open data directory \"{path}\": {reason}")]
    Directory {
        /// The directory.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// A newer version of Tidewater wrote it.
    #[error("data directory has format version {found}, this server knows {known}")]
    UnknownFormat {
        /// The version in the directory.
        found: u32,
        /// [`crate::FORMAT_VERSION`].
        known: u32,
    },
    /// Bytes that we wrote do not read back.
    #[error("{what} cannot be read: {reason}")]
    Corrupt {
        /// Which record.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// RocksDB refused: the disk is full or broken.
    #[error("could not write to the data directory: {0}")]
    RocksDb(#[from] rocksdb::Error),
}

impl StorageError {
    pub(crate) fn from_open(directory: &Path, error: rocksdb::Error) -> StorageError {
        let path = directory.display().to_string();
        let reason = error.into_string();
        // RocksDB has no error kind for a held LOCK file; its text names the file.
        if reason.contains("LOCK") && (reason.contains("lock") || reason.contains("unavailable")) {
            StorageError::InUse { path }
        } else {
            StorageError::Directory { path, reason }
        }
    }
}

impl From<StorageError> for PgError {
    fn from(error: StorageError) -> PgError {
        let state = match &error {
            StorageError::InUse { .. } => SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            StorageError::Directory { .. } => SqlState::IO_ERROR,
            StorageError::UnknownFormat { .. } => SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            StorageError::Corrupt { .. } => SqlState::DATA_CORRUPTED,
            StorageError::RocksDb(reason) if reason.as_ref().contains("No space left") => SqlState::DISK_FULL,
            StorageError::RocksDb(_) => SqlState::IO_ERROR,
        };
        PgError::new(state, error.to_string())
    }
}
