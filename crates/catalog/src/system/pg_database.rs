//! `pg_database`, the roles, and the sessions: what a server is apart from its relations.

use super::{DATABASE_OID, OWNER_NAME, OWNER_OID, Snapshot, SystemRelation, Value, text};

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
        rows: |snapshot| roles(snapshot).into_iter().map(|(oid, name)| role(oid, name)).collect(),
    },
    SystemRelation {
        oid: 12001,
        schema: "pg_catalog",
        name: "pg_roles",
        columns: "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
                  rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, \
                  rolvaliduntil timestamptz, rolbypassrls bool, rolconfig _text, oid oid",
        rows: |snapshot| {
            let row = |(oid, name): (u32, String)| {
                vec![
                    text(name),
                    Value::Bool(true),
                    Value::Bool(true),
                    Value::Bool(true),
                    Value::Bool(true),
                    Value::Bool(true),
                    Value::Bool(false),
                    Value::Int(-1),
                    text("********"),
                    Value::Null,
                    Value::Bool(true),
                    Value::Null,
                    Value::Oid(oid),
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
            let row = |(oid, name): (u32, String)| {
                vec![
                    text(name),
                    Value::Oid(oid),
                    Value::Bool(true),
                    Value::Bool(true),
                    Value::Bool(false),
                    Value::Bool(true),
                    text("********"),
                    Value::Null,
                    Value::Null,
                ]
            };
            roles(snapshot).into_iter().map(row).collect()
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

/// The owner of everything, and whoever asks if that is another name.
fn roles(snapshot: &Snapshot) -> Vec<(u32, String)> {
    let mut roles = vec![(OWNER_OID, OWNER_NAME.to_string())];
    if snapshot.user != OWNER_NAME && !snapshot.user.is_empty() {
        roles.push((OWNER_OID + 1, snapshot.user.clone()));
    }
    roles
}

fn role(oid: u32, name: String) -> Vec<Value> {
    vec![
        Value::Oid(oid),
        text(name),
        Value::Bool(true),
        Value::Bool(true),
        Value::Bool(true),
        Value::Bool(true),
        Value::Bool(true),
        Value::Bool(false),
        Value::Bool(true),
        Value::Int(-1),
        Value::Null,
        Value::Null,
    ]
}

fn sessions(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |session: &super::SessionRow| {
        vec![
            Value::Oid(DATABASE_OID),
            text(&snapshot.database),
            Value::Int(session.process_id as i64),
            Value::Null,
            Value::Oid(OWNER_OID),
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
