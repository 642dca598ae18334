//! Starting and stopping, and the state all sessions share.
//!
//! ```text
//! Engine --> Shared: storage, runtime, catalog, dataflows, source readers, sessions
//!                ^
//! Session -------'      any number; each statement takes what it needs for as long as it needs it
//! ```
//!
//! Two locks order changes. `definitions` is held while an object is made or dropped; `writing` while a table write is
//! checked, logged and stamped. Readers take neither: they clone the `Arc<Catalog>` and peek.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use catalog::role::Role;
use catalog::system::OWNER_OID;
use catalog::{Catalog, FIRST_USER_ID};
use dataflow::{Runtime, RuntimeConfig};
use parking_lot::{Mutex, RwLock};
use repr::{ObjectId, PgError, SqlState};
use storage::Storage;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::dataflows::Dataflows;
use crate::errors::DecodeErrors;
use crate::event_time::TableTimes;
use crate::key_filter::KeyFilters;
use crate::metrics::Metric;
use crate::notify::{Channels, Mailbox};
use crate::read::Evaluator;
use crate::restore::restore;
use crate::roles::{Login, Rights, RoleChange, Roles, check_connection_limit, check_login};
use crate::rules::RuleCache;
use crate::scram::Verifier;
use crate::sequences::Sequences;
use crate::session::{Session, SessionOptions};
use crate::source::Readers;
use crate::statement::blocking;

/// How often the open time is offered to be closed: what a row from a source waits for at most while nothing is busy.
const TICK: Duration = Duration::from_millis(5);

/// What `max_connections` shows where the server has not said anything else.
const CONNECTIONS_MAX: usize = 500;

/// What an engine is started with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where everything durable is. Made if it is not there.
    pub data_dir: PathBuf,
    /// Threads that maintain views, at least one.
    pub workers: usize,
    /// What one-shot queries may hold in memory, all together; None is no bound. Arrangements are not counted.
    pub memory_limit_bytes: Option<u64>,
}

/// A running engine. Clones share it; the last one dropped stops it, which loses nothing that was acknowledged.
#[derive(Clone)]
pub struct Engine {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) storage: Storage,
    pub(crate) runtime: Runtime,
    pub(crate) evaluator: Evaluator,
    pub(crate) catalog: RwLock<Arc<Catalog>>,
    /// What runs. Changed only under `definitions`.
    pub(crate) dataflows: RwLock<Dataflows>,
    pub(crate) definitions: Mutex<()>,
    pub(crate) writing: Arc<tokio::sync::Mutex<()>>,
    /// How often each table was written, to see whether it changed since a transaction read it. Changed under `writing`.
    pub(crate) table_versions: Mutex<HashMap<ObjectId, u64>>,
    /// What keys the tables may have. Added to under `writing`.
    pub(crate) key_filters: KeyFilters,
    pub(crate) rules: RuleCache,
    pub(crate) sequences: Sequences,
    pub(crate) table_times: TableTimes,
    pub(crate) readers: Readers,
    pub(crate) decode_errors: Arc<DecodeErrors>,
    pub(crate) sessions: Mutex<HashMap<i32, Connected>>,
    pub(crate) channels: Channels,
    pub(crate) roles: Roles,
    /// What `max_connections` shows; the server keeps to it.
    pub(crate) connections_max: AtomicUsize,
    pub(crate) counters: Counters,
    /// When it began, microseconds since 1970.
    pub(crate) started_us: i64,
    next_id: AtomicU32,
    next_process_id: AtomicI32,
    ready: AtomicBool,
    stopping: Arc<AtomicBool>,
}

/// What others may know of a session.
pub(crate) struct Connected {
    pub(crate) secret_key: Vec<u8>,
    pub(crate) cancel: watch::Sender<u64>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) rights: Rights,
    pub(crate) user: String,
    pub(crate) application_name: String,
    pub(crate) state: &'static str,
    pub(crate) query: String,
    pub(crate) started_us: i64,
}

/// Counts since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) statements: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) rows_written: AtomicU64,
}

impl Engine {
    /// Opens the data directory, brings every object back and starts reading sources. Returns when sessions may connect;
    /// views may still be catching up.
    ///
    /// Errors: the data directory's, and those of a stored object that can no longer be made.
    pub async fn start(config: EngineConfig) -> Result<Engine, PgError> {
        let started = tokio::task::spawn_blocking(move || start(&config)).await;
        started.map_err(|error| PgError::internal(format!("the engine did not start: {error}")))?
    }

    /// A session of its own, with all rights, whoever it is of.
    pub fn session(&self, options: SessionOptions) -> Session {
        Session::new(Arc::clone(&self.owner.shared), options, Rights::Owner)
    }

    /// What `user` must know to begin a session by password. Says nothing about whether there is such a role.
    pub fn login(&self, user: &str) -> Login {
        self.owner.shared.roles.login(user)
    }

    /// A session of someone who has shown who they are, or is `trusted`: then under any name, that of no role having all
    /// rights.
    ///
    /// Errors: `28000` for a role that may not log in, `53300` for one that has as many sessions as it may.
    pub fn log_in(&self, options: SessionOptions, trusted: bool) -> Result<Session, PgError> {
        let shared = &self.owner.shared;
        let rights = check_login(shared, &options.user, trusted)?;
        let user = options.user.clone();
        let session = Session::new(Arc::clone(shared), options, rights);
        check_connection_limit(shared, &user)?;
        Ok(session)
    }

    /// Says how many sessions the server lets in at a time, for `max_connections` to show.
    pub fn set_connections_max(&self, connections_max: usize) {
        self.owner.shared.connections_max.store(connections_max, Ordering::Relaxed);
    }

    /// Whether anybody could show a password.
    pub fn has_passwords(&self) -> bool {
        self.owner.shared.roles.all().iter().any(|role| role.login && role.password.is_some())
    }

    /// Gives the first role a password if it has none.
    pub async fn set_first_password(&self, password: &str) -> Result<(), PgError> {
        let (shared, password) = (Arc::clone(&self.owner.shared), password.to_string());
        blocking(move || {
            let roles = shared.roles.all();
            let owner = roles.iter().find(|role| role.oid == OWNER_OID && role.password.is_none());
            let Some(owner) = owner else { return Ok(()) };
            let verifier = Verifier::parse(&password).unwrap_or_else(|| Verifier::new(&password));
            let owner = Role { password: Some(verifier.to_string()), ..owner.clone() };
            shared.roles.apply(&shared.storage, &[RoleChange::Put(owner)])
        })
        .await
    }

    /// Whether sessions may connect: everything stored has been made again and the engine is not stopping.
    pub fn is_ready(&self) -> bool {
        let shared = &self.owner.shared;
        shared.ready.load(Ordering::Acquire) && !shared.is_stopping() && shared.runtime.failed().is_none()
    }

    /// Samples of everything that is counted.
    pub fn metrics(&self) -> Vec<Metric> {
        crate::metrics::collect(&self.owner.shared)
    }

    /// Cancels what the session with this id and key is doing; nothing if there is none.
    pub fn cancel(&self, process_id: i32, secret_key: &[u8]) {
        if let Some(session) = self.owner.shared.sessions.lock().get(&process_id)
            && bool::from(session.secret_key.ct_eq(secret_key))
        {
            session.cancel.send_modify(|count| *count += 1);
        }
    }

    /// Stops reading sources and the dataflows, and makes what was written durable. Sessions fail from then on.
    pub async fn shutdown(&self) {
        let owner = Arc::clone(&self.owner);
        if let Err(error) = tokio::task::spawn_blocking(move || owner.stop()).await {
            tracing::error!("stopping failed: {error}");
        }
    }
}

impl Owner {
    fn stop(&self) {
        let shared = &self.shared;
        if shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        for session in shared.sessions.lock().values() {
            session.cancel.send_modify(|count| *count += 1);
        }
        if let Some(ticker) = self.ticker.lock().take() {
            // The thread ends within a tick; one that panicked has nothing left to end.
            let _ = ticker.join();
        }
        shared.readers.stop_all();
        if let Err(error) = shared.sequences.settle(&shared.storage) {
            tracing::error!("sequences may leave numbers out: {error}");
        }
        if let Err(error) = shared.storage.sync(shared.storage.appended()) {
            tracing::error!("the last writes may not be on disk: {error}");
        }
        shared.runtime.shutdown();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(config: &EngineConfig) -> Result<Engine, PgError> {
    let storage = Storage::open(&config.data_dir)?;
    let roles = Roles::load(&storage)?;
    let runtime = Runtime::start(RuntimeConfig { workers: config.workers.max(1) })?;
    let mut catalog = Catalog::default();
    for object in catalog::system::objects() {
        catalog.insert(object)?;
    }
    let decode_errors = Arc::new(DecodeErrors::default());
    let stopping = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(Shared {
        readers: Readers::new(runtime.clone(), Arc::clone(&decode_errors)),
        storage,
        runtime: runtime.clone(),
        evaluator: Evaluator::new(config.memory_limit_bytes)?,
        catalog: RwLock::new(Arc::new(catalog)),
        dataflows: RwLock::default(),
        definitions: Mutex::default(),
        writing: Arc::default(),
        table_versions: Mutex::default(),
        key_filters: KeyFilters::default(),
        rules: RuleCache::default(),
        sequences: Sequences::default(),
        table_times: TableTimes::default(),
        decode_errors,
        sessions: Mutex::default(),
        channels: Channels::default(),
        roles,
        connections_max: AtomicUsize::new(CONNECTIONS_MAX),
        counters: Counters::default(),
        started_us: crate::session::now_us(),
        next_id: AtomicU32::new(FIRST_USER_ID),
        next_process_id: AtomicI32::new(1),
        ready: AtomicBool::new(false),
        stopping: Arc::clone(&stopping),
    });
    let ticker = std::thread::Builder::new()
        .name("ticker".to_string())
        .spawn(move || {
            while !stopping.load(Ordering::Acquire) {
                std::thread::sleep(TICK);
                runtime.tick_if_due();
            }
        })
        .map_err(|error| PgError::internal(format!("no thread for the ticker: {error}")))?;
    let owner = Owner { shared: Arc::clone(&shared), ticker: Mutex::new(Some(ticker)) };
    if let Some(last) = shared.roles.all().iter().map(|role| role.oid).max() {
        shared.reserve_ids(ObjectId(last));
    }
    restore(&shared)?;
    shared.ready.store(true, Ordering::Release);
    Ok(Engine { owner: Arc::new(owner) })
}

impl Shared {
    /// The catalog as it is now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    /// An id nothing has or had.
    pub(crate) fn allocate_id(&self) -> ObjectId {
        ObjectId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes sure that ids up to this one are not given out.
    pub(crate) fn reserve_ids(&self, last: ObjectId) {
        self.next_id.fetch_max(last.0 + 1, Ordering::Relaxed);
    }

    pub(crate) fn allocate_process_id(&self) -> i32 {
        self.next_process_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Errors: `57P01` once the engine stops.
    pub(crate) fn check_running(&self) -> Result<(), PgError> {
        if self.is_stopping() {
            return Err(PgError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"));
        }
        Ok(())
    }

    /// Waits until everything appended so far is on disk.
    pub(crate) async fn sync_appended(self: &Arc<Self>) -> Result<(), PgError> {
        let position = self.storage.appended();
        if self.storage.is_synced(position) {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let synced = tokio::task::spawn_blocking(move || shared.storage.sync(position)).await;
        Ok(synced.map_err(|error| PgError::internal(format!("syncing the log failed: {error}")))??)
    }

    pub(crate) fn table_version(&self, table: ObjectId) -> u64 {
        self.table_versions.lock().get(&table).copied().unwrap_or(0)
    }
}
