//! Sources as PostgreSQL's foreign tables: a connector is a foreign-data wrapper, a connection a server of it. A source that
//! names no connection is on a server that is called as its connector is.

use repr::source::Options;

use super::{OWNER_OID, Snapshot, SystemRelation, Value, text};
use crate::{Catalog, Object, ObjectKind};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 2328,
        schema: "pg_catalog",
        name: "pg_foreign_data_wrapper",
        columns: "oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid",
        rows: |snapshot| {
            let wrapper = |(index, name): (usize, &str)| {
                let none = Value::Oid(0);
                vec![Value::Oid(wrapper_oid(index)), text(name), Value::Oid(OWNER_OID), none.clone(), none]
            };
            connectors(&snapshot.catalog).into_iter().enumerate().map(wrapper).collect()
        },
    },
    SystemRelation {
        oid: 1417,
        schema: "pg_catalog",
        name: "pg_foreign_server",
        columns: "oid oid, srvname name, srvowner oid, srvfdw oid, srvoptions _text",
        rows: servers,
    },
    SystemRelation {
        oid: 3118,
        schema: "pg_catalog",
        name: "pg_foreign_table",
        columns: "ftrelid oid, ftserver oid, ftoptions _text",
        rows: tables,
    },
];

/// The connectors that something here uses, sorted.
fn connectors(catalog: &Catalog) -> Vec<&str> {
    let mut names: Vec<&str> = catalog
        .objects()
        .filter_map(|object| match &object.kind {
            ObjectKind::Source { description } => Some(description.connector.as_str()),
            ObjectKind::Connection { connector, .. } => Some(connector.as_str()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn wrapper_oid(index: usize) -> u32 {
    15100 + index as u32
}

/// The server of sources that name no connection.
fn own_server_oid(index: usize) -> u32 {
    15150 + index as u32
}

fn servers(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let connectors = connectors(&snapshot.catalog);
    let row = |oid: u32, name: &str, wrapper: usize, options: Value| {
        vec![Value::Oid(oid), text(name), Value::Oid(OWNER_OID), Value::Oid(wrapper_oid(wrapper)), options]
    };
    let own = connectors.iter().enumerate().map(|(index, name)| row(own_server_oid(index), name, index, Value::Null));
    let declared = snapshot.catalog.objects().filter_map(|object| match &object.kind {
        ObjectKind::Connection { connector, options } => {
            let index = connectors.iter().position(|other| other == connector)?;
            Some(row(object.oid, &object.name, index, shown(options)))
        }
        _ => None,
    });
    own.chain(declared).collect()
}

fn tables(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let connectors = connectors(&snapshot.catalog);
    let row = |object: &Object| match &object.kind {
        ObjectKind::Source { description } => {
            let connection = connection_of(&snapshot.catalog, object);
            let index = connectors.iter().position(|other| *other == description.connector)?;
            let server = connection.map_or(own_server_oid(index), |connection| connection.oid);
            Some(vec![Value::Oid(object.oid), Value::Oid(server), shown(&description.options)])
        }
        _ => None,
    };
    snapshot.catalog.objects().filter_map(|object| row(object)).collect()
}

/// The connection that a source names.
pub(super) fn connection_of<'c>(catalog: &'c Catalog, source: &Object) -> Option<&'c Object> {
    let mut depended = source.depends_on.iter().filter_map(|id| catalog.get(*id));
    depended.find(|object| matches!(object.kind, ObjectKind::Connection { .. })).map(|object| &**object)
}

/// `{name=value,..}`; what looks like a secret is not told.
fn shown(options: &Options) -> Value {
    let is_secret = |name: &str| ["password", "secret", "token", "key"].iter().any(|word| name.contains(word));
    let option = |(name, value): (&String, &String)| match is_secret(name) {
        true => format!("{name}=********"),
        false => format!("{name}={value}"),
    };
    match options.is_empty() {
        true => Value::Null,
        false => Value::Texts(options.iter().map(option).collect()),
    }
}
