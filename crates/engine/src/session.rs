//! One client's session: its settings, its transaction block, what it has prepared.
//!
//! A statement goes `parse` -> `prepare` (bound against the catalog as it is) -> `execute`. A prepared statement that the
//! catalog has outrun is bound again when it is executed. Everything a statement waits for can be cancelled, up to the moment
//! its writes are applied; a response's rows can be cancelled as long as they come.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::ArrayRef;
use catalog::system::Snapshot;
use catalog::system::registered::oid_of;
use catalog::{Catalog, SearchPath, SequenceAccess, TEMPORARY_SCHEMA_PREFIX};
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use parking_lot::Mutex;
use repr::text::Names;
use repr::{PgError, RelationSchema, SqlState, SqlType};
use sql::bind::BindContext;
use sql::{BoundStatement, Purpose, Statement};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cursor::Cursor;
use crate::ddl::Naming;
use crate::deferred::{self, Deferred, SessionActions, Side};
use crate::engine::{Connected, Shared};
use crate::notify::{Mailbox, Notification};
use crate::response::{CopyIn, Notice, Response, RowStream, Severity};
use crate::roles::Rights;
use crate::select::Reading;
use crate::sequences::SessionSequences;
use crate::settings::Settings;
use crate::statement;
use crate::system::Asker;
use crate::transaction::Transaction;

/// Who connects, and what the client says of itself.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// The user's name.
    pub user: String,
    /// The database's name; there is one database under any name.
    pub database: String,
    /// The startup packet's settings, such as `application_name`.
    pub parameters: Vec<(String, String)>,
    /// The length of the key that a request to cancel must show, at least four.
    pub secret_bytes: usize,
}

/// What ReadyForQuery reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a block.
    InTransaction,
    /// In a block that failed: only its end is accepted.
    Failed,
}

/// A statement ready to run, any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Prepared {
    inner: Arc<PreparedStatement>,
}

struct PreparedStatement {
    statement: Statement,
    bound: BoundStatement,
    /// What it was bound against.
    catalog: Arc<Catalog>,
    search_path: SearchPath,
    parameter_types: Vec<SqlType>,
    columns: Option<RelationSchema>,
    /// A query's plan, once it has run.
    optimized: OnceLock<LogicalPlan>,
    /// The same statement bound against a later catalog.
    latest: Mutex<Option<Prepared>>,
}

impl Prepared {
    /// The types of `$1`, `$2`, ..
    pub fn parameter_types(&self) -> &[SqlType] {
        &self.inner.parameter_types
    }

    /// The columns of its rows; None if it gives none.
    pub fn columns(&self) -> Option<&RelationSchema> {
        self.inner.columns.as_ref()
    }

    /// Whether it ends a transaction block, or goes back within it, and so may run in a failed one.
    pub fn is_transaction_exit(&self) -> bool {
        matches!(
            self.inner.bound,
            BoundStatement::Commit | BoundStatement::Rollback | BoundStatement::RollbackToSavepoint(_)
        )
    }

    pub(crate) fn bound(&self) -> &BoundStatement {
        &self.inner.bound
    }

    pub(crate) fn statement(&self) -> &Statement {
        &self.inner.statement
    }

    /// What others may see of its text: a password is none of theirs.
    fn shown_text(&self) -> &str {
        match self.inner.bound {
            BoundStatement::Role(_) => "<statement about roles>",
            _ => &self.inner.statement.text,
        }
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.inner.catalog
    }

    /// The plan of a query, optimised once. `plan` must be the same each time.
    pub(crate) fn optimized(&self, plan: &LogicalPlan) -> Result<LogicalPlan, PgError> {
        if let Some(optimized) = self.inner.optimized.get() {
            return Ok(optimized.clone());
        }
        let optimized = sql::optimize(plan.clone(), Purpose::Read)?;
        Ok(self.inner.optimized.get_or_init(|| optimized).clone())
    }
}

/// A client's session. Dropping it rolls its transaction back and closes its cursors.
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) settings: Settings,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) cursors: HashMap<String, Cursor>,
    pub(crate) statements: HashMap<String, Prepared>,
    /// When the statement under way began, microseconds since 1970.
    statement_us: i64,
    process_id: i32,
    secret_key: Vec<u8>,
    reported: Vec<(String, String)>,
    /// The version of the settings that `reported` is of.
    reported_version: u64,
    rights: Rights,
    mailbox: Arc<Mailbox>,
    pub(crate) side: Arc<Side>,
    pub(crate) deferred: Deferred,
    /// The channels that it listens to.
    pub(crate) listening: BTreeSet<String>,
    cancel: watch::Sender<u64>,
    sequences: Arc<dyn SequenceAccess>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, options: SessionOptions, rights: Rights) -> Session {
        let roles = shared.roles.all();
        // What the role's sessions begin with, then what the client wants of this one.
        let of_role = roles.iter().find(|role| role.name == options.user).map_or(&[][..], |role| &role.settings);
        let parameters: Vec<(String, String)> = of_role.iter().chain(&options.parameters).cloned().collect();
        let mut settings = Settings::new(&options.user, &parameters);
        settings.force("max_connections", &shared.connections_max.load(Ordering::Relaxed).to_string());
        settings.force("is_superuser", if rights.is_superuser(&roles) { "on" } else { "off" });
        let process_id = shared.allocate_process_id();
        let mut secret_key = vec![0; options.secret_bytes.max(4)];
        rand::Rng::fill(&mut rand::rng(), &mut secret_key[..]);
        let (cancel, _) = watch::channel(0);
        let mailbox = Arc::new(Mailbox::default());
        let connected = Connected {
            secret_key: secret_key.clone(),
            cancel: cancel.clone(),
            mailbox: Arc::clone(&mailbox),
            rights: rights.clone(),
            user: options.user.clone(),
            application_name: settings.get("application_name").unwrap_or_default(),
            state: "idle",
            query: String::new(),
            started_us: now_us(),
        };
        shared.sessions.lock().insert(process_id, connected);
        let (reported, reported_version) = (settings.reported(), settings.version());
        let sequences = SessionSequences { shared: Arc::clone(&shared), given: Arc::default() };
        Session {
            sequences: Arc::new(sequences),
            shared,
            user: options.user,
            database: options.database,
            settings,
            transaction: None,
            notices: Vec::new(),
            cursors: HashMap::new(),
            statements: HashMap::new(),
            statement_us: now_us(),
            process_id,
            secret_key,
            reported,
            reported_version,
            rights,
            mailbox,
            side: Arc::default(),
            deferred: Deferred::default(),
            listening: BTreeSet::new(),
            cancel,
        }
    }

    /// What a cancel request names the session by.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// What a cancel request must know.
    pub fn secret_key(&self) -> &[u8] {
        &self.secret_key
    }

    /// What others tell the session; something in it means [`Session::take_notifications`].
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// What has come to channels that it listens to; nothing within a transaction block, which is told at its end.
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        match self.transaction_status() {
            TransactionStatus::Idle => self.mailbox.take(),
            _ => Vec::new(),
        }
    }

    /// Between two statements of the client's: what functions have notified outside of a block leaves.
    pub fn settle(&mut self) {
        if self.transaction.is_none() {
            deferred::publish(self);
        }
    }

    /// The role whose rights it has now: the session's, or that of SET ROLE.
    pub(crate) fn current_user(&self) -> String {
        self.settings.role().unwrap_or(&self.user).to_string()
    }

    pub(crate) fn rights(&self) -> Rights {
        match self.settings.role() {
            Some(name) => {
                let roles = self.shared.roles.all();
                // No OID is 0: a role that is gone has no rights.
                Rights::Role(roles.iter().find(|role| role.name == name).map_or(0, |role| role.oid))
            }
            None => self.rights.clone(),
        }
    }

    /// Whose rights it had when it began.
    pub(crate) fn own_rights(&self) -> &Rights {
        &self.rights
    }

    /// The statements of a text. Errors: `42601`, with a position in the text; then none of them runs.
    pub fn parse(&self, text: &str) -> Result<Vec<Statement>, PgError> {
        sql::parse(text)
    }

    /// Binds a statement. A parameter whose type is None gets one from its use.
    ///
    /// Errors: those of binding, positions in the statement's own text; `42P18` for a parameter whose type stays unknown.
    // Async so that what must be looked up outside can be, without changing every caller.
    #[allow(clippy::unused_async)]
    pub async fn prepare(
        &mut self,
        statement: &Statement,
        parameter_types: &[Option<SqlType>],
    ) -> Result<Prepared, PgError> {
        self.bind(statement, parameter_types)
    }

    pub(crate) fn bind(&self, statement: &Statement, parameter_types: &[Option<SqlType>]) -> Result<Prepared, PgError> {
        let catalog = self.catalog();
        let Naming { timezone, search_path } = self.naming();
        let mut context = BindContext::new(&catalog);
        context.timezone = timezone;
        context.search_path = search_path.clone();
        context.parameter_types.replace(parameter_types.to_vec());
        let bound = sql::bind(statement, &context)?;
        let parameters = context.parameter_types.take().into_iter().enumerate().map(|(index, sql_type)| {
            sql_type.filter(|sql_type| *sql_type != SqlType::Unknown).ok_or_else(|| {
                PgError::new(
                    SqlState::INDETERMINATE_DATATYPE,
                    format!("could not determine data type of parameter ${}", index + 1),
                )
            })
        });
        let parameter_types = parameters.collect::<Result<Vec<SqlType>, PgError>>()?;
        let columns = statement::columns(self, &bound)?;
        Ok(Prepared {
            inner: Arc::new(PreparedStatement {
                statement: statement.clone(),
                bound,
                catalog,
                search_path,
                parameter_types,
                columns,
                optimized: OnceLock::new(),
                latest: Mutex::default(),
            }),
        })
    }

    /// Runs a prepared statement. `parameters` are arrays of one row, of the statement's parameter types.
    ///
    /// Errors: the statement's; a transaction block that is open has then failed.
    pub async fn execute(&mut self, prepared: &Prepared, parameters: Vec<ArrayRef>) -> Result<Response, PgError> {
        self.shared.counters.statements.fetch_add(1, Ordering::Relaxed);
        self.note_activity("active", Some(prepared.shown_text()));
        self.statement_us = now_us();
        let mut cancelled = self.cancel.subscribe();
        let timeout_ms = self.settings.milliseconds("statement_timeout");
        let deadline = (timeout_ms > 0).then(|| Instant::now() + std::time::Duration::from_millis(timeout_ms));
        let (shared, mailbox) = (Arc::clone(&self.shared), Arc::clone(&self.mailbox));
        let result = tokio::select! {
            biased;
            result = self.run(prepared, parameters) => result,
            error = interruption(&shared, &mailbox, &mut cancelled, deadline) => Err(error),
        };
        match result {
            Ok(response) => {
                self.note_activity(self.activity(), None);
                Ok(match response {
                    Response::Rows { schema, rows, tag } => {
                        Response::Rows { schema, rows: interruptible(shared, mailbox, rows, cancelled, deadline), tag }
                    }
                    Response::CopyOut { schema, rows, options } => Response::CopyOut {
                        schema,
                        rows: interruptible(shared, mailbox, rows, cancelled, deadline),
                        options,
                    },
                    other => other,
                })
            }
            Err(error) => {
                self.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
                self.fail_transaction();
                self.note_activity(self.activity(), None);
                Err(error)
            }
        }
    }

    async fn run(&mut self, prepared: &Prepared, parameters: Vec<ArrayRef>) -> Result<Response, PgError> {
        self.shared.check_running()?;
        if self.transaction_status() == TransactionStatus::Failed && !prepared.is_transaction_exit() {
            return Err(PgError::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        if parameters.len() != prepared.parameter_types().len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                parameters.len(),
                prepared.parameter_types().len()
            );
            return Err(PgError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let current = self.catalog();
        let path = self.search_path();
        let is_current =
            |prepared: &Prepared| Arc::ptr_eq(&current, prepared.catalog()) && prepared.inner.search_path == path;
        if is_current(prepared) || !statement::depends_on_catalog(prepared.bound()) {
            return statement::run(self, prepared, parameters).await;
        }
        let latest = prepared.inner.latest.lock().clone();
        if let Some(latest) = latest.filter(is_current) {
            return statement::run(self, &latest, parameters).await;
        }
        let types: Vec<Option<SqlType>> = prepared.parameter_types().iter().cloned().map(Some).collect();
        let again = self.bind(prepared.statement(), &types)?;
        if again.columns() != prepared.columns() {
            return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type"));
        }
        *prepared.inner.latest.lock() = Some(again.clone());
        statement::run(self, &again, parameters).await
    }

    /// Adds the rows of a COPY .. FROM STDIN: columns as `copy.schema`, batch by batch, all or nothing. Returns the tag.
    ///
    /// Errors: those of INSERT.
    pub async fn copy_in(&mut self, copy: &CopyIn, batches: Vec<Vec<ArrayRef>>) -> Result<String, PgError> {
        let mut cancelled = self.cancel.subscribe();
        let (shared, mailbox) = (Arc::clone(&self.shared), Arc::clone(&self.mailbox));
        let result = tokio::select! {
            biased;
            result = statement::copy::copy_in(self, copy, batches) => result,
            error = interruption(&shared, &mailbox, &mut cancelled, None) => Err(error),
        };
        if result.is_err() {
            self.fail_transaction();
        }
        result
    }

    /// Says that what is executed until [`Session::end_implicit`] is one transaction, unless it says otherwise itself.
    /// Nothing if a transaction is open.
    pub fn begin_implicit(&mut self) {
        if self.transaction.is_none() {
            self.transaction = Some(Transaction::new(true, self.settings.clone()));
        }
    }

    /// Ends what [`Session::begin_implicit`] began; nothing if that has ended or became explicit.
    ///
    /// Errors: those of COMMIT.
    pub async fn end_implicit(&mut self, commit: bool) -> Result<(), PgError> {
        if !self.transaction.as_ref().is_some_and(|transaction| transaction.implicit) {
            return Ok(());
        }
        match commit {
            true => statement::transaction::commit(self).await.map(drop),
            false => statement::transaction::roll_back(self).await,
        }
    }

    /// The columns of an open cursor: what Describe of a portal of that name answers.
    pub fn cursor_columns(&self, name: &str) -> Option<&RelationSchema> {
        self.cursors.get(name).map(|cursor| &cursor.schema)
    }

    /// Idle, in a block, or in one that failed.
    pub fn transaction_status(&self) -> TransactionStatus {
        match &self.transaction {
            Some(transaction) if transaction.failed => TransactionStatus::Failed,
            Some(transaction) if !transaction.implicit => TransactionStatus::InTransaction,
            _ => TransactionStatus::Idle,
        }
    }

    /// Says that the client was sent an error that `execute` did not return: one of its rows', or the protocol's.
    pub fn fail_transaction(&mut self) {
        match &mut self.transaction {
            Some(transaction) => transaction.failed = true,
            None => deferred::clear(self),
        }
    }

    /// What the client is to be told besides answers, as far as `client_min_messages` lets through.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.append(&mut self.side.notices.lock());
        if self.notices.is_empty() {
            return Vec::new();
        }
        let least = match self.settings.get("client_min_messages").as_deref() {
            Some("error") => return std::mem::take(&mut self.notices).into_iter().filter(|_| false).collect(),
            Some("warning") => Severity::Warning,
            Some("info" | "notice") => Severity::Info,
            Some("log") => Severity::Log,
            _ => Severity::Debug,
        };
        std::mem::take(&mut self.notices).into_iter().filter(|notice| notice.severity >= least).collect()
    }

    pub(crate) fn notice(&mut self, state: SqlState, message: impl Into<String>) {
        self.notices.push(Notice { severity: Severity::Notice, error: PgError::new(state, message) });
    }

    pub(crate) fn warning(&mut self, state: SqlState, message: impl Into<String>) {
        self.notices.push(Notice { severity: Severity::Warning, error: PgError::new(state, message) });
    }

    /// A setting's value, by its name in any case.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name)
    }

    /// A setting that is a length of time; 0 is none.
    pub fn milliseconds(&self, name: &str) -> u64 {
        self.settings.milliseconds(name)
    }

    /// Another number whenever a setting may have changed.
    pub fn settings_version(&self) -> u64 {
        self.settings.version()
    }

    /// The settings that a client is told of when it connects.
    pub fn reported_settings(&self) -> Vec<(String, String)> {
        self.settings.reported()
    }

    /// Those of them that have changed since the last call.
    pub fn take_changed_settings(&mut self) -> Vec<(String, String)> {
        if self.settings.version() == self.reported_version {
            return Vec::new();
        }
        let superuser = self.rights().is_superuser(&self.shared.roles.all());
        self.settings.force("is_superuser", if superuser { "on" } else { "off" });
        self.reported_version = self.settings.version();
        let now = self.settings.reported();
        let changed = now.iter().filter(|setting| !self.reported.contains(setting)).cloned().collect();
        self.reported = now;
        changed
    }

    /// A read of the session's, seeing its transaction's own writes.
    pub(crate) fn reading(&self, catalog: &Arc<Catalog>) -> Reading<'_> {
        Reading {
            shared: &self.shared,
            catalog: Arc::clone(catalog),
            pending: self.transaction.as_ref().map_or(&[], |transaction| &transaction.changes),
            asker: self.asker(),
            unsynced: !self.settings.synchronous_commit(),
            as_of: None,
            notices: Vec::new(),
        }
    }

    /// The catalog that the session's statements are bound against.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.transaction_catalog().unwrap_or_else(|| self.shared.catalog())
    }

    /// The open transaction's own catalog, if it has defined something.
    pub(crate) fn transaction_catalog(&self) -> Option<Arc<Catalog>> {
        self.transaction.as_ref().and_then(|transaction| transaction.catalog.clone())
    }

    pub(crate) fn search_path(&self) -> SearchPath {
        SearchPath {
            schemas: schemas_of(&self.settings.get("search_path").unwrap_or_default(), &self.current_user()),
            temporary: Some(format!("{TEMPORARY_SCHEMA_PREFIX}{}", self.process_id)),
        }
    }

    /// What statements are bound with.
    pub(crate) fn naming(&self) -> Naming {
        let timezone = self.settings.get("timezone").unwrap_or_else(|| "UTC".to_string());
        Naming { timezone, search_path: self.search_path() }
    }

    pub(crate) fn asker(&self) -> Asker {
        let transaction = self.transaction.as_ref();
        Asker {
            database: self.database.clone(),
            user: self.current_user(),
            session_user: self.user.clone(),
            roles: deferred::roles(self).unwrap_or_else(|_| self.shared.roles.all()),
            actions: Arc::new(SessionActions {
                shared: Arc::clone(&self.shared),
                side: Arc::clone(&self.side),
                rights: self.rights(),
                listening: self.listening.clone(),
            }),
            process_id: self.process_id,
            statement_us: self.statement_us,
            transaction_us: transaction.map_or(self.statement_us, |transaction| transaction.started_us),
            settings: self.settings.clone(),
            search_path: self.search_path(),
            sequences: Arc::clone(&self.sequences),
        }
    }

    /// How `regclass` and its kin are printed now.
    pub fn names(&self) -> Arc<dyn Names> {
        Arc::new(self.snapshot())
    }

    /// The OID that a text means as a parameter of type `regclass` or its kin. Errors: `42P01` and its kin.
    pub fn oid_of(&self, sql_type: &SqlType, text: &str) -> Result<u32, PgError> {
        oid_of(&self.snapshot(), sql_type, text)
    }

    /// What functions of the session and the catalog are answered from.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.asker().snapshot(&self.shared, &self.catalog(), &[])
    }

    fn activity(&self) -> &'static str {
        match self.transaction_status() {
            TransactionStatus::Idle => "idle",
            TransactionStatus::InTransaction => "idle in transaction",
            TransactionStatus::Failed => "idle in transaction (aborted)",
        }
    }

    fn note_activity(&self, state: &'static str, query: Option<&str>) {
        if let Some(connected) = self.shared.sessions.lock().get_mut(&self.process_id) {
            connected.state = state;
            if let Some(query) = query {
                connected.query.clear();
                connected.query.extend(query.chars().take(QUERY_CHARS_MAX));
            }
        }
    }

    pub(crate) fn note_application_name(&self) {
        if let Some(connected) = self.shared.sessions.lock().get_mut(&self.process_id) {
            connected.application_name = self.settings.get("application_name").unwrap_or_default();
        }
    }
}

/// Characters of a statement that `pg_stat_activity` shows.
const QUERY_CHARS_MAX: usize = 1024;

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.sessions.lock().remove(&self.process_id);
        deferred::unlisten_all(self);
        let definitions = self.transaction.take().map(|transaction| transaction.definitions).unwrap_or_default();
        let schema = format!("{TEMPORARY_SCHEMA_PREFIX}{}", self.process_id);
        let has_temporary = self.shared.catalog().objects().any(|object| object.schema == schema);
        if definitions.is_empty() && !has_temporary {
            return;
        }
        let shared = Arc::clone(&self.shared);
        // Definitions block, and a drop may happen on any thread.
        std::thread::spawn(move || {
            crate::ddl::roll_back(&shared, &definitions);
            if has_temporary && let Err(error) = crate::ddl::drop_schema_objects(&shared, &schema) {
                tracing::warn!("temporary objects stay until a restart: {error}");
            }
        });
    }
}

/// The schemas that a `search_path` names; `"$user"` is the user's.
fn schemas_of(text: &str, user: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let name = |part: &str| match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => part.to_lowercase(),
    };
    let schema = |part: &str| Some(name(part)).filter(|name| name != "pg_temp");
    parts.filter_map(schema).map(|name| if name == "$user" { user.to_string() } else { name }).collect()
}

pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
}

/// What a session that `pg_terminate_backend` ends is told.
fn terminated() -> PgError {
    PgError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

/// Completes when the statement is to stop, with the error it then fails with.
async fn interruption(
    shared: &Shared,
    mailbox: &Mailbox,
    cancelled: &mut watch::Receiver<u64>,
    deadline: Option<Instant>,
) -> PgError {
    let timeout = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Outside of the budget that the task's rows use up: a request to cancel is heard however busy they keep it.
        changed = tokio::task::unconstrained(cancelled.changed()) => match changed {
            Ok(()) => match shared.check_running() {
                Err(stopping) => stopping,
                Ok(()) if mailbox.is_terminated() => terminated(),
                Ok(()) => PgError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request"),
            },
            // The sender is gone with its session, which is what runs this: nobody is left to tell.
            Err(_) => std::future::pending().await,
        },
        () = timeout => PgError::new(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout"),
    }
}

/// Rows that end with an error when the statement is to stop.
fn interruptible(
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    rows: RowStream,
    cancelled: watch::Receiver<u64>,
    deadline: Option<Instant>,
) -> RowStream {
    let state = Some((shared, mailbox, rows, cancelled));
    Box::pin(futures::stream::unfold(state, move |state| async move {
        let (shared, mailbox, mut rows, mut cancelled) = state?;
        let next = tokio::select! {
            biased;
            next = rows.next() => next?,
            error = interruption(&shared, &mailbox, &mut cancelled, deadline) => Err(error),
        };
        let state = next.is_ok().then_some((shared, mailbox, rows, cancelled));
        Some((next, state))
    }))
}
