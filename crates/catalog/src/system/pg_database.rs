//! `pg_database`, the roles, and the sessions: what a server is apart from its relations.

use super::{DATABASE_OID, OWNER_OID, Snapshot, SystemRelation, Value, text};
use crate::role::{Membership, Role};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 1262,
        schema: "pg_catalog",
        name: "pg_database",
        columns: "oid oid, datname name, datdba oid, encoding int4, datlocprovider text, datistemplate bool, \
                  datallowconn bool, datconnlimit int4, datfrozenxid oid, datminmxid oid, dattablespace oid, \
                  datcollate text, datctype text, daticulocale text, datcollversion text, datacl _text",
        rows: databases,
    },
    SystemRelation {
        oid: 1260,
        schema: "pg_catalog",
        name: "pg_authid",
        columns: "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
                  rolcanlogin bool, rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text, \
                  rolvaliduntil timestamptz",
        rows: |snapshot| {
            let superuser = roles(snapshot).iter().any(|role| role.name == snapshot.user && role.superuser);
            roles(snapshot).into_iter().map(|role| authid(role, superuser)).collect()
        },
    },
    SystemRelation {
        oid: 1261,
        schema: "pg_catalog",
        name: "pg_auth_members",
        columns: "roleid oid, member oid, grantor oid, admin_option bool",
        rows: memberships,
    },
    SystemRelation {
        oid: 12001,
        schema: "pg_catalog",
        name: "pg_roles",
        columns: "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
                  rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, \
                  rolvaliduntil timestamptz, rolbypassrls bool, rolconfig _text, oid oid",
        rows: |snapshot| {
            let row = |role: Role| {
                vec![
                    text(&role.name),
                    Value::Bool(role.superuser),
                    Value::Bool(role.inherit),
                    Value::Bool(role.create_role),
                    Value::Bool(role.create_database),
                    Value::Bool(role.login),
                    Value::Bool(role.replication),
                    Value::Int(i64::from(role.connection_limit)),
                    text("********"),
                    valid_until(&role),
                    Value::Bool(role.bypass_row_security),
                    settings(&role),
                    Value::Oid(role.oid),
                ]
            };
            roles(snapshot).into_iter().map(row).collect()
        },
    },
    SystemRelation {
        oid: 12002,
        schema: "pg_catalog",
        name: "pg_user",
        columns: "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, \
                  passwd text, valuntil timestamptz, useconfig _text",
        rows: |snapshot| {
            let row = |role: Role| {
                vec![
                    text(&role.name),
                    Value::Oid(role.oid),
                    Value::Bool(role.create_database),
                    Value::Bool(role.superuser),
                    Value::Bool(role.replication),
                    Value::Bool(role.bypass_row_security),
                    text("********"),
                    valid_until(&role),
                    settings(&role),
                ]
            };
            roles(snapshot).into_iter().filter(|role| role.login).map(row).collect()
        },
    },
    SystemRelation {
        oid: 12003,
        schema: "pg_catalog",
        name: "pg_stat_activity",
        columns: "datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, \
                  application_name text, client_addr text, client_hostname text, client_port int4, \
                  backend_start timestamptz, xact_start timestamptz, query_start timestamptz, \
                  state_change timestamptz, wait_event_type text, wait_event text, state text, backend_xid oid, \
                  backend_xmin oid, query_id int8, query text, backend_type text",
        rows: sessions,
    },
];

fn databases(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    vec![vec![
        Value::Oid(DATABASE_OID),
        text(&snapshot.database),
        Value::Oid(OWNER_OID),
        Value::Int(6),
        text("c"),
        Value::Bool(false),
        Value::Bool(true),
        Value::Int(-1),
        Value::Oid(0),
        Value::Oid(0),
        Value::Oid(1663),
        text("C.UTF-8"),
        text("C.UTF-8"),
        Value::Null,
        Value::Null,
        Value::Null,
    ]]
}

/// Every role, and whoever asks if that is no role: someone who is trusted under any name.
pub(super) fn roles(snapshot: &Snapshot) -> Vec<Role> {
    let mut roles = Vec::clone(&snapshot.roles);
    if !snapshot.user.is_empty() && !roles.iter().any(|role| role.name == snapshot.user) {
        roles.push(Role { oid: OWNER_OID + 1, name: snapshot.user.clone(), ..Role::owner() });
    }
    roles
}

/// The OID of a session's role; the owner's for someone who is trusted under another name, whose rights those are.
fn user_oid(snapshot: &Snapshot, name: &str) -> u32 {
    snapshot.roles.iter().find(|role| role.name == name).map_or(OWNER_OID, |role| role.oid)
}

/// A row of `pg_authid`. What is kept of the password is shown to superusers only.
fn authid(role: Role, superuser: bool) -> Vec<Value> {
    let valid_until = valid_until(&role);
    vec![
        Value::Oid(role.oid),
        text(role.name),
        Value::Bool(role.superuser),
        Value::Bool(role.inherit),
        Value::Bool(role.create_role),
        Value::Bool(role.create_database),
        Value::Bool(role.login),
        Value::Bool(role.replication),
        Value::Bool(role.bypass_row_security),
        Value::Int(i64::from(role.connection_limit)),
        role.password.filter(|_| superuser).map_or(Value::Null, Value::Text),
        valid_until,
    ]
}

fn valid_until(role: &Role) -> Value {
    role.valid_until_us.map_or(Value::Null, Value::Int)
}

fn settings(role: &Role) -> Value {
    match role.settings.is_empty() {
        true => Value::Null,
        false => Value::Texts(role.settings.iter().map(|(name, value)| format!("{name}={value}")).collect()),
    }
}

fn memberships(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let of_role = |role: &Role| {
        let member = role.oid;
        let row = move |membership: &Membership| {
            vec![
                Value::Oid(membership.role),
                Value::Oid(member),
                Value::Oid(membership.grantor),
                Value::Bool(membership.admin),
            ]
        };
        role.memberships.iter().map(row).collect::<Vec<_>>()
    };
    snapshot.roles.iter().flat_map(of_role).collect()
}

fn sessions(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |session: &super::SessionRow| {
        vec![
            Value::Oid(DATABASE_OID),
            text(&snapshot.database),
            Value::Int(session.process_id as i64),
            Value::Null,
            Value::Oid(user_oid(snapshot, &session.user)),
            text(&session.user),
            text(&session.application_name),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Int(session.started_us),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            text(&session.state),
            Value::Null,
            Value::Null,
            Value::Null,
            text(&session.query),
            text("client backend"),
        ]
    };
    snapshot.sessions.iter().map(row).collect()
}
