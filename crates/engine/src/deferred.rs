//! What a transaction does besides rows and relations: changes of roles, what it listens to, what it notifies others of.
//! All of it takes effect at COMMIT, or at once outside of a block.

use std::collections::BTreeSet;
use std::sync::Arc;

use catalog::role::Role;
use catalog::system::Actions;
use parking_lot::Mutex;
use repr::{PgError, SqlState};

use crate::engine::Shared;
use crate::notify::Outbox;
use crate::response::{Notice, Severity};
use crate::roles::{Rights, RoleChange, changed};
use crate::session::Session;
use crate::statement::blocking;

/// What waits for COMMIT.
#[derive(Default)]
pub(crate) struct Deferred {
    roles: Vec<RoleChange>,
    listening: Vec<Listening>,
    savepoints: Vec<Savepoint>,
}

/// LISTEN, UNLISTEN, UNLISTEN *.
#[derive(Clone, Debug)]
pub(crate) enum Listening {
    To(String),
    NotTo(String),
    ToNothing,
}

/// How much there was of each at a savepoint.
struct Savepoint {
    name: String,
    roles: usize,
    listening: usize,
    notifications: usize,
}

/// What functions do while rows are computed; shared with them.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) outbox: Mutex<Outbox>,
    pub(crate) notices: Mutex<Vec<Notice>>,
}

/// Changes roles: now, or when the open block commits.
pub(crate) async fn change_roles(session: &mut Session, changes: Vec<RoleChange>) -> Result<(), PgError> {
    if session.transaction.is_some() {
        session.deferred.roles.extend(changes);
        return Ok(());
    }
    let shared = Arc::clone(&session.shared);
    blocking(move || shared.roles.apply(&shared.storage, &changes)).await
}

/// The roles as the session sees them.
pub(crate) fn roles(session: &Session) -> Result<Arc<Vec<Role>>, PgError> {
    let committed = session.shared.roles.all();
    match session.deferred.roles.as_slice() {
        [] => Ok(committed),
        changes => changed(&committed, changes).map(Arc::new),
    }
}

/// Listens or no longer: now, or when the open block commits.
pub(crate) fn listen(session: &mut Session, listening: Listening) {
    session.deferred.listening.push(listening);
    if session.transaction.is_none() {
        publish(session);
    }
}

/// Notifies: now, or when the open block commits.
pub(crate) fn notify(session: &mut Session, channel: &str, payload: &str) -> Result<(), PgError> {
    session.side.outbox.lock().add(channel, payload)?;
    if session.transaction.is_none() {
        let room = session.shared.channels.check_room(&session.side.outbox.lock());
        if let Err(full) = room {
            clear(session);
            return Err(full);
        }
        publish(session);
    }
    Ok(())
}

pub(crate) fn savepoint(session: &mut Session, name: &str) {
    let notifications = session.side.outbox.lock().count();
    let deferred = &mut session.deferred;
    let (roles, listening) = (deferred.roles.len(), deferred.listening.len());
    deferred.savepoints.push(Savepoint { name: name.to_string(), roles, listening, notifications });
}

/// Forgets a savepoint and those after it.
pub(crate) fn release(session: &mut Session, name: &str) {
    let savepoints = &mut session.deferred.savepoints;
    let index = savepoints.iter().rposition(|savepoint| savepoint.name == name).unwrap_or(savepoints.len());
    savepoints.truncate(index);
}

/// Takes back what came after a savepoint, which stays.
pub(crate) fn roll_back_to(session: &mut Session, name: &str) {
    let deferred = &mut session.deferred;
    let Some(index) = deferred.savepoints.iter().rposition(|savepoint| savepoint.name == name) else { return };
    deferred.savepoints.truncate(index + 1);
    let savepoint = &deferred.savepoints[index];
    deferred.roles.truncate(savepoint.roles);
    deferred.listening.truncate(savepoint.listening);
    session.side.outbox.lock().truncate(savepoint.notifications);
}

/// Takes all of it back.
pub(crate) fn clear(session: &mut Session) {
    session.deferred = Deferred::default();
    session.side.outbox.lock().clear();
}

/// The part of COMMIT that can fail: the roles are changed. Returns how they were, for [`restore_roles`].
pub(crate) async fn commit_roles(session: &mut Session) -> Result<Vec<RoleChange>, PgError> {
    session.shared.channels.check_room(&session.side.outbox.lock())?;
    let changes = std::mem::take(&mut session.deferred.roles);
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let shared = Arc::clone(&session.shared);
    blocking(move || {
        let before = shared.roles.all();
        shared.roles.apply(&shared.storage, &changes)?;
        let after = shared.roles.all();
        let restored = before.iter().filter(|role| !after.contains(role)).cloned().map(RoleChange::Put);
        let new = after.iter().filter(|role| !before.iter().any(|other| other.oid == role.oid));
        Ok(new.map(|role| RoleChange::Drop(role.oid)).chain(restored).collect())
    })
    .await
}

/// Undoes [`commit_roles`], because the rest of the COMMIT failed.
pub(crate) async fn restore_roles(session: &Session, undo: Vec<RoleChange>) {
    if undo.is_empty() {
        return;
    }
    let shared = Arc::clone(&session.shared);
    if let Err(error) = blocking(move || shared.roles.apply(&shared.storage, &undo)).await {
        tracing::error!("roles changed by a transaction that failed stay so: {error}");
    }
}

/// The part of COMMIT that cannot fail: listening changes, and notifications leave.
pub(crate) fn publish(session: &mut Session) {
    let (process_id, shared) = (session.process_id(), Arc::clone(&session.shared));
    for listening in std::mem::take(&mut session.deferred.listening) {
        match listening {
            Listening::To(channel) => {
                shared.channels.listen(&channel, process_id, session.mailbox());
                session.listening.insert(channel);
            }
            Listening::NotTo(channel) => {
                shared.channels.unlisten(&channel, process_id);
                session.listening.remove(&channel);
            }
            Listening::ToNothing => unlisten_all(session),
        }
    }
    session.deferred.savepoints.clear();
    shared.channels.publish(process_id, &mut session.side.outbox.lock());
}

pub(crate) fn unlisten_all(session: &mut Session) {
    for channel in std::mem::take(&mut session.listening) {
        session.shared.channels.unlisten(&channel, session.process_id());
    }
}

/// What functions may do to others in the name of a session.
pub(crate) struct SessionActions {
    pub(crate) shared: Arc<Shared>,
    pub(crate) side: Arc<Side>,
    pub(crate) rights: Rights,
    pub(crate) listening: BTreeSet<String>,
}

impl std::fmt::Debug for SessionActions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionActions").finish_non_exhaustive()
    }
}

impl Actions for SessionActions {
    fn notify(&self, channel: &str, payload: &str) -> Result<(), PgError> {
        self.side.outbox.lock().add(channel, payload)
    }

    fn listening(&self) -> Vec<String> {
        self.listening.iter().cloned().collect()
    }

    fn signal(&self, process_id: i32, terminate: bool) -> Result<bool, PgError> {
        let roles = self.shared.roles.all();
        let sessions = self.shared.sessions.lock();
        let Some(session) = sessions.get(&process_id) else {
            let message = format!("PID {process_id} is not a PostgreSQL backend process");
            let error = PgError::new(SqlState::WARNING, message);
            self.side.notices.lock().push(Notice { severity: Severity::Warning, error });
            return Ok(false);
        };
        let what = if terminate { "terminate" } else { "cancel" };
        let denied = |message: String| Err(PgError::new(SqlState("42501"), message));
        if !self.rights.is_superuser(&roles) {
            if session.rights.is_superuser(&roles) {
                return denied(match terminate {
                    true => "must be a superuser to terminate superuser process".to_string(),
                    false => "must be a superuser to cancel superuser query".to_string(),
                });
            }
            if !self.rights.is_member(&roles, session.rights.oid(&roles)) {
                let whose = if terminate { "process" } else { "query" };
                return denied(format!(
                    "must be a member of the role whose {whose} is being {} or member of pg_signal_backend",
                    if terminate { "terminated" } else { "canceled" }
                ));
            }
        }
        tracing::debug!("session {process_id} is told to {what}");
        if terminate {
            session.mailbox.terminate();
        }
        session.cancel.send_modify(|count| *count += 1);
        Ok(true)
    }
}
