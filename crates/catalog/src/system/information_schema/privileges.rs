//! The views of `information_schema` about the server, who may do what, and what views and sources are over.

use super::super::pg_foreign::connection_of;
use super::super::{OWNER_NAME, Snapshot, SystemRelation, Value, text};
use super::table_type;
use crate::{Object, ObjectKind};

const TABLE_PRIVILEGES: &str = "grantor name, grantee name, table_catalog name, table_schema name, table_name name, \
    privilege_type varchar, is_grantable varchar, with_hierarchy varchar";

pub(in super::super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "information_schema_catalog_name",
        columns: "catalog_name name",
        rows: |snapshot| vec![vec![text(&snapshot.database)]],
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "character_sets",
        columns: "character_set_name name, character_repertoire name, form_of_use name, \
                  default_collate_catalog name, default_collate_schema name, default_collate_name name",
        rows: |_| {
            let row = [text("UTF8"), text("UCS"), text("UTF8"), Value::Null, Value::Null, Value::Null];
            vec![row.to_vec()]
        },
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "enabled_roles",
        columns: "role_name name",
        rows: |snapshot| vec![vec![text(&snapshot.user)]],
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "table_privileges",
        columns: TABLE_PRIVILEGES,
        rows: table_privileges,
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "role_table_grants",
        columns: TABLE_PRIVILEGES,
        rows: table_privileges,
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "view_table_usage",
        columns: "view_catalog name, view_schema name, view_name name, table_catalog name, table_schema name, \
                  table_name name",
        rows: view_table_usage,
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "foreign_tables",
        columns: "foreign_table_catalog name, foreign_table_schema name, foreign_table_name name, \
                  foreign_server_catalog name, foreign_server_name name",
        rows: foreign_tables,
    },
];

/// The owner has every privilege on what it made.
fn table_privileges(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let privileges = ["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];
    let made = snapshot
        .catalog
        .objects()
        .filter(|object| table_type(object).is_some() && !matches!(object.kind, ObjectKind::SystemRelation { .. }));
    let rows = made.flat_map(|object| {
        privileges.map(|privilege| {
            vec![
                text(OWNER_NAME),
                text(OWNER_NAME),
                text(&snapshot.database),
                text(&object.schema),
                text(&object.name),
                text(privilege),
                text("YES"),
                text(if privilege == "SELECT" { "YES" } else { "NO" }),
            ]
        })
    });
    rows.collect()
}

fn view_table_usage(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let views = catalog.objects().filter(|object| matches!(object.kind, ObjectKind::View { .. }));
    let rows = views.flat_map(|view| {
        let relations = view.depends_on.iter().filter_map(|id| catalog.get(*id));
        let row = |relation: &std::sync::Arc<Object>| {
            vec![
                text(&snapshot.database),
                text(&view.schema),
                text(&view.name),
                text(&snapshot.database),
                text(&relation.schema),
                text(&relation.name),
            ]
        };
        relations.filter(|relation| relation.relation_schema().is_some()).map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

fn foreign_tables(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |object: &std::sync::Arc<Object>| match &object.kind {
        ObjectKind::Source { description } => {
            let connection = connection_of(&snapshot.catalog, object);
            let server = connection.map_or(&description.connector, |connection| &connection.name);
            Some(vec![
                text(&snapshot.database),
                text(&object.schema),
                text(&object.name),
                text(&snapshot.database),
                text(server),
            ])
        }
        _ => None,
    };
    snapshot.catalog.objects().filter_map(row).collect()
}
