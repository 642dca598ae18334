//! A transaction block: what it has done that is not yet done for others.
//!
//! Table writes wait in `changes` until COMMIT and are checked again then. A row that this block changes and someone else has
//! changed since is a serialization failure; in a serializable block, any row of a table that it read for an UPDATE, DELETE or
//! INSERT .. SELECT. Definitions make a catalog of the block's own,
//! in which its statements are bound; COMMIT makes the same of the catalog that everyone sees, ROLLBACK forgets it.
//!
//! Several statements in one query text are an implicit block. It is short, so it holds the write lock from its first
//! write on and cannot fail to serialize.

use std::collections::HashMap;
use std::sync::Arc;

use catalog::{Catalog, Object, Position};
use repr::{ObjectId, PgError, SqlState};
use tokio::sync::OwnedMutexGuard;

use crate::session::now_us;
use crate::settings::Settings;
use crate::write::Change;

/// An open block.
pub(crate) struct Transaction {
    /// Begun by the server around several statements; BEGIN makes it explicit.
    pub(crate) implicit: bool,
    /// After an error nothing runs until it ends.
    pub(crate) failed: bool,
    pub(crate) changes: Vec<Change>,
    /// The version of each table when the block first read it in order to write.
    pub(crate) versions: HashMap<ObjectId, u64>,
    /// The version of each table that FOR UPDATE or LOCK TABLE named, or whose definition the block changes.
    pub(crate) locked: HashMap<ObjectId, u64>,
    pub(crate) definitions: Vec<Definition>,
    /// The catalog as the block sees it, once it has defined something.
    pub(crate) catalog: Option<Arc<Catalog>>,
    /// Sequences that RESTART moves, and relations that go, when it commits.
    pub(crate) moves: Vec<(u32, Position)>,
    pub(crate) drop_at_commit: Vec<(String, String)>,
    /// What SET CONSTRAINTS said: of all of them under "", then by name.
    pub(crate) deferred: HashMap<String, bool>,
    pub(crate) savepoints: Vec<Savepoint>,
    /// When it began, microseconds since 1970: what `now()` is.
    pub(crate) started_us: i64,
    /// As they were at BEGIN, for ROLLBACK.
    pub(crate) settings: Settings,
    /// Settings to go back to at the end, whatever it is (SET LOCAL).
    pub(crate) local: Vec<(String, Option<String>)>,
    pub(crate) writing: Option<OwnedMutexGuard<()>>,
}

/// A change of the catalog.
#[derive(Clone)]
pub(crate) enum Definition {
    Created(Arc<Object>),
    /// Out of the catalog, but still running.
    Dropped(Arc<Object>),
    Altered {
        before: Arc<Object>,
        after: Arc<Object>,
    },
}

/// A point to roll back to.
pub(crate) struct Savepoint {
    pub(crate) name: String,
    changes: usize,
    definitions: usize,
    catalog: Option<Arc<Catalog>>,
    settings: Settings,
}

impl Transaction {
    pub(crate) fn new(implicit: bool, settings: Settings) -> Transaction {
        Transaction {
            implicit,
            failed: false,
            changes: Vec::new(),
            versions: HashMap::new(),
            locked: HashMap::new(),
            definitions: Vec::new(),
            catalog: None,
            moves: Vec::new(),
            drop_at_commit: Vec::new(),
            deferred: HashMap::new(),
            savepoints: Vec::new(),
            started_us: now_us(),
            settings,
            local: Vec::new(),
            writing: None,
        }
    }

    pub(crate) fn savepoint(&mut self, name: String, settings: &Settings) {
        let (changes, definitions) = (self.changes.len(), self.definitions.len());
        let (catalog, settings) = (self.catalog.clone(), settings.clone());
        self.savepoints.push(Savepoint { name, changes, definitions, catalog, settings });
    }

    /// Forgets a savepoint and those after it. Errors: `3B001`.
    pub(crate) fn release(&mut self, name: &str) -> Result<(), PgError> {
        let index = self.find(name)?;
        self.savepoints.truncate(index);
        Ok(())
    }

    /// Goes back to a savepoint, which stays; returns the definitions to be undone and the settings then.
    /// Errors: `3B001`.
    pub(crate) fn roll_back_to(&mut self, name: &str) -> Result<(Vec<Definition>, Settings), PgError> {
        let index = self.find(name)?;
        self.savepoints.truncate(index + 1);
        let savepoint = &self.savepoints[index];
        self.changes.truncate(savepoint.changes);
        let undone = self.definitions.split_off(savepoint.definitions);
        self.catalog.clone_from(&savepoint.catalog);
        self.failed = false;
        Ok((undone, savepoint.settings.clone()))
    }

    fn find(&self, name: &str) -> Result<usize, PgError> {
        self.savepoints
            .iter()
            .rposition(|savepoint| savepoint.name == name)
            .ok_or_else(|| PgError::new(SqlState("3B001"), format!("savepoint \"{name}\" does not exist")))
    }
}
