//! The roles: kept in storage as one document, and who of them may begin a session.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use catalog::role::{Role, is_member};
use catalog::system::OWNER_OID;
use parking_lot::{Mutex, RwLock};
use repr::{PgError, SqlState};
use serde::{Deserialize, Serialize};
use storage::Storage;

use crate::engine::Shared;
use crate::scram::Verifier;

/// Every role, and what made-up answers for missing ones are made from.
pub(crate) struct Roles {
    document: RwLock<Arc<Document>>,
    /// Held while they change, which waits for the disk; readers do not wait.
    changing: Mutex<()>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Document {
    /// Random and kept: who tries a missing role again after a restart gets the same answer.
    mock_secret: [u8; 32],
    roles: Arc<Vec<Role>>,
}

/// A change of the roles.
#[derive(Clone, Debug)]
pub(crate) enum RoleChange {
    /// A new one, or another one of this OID.
    Put(Role),
    /// By its OID.
    Drop(u32),
}

/// What a client that wants to begin a session as a role is measured by.
pub struct Login {
    /// Of its password; made up where there is none.
    pub verifier: Verifier,
    /// Whether knowing the password is enough. If not, the exchange goes on and fails at its end.
    pub accepted: bool,
}

impl Roles {
    /// Those in storage; in a new data directory the owner, without a password.
    pub(crate) fn load(storage: &Storage) -> Result<Roles, PgError> {
        let document = match storage.roles()? {
            Some(stored) => serde_json::from_slice(&stored).map_err(|error| {
                PgError::new(SqlState::DATA_CORRUPTED, format!("the stored roles cannot be read: {error}"))
            })?,
            None => Document { mock_secret: rand::random(), roles: Arc::new(vec![Role::owner()]) },
        };
        Ok(Roles { document: RwLock::new(Arc::new(document)), changing: Mutex::default() })
    }

    /// Every role as committed.
    pub(crate) fn all(&self) -> Arc<Vec<Role>> {
        Arc::clone(&self.document.read().roles)
    }

    /// Makes changes, all or none, and keeps them. Blocks on the disk. Errors: those of [`changed`].
    pub(crate) fn apply(&self, storage: &Storage, changes: &[RoleChange]) -> Result<(), PgError> {
        let _changing = self.changing.lock();
        let document = Arc::clone(&self.document.read());
        let roles = Arc::new(changed(&document.roles, changes)?);
        let next = Document { roles, ..Document::clone(&document) };
        let text = serde_json::to_vec(&next).map_err(|error| PgError::internal(error.to_string()))?;
        storage.put_roles(&text)?;
        *self.document.write() = Arc::new(next);
        Ok(())
    }

    pub(crate) fn login(&self, name: &str) -> Login {
        let document = Arc::clone(&self.document.read());
        let role = document.roles.iter().find(|role| role.name == name);
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64);
        let valid = role.filter(|role| role.valid_until_us.is_none_or(|until_us| now_us < until_us));
        match role.and_then(|role| role.password.as_deref()).and_then(Verifier::parse) {
            Some(verifier) => Login { verifier, accepted: valid.is_some() },
            None => Login { verifier: Verifier::mock(name, &document.mock_secret), accepted: false },
        }
    }
}

/// The roles after `changes`. Errors: `42710` for a name that another role has, `42704` for one that is gone.
pub(crate) fn changed(roles: &[Role], changes: &[RoleChange]) -> Result<Vec<Role>, PgError> {
    let mut roles = roles.to_vec();
    for change in changes {
        match change {
            RoleChange::Put(role) => {
                if roles.iter().any(|other| other.name == role.name && other.oid != role.oid) {
                    let message = format!("role \"{}\" already exists", role.name);
                    return Err(PgError::new(SqlState::DUPLICATE_OBJECT, message));
                }
                match roles.iter_mut().find(|other| other.oid == role.oid) {
                    Some(other) => *other = role.clone(),
                    None => roles.push(role.clone()),
                }
            }
            RoleChange::Drop(oid) => {
                roles.retain(|role| role.oid != *oid);
                roles.iter_mut().for_each(|role| role.memberships.retain(|membership| membership.role != *oid));
            }
        }
    }
    Ok(roles)
}

/// Whose rights a session has.
#[derive(Clone, Debug)]
pub(crate) enum Rights {
    /// Somebody trusted under a name that is no role: the owner's.
    Owner,
    /// Those of the role with this OID, and of those it is a member of. None if it has been dropped.
    Role(u32),
}

impl Rights {
    fn role<'a>(&self, roles: &'a [Role]) -> Option<&'a Role> {
        let oid = match self {
            Rights::Owner => OWNER_OID,
            Rights::Role(oid) => *oid,
        };
        roles.iter().find(|role| role.oid == oid)
    }

    /// The role's OID; 0 if it has been dropped.
    pub(crate) fn oid(&self, roles: &[Role]) -> u32 {
        self.role(roles).map_or(0, |role| role.oid)
    }

    pub(crate) fn is_superuser(&self, roles: &[Role]) -> bool {
        self.role(roles).is_some_and(|role| role.superuser)
    }

    pub(crate) fn may_create_roles(&self, roles: &[Role]) -> bool {
        self.role(roles).is_some_and(|role| role.superuser || role.create_role)
    }

    /// Whether it may act as `role`.
    pub(crate) fn is_member(&self, roles: &[Role], role: u32) -> bool {
        self.role(roles).is_some_and(|own| own.superuser || is_member(roles, own.oid, role))
    }
}

/// Errors: `28000` for a role that may not begin sessions, or that is none.
pub(crate) fn check_login(shared: &Shared, user: &str, trusted: bool) -> Result<Rights, PgError> {
    let refused = |what: &str| PgError::new(SqlState("28000"), format!("role \"{user}\" {what}"));
    match shared.roles.all().iter().find(|role| role.name == user) {
        Some(role) if role.login => Ok(Rights::Role(role.oid)),
        Some(_) => Err(refused("is not permitted to log in")),
        None if trusted => Ok(Rights::Owner),
        None => Err(refused("does not exist")),
    }
}

/// Errors: `53300` if more sessions of the role are open than it may have.
pub(crate) fn check_connection_limit(shared: &Shared, user: &str) -> Result<(), PgError> {
    let roles = shared.roles.all();
    let limit = roles.iter().find(|role| role.name == user && !role.superuser).map_or(-1, |role| role.connection_limit);
    let open = || shared.sessions.lock().values().filter(|session| session.user == user).count();
    match usize::try_from(limit) {
        Ok(limit) if open() > limit => {
            Err(PgError::new(SqlState::TOO_MANY_CONNECTIONS, format!("too many connections for role \"{user}\"")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_in_their_order_and_names_stay_apart() {
        let roles = [Role::owner()];
        let (ann, bob) = (Role::new(20, "ann"), Role::new(21, "bob"));
        let member = Role {
            memberships: vec![catalog::role::Membership { role: 20, grantor: 10, admin: false }],
            ..bob.clone()
        };
        let roles = changed(&roles, &[RoleChange::Put(ann.clone()), RoleChange::Put(member)]).expect("new names");
        assert!(is_member(&roles, 21, 20));
        let taken = changed(&roles, &[RoleChange::Put(Role { name: "ann".to_string(), ..bob })]);
        assert_eq!(taken.expect_err("a name twice").state, SqlState::DUPLICATE_OBJECT);
        let roles =
            changed(&roles, &[RoleChange::Drop(20), RoleChange::Put(Role { oid: 22, ..ann })]).expect("free again");
        assert!(!is_member(&roles, 21, 20));
        assert_eq!(roles.len(), 3);
    }
}
