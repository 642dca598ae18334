//! Who may connect, and what they may do: PostgreSQL's roles, as plain values.
//!
//! Every object belongs to the first role, `tidewater`, and every role may do everything with every object; what a role's
//! flags decide is who may connect, how often, until when, and who may change other roles.

use serde::{Deserialize, Serialize};

use crate::system::{OWNER_NAME, OWNER_OID};

/// One role, as `pg_authid` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its OID, which it keeps for life.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Whether it may do everything.
    pub superuser: bool,
    /// Whether it has the rights of the roles it is a member of without SET ROLE.
    pub inherit: bool,
    /// Whether it may change other roles.
    pub create_role: bool,
    /// Whether it may create databases.
    pub create_database: bool,
    /// Whether sessions may begin as it.
    pub login: bool,
    /// Without effect: there is no replication connection.
    pub replication: bool,
    /// Without effect: there is no row-level security.
    pub bypass_row_security: bool,
    /// Sessions at a time; -1 is no limit.
    pub connection_limit: i32,
    /// The SCRAM-SHA-256 verifier, as PostgreSQL writes it; None lets nobody in by password.
    pub password: Option<String>,
    /// When its password ends, microseconds since 1970; `i64::MAX` is never, said as `infinity`.
    pub valid_until_us: Option<i64>,
    /// What its sessions begin with (ALTER ROLE .. SET).
    pub settings: Vec<(String, String)>,
    /// The roles it is a member of.
    pub memberships: Vec<Membership>,
}

/// That a role is a member of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The role it is a member of.
    pub role: u32,
    /// The role that granted it.
    pub grantor: u32,
    /// Whether it may grant it on.
    pub admin: bool,
}

impl Role {
    /// A role as CREATE ROLE makes it where nothing is said.
    pub fn new(oid: u32, name: impl Into<String>) -> Role {
        Role {
            oid,
            name: name.into(),
            superuser: false,
            inherit: true,
            create_role: false,
            create_database: false,
            login: false,
            replication: false,
            bypass_row_security: false,
            connection_limit: -1,
            password: None,
            valid_until_us: None,
            settings: Vec::new(),
            memberships: Vec::new(),
        }
    }

    /// The role that owns everything, as a new data directory has it.
    pub fn owner() -> Role {
        Role {
            superuser: true,
            create_role: true,
            create_database: true,
            login: true,
            replication: true,
            bypass_row_security: true,
            ..Role::new(OWNER_OID, OWNER_NAME)
        }
    }
}

/// Whether `member` is `role` or a member of it, directly or through others.
pub fn is_member(roles: &[Role], member: u32, role: u32) -> bool {
    let mut reached = vec![member];
    let mut next = 0;
    while let Some(oid) = reached.get(next).copied() {
        if oid == role {
            return true;
        }
        next += 1;
        let memberships = roles.iter().filter(|other| other.oid == oid).flat_map(|other| &other.memberships);
        for membership in memberships {
            if !reached.contains(&membership.role) {
                reached.push(membership.role);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_goes_through_others_and_round_circles() {
        let member_of = |oid, roles: &[u32]| Role {
            memberships: roles.iter().map(|role| Membership { role: *role, grantor: 10, admin: false }).collect(),
            ..Role::new(oid, format!("r{oid}"))
        };
        let roles = [member_of(1, &[2]), member_of(2, &[3]), member_of(3, &[2]), member_of(4, &[])];
        assert!(is_member(&roles, 1, 3));
        assert!(is_member(&roles, 4, 4));
        assert!(!is_member(&roles, 1, 4));
        assert!(!is_member(&roles, 3, 1));
    }
}
