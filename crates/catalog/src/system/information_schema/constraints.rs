//! The views of `information_schema` about what constraints are over: checks, references, the columns that they use.

use repr::ObjectId;

use super::super::{Snapshot, SystemRelation, Value, schema_oid, text};
use crate::{Catalog, Constraint, ConstraintKind, ForeignKey, Object, ObjectKind, ReferentialAction, Uniqueness};

pub(in super::super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "referential_constraints",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, \
                  unique_constraint_catalog name, unique_constraint_schema name, unique_constraint_name name, \
                  match_option varchar, update_rule varchar, delete_rule varchar",
        rows: references,
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "check_constraints",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, check_clause varchar",
        rows: checks,
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "constraint_column_usage",
        columns: "table_catalog name, table_schema name, table_name name, column_name name, constraint_catalog name, \
                  constraint_schema name, constraint_name name",
        rows: column_usage,
    },
    SystemRelation {
        oid: 0,
        schema: "information_schema",
        name: "constraint_table_usage",
        columns: "table_catalog name, table_schema name, table_name name, constraint_catalog name, \
                  constraint_schema name, constraint_name name",
        rows: table_usage,
    },
];

/// The columns of tables that are NOT NULL, as the constraints that the standard takes them for: table, name, column.
pub(super) fn not_null(catalog: &Catalog) -> impl Iterator<Item = (&Object, String, &str)> {
    catalog.objects().flat_map(move |object| {
        let columns = match &object.kind {
            ObjectKind::Table { schema, .. } => &schema.columns[..],
            _ => &[],
        };
        let schema = schema_oid(catalog, &object.schema);
        let named = columns.iter().enumerate().filter(|(_, column)| !column.nullable).map(move |(index, column)| {
            let name = format!("{schema}_{}_{}_not_null", object.oid, object.column_number(index));
            (&**object, name, column.name.as_str())
        });
        named.collect::<Vec<_>>()
    })
}

fn references(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let row = |object: &Object| {
        let ObjectKind::Constraint(Constraint { table, kind: ConstraintKind::ForeignKey(key) }) = &object.kind else {
            return None;
        };
        let (table, index) = (catalog.get(*table)?, catalog.get(key.key)?);
        Some(vec![
            text(&snapshot.database),
            text(&table.schema),
            text(&object.name),
            text(&snapshot.database),
            text(&index.schema),
            text(&index.name),
            text(if key.match_full { "FULL" } else { "NONE" }),
            text(rule(key.on_update)),
            text(rule(key.on_delete)),
        ])
    };
    catalog.objects().filter_map(|object| row(object)).collect()
}

fn rule(action: ReferentialAction) -> &'static str {
    match action.code() {
        "c" => "CASCADE",
        "n" => "SET NULL",
        "d" => "SET DEFAULT",
        "r" => "RESTRICT",
        _ => "NO ACTION",
    }
}

fn checks(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let row = |object: &Object| match &object.kind {
        ObjectKind::Constraint(Constraint { table, kind: ConstraintKind::Check { expression } }) => {
            let table = catalog.get(*table)?;
            Some(vec![
                text(&snapshot.database),
                text(&table.schema),
                text(&object.name),
                text(format!("(({expression}))")),
            ])
        }
        _ => None,
    };
    let not_null = not_null(catalog).map(|(table, name, column)| {
        vec![text(&snapshot.database), text(&table.schema), text(name), text(format!("{column} IS NOT NULL"))]
    });
    catalog.objects().filter_map(|object| row(object)).chain(not_null).collect()
}

/// `(constraint, the schema of its table, the table used, its columns that are used)`: a reference uses the key it refers to.
fn used(catalog: &Catalog) -> Vec<(&Object, &str, &Object, Vec<usize>)> {
    let mut used = Vec::new();
    for object in catalog.objects() {
        let (owner, table, columns): (ObjectId, ObjectId, Vec<usize>) = match &object.kind {
            ObjectKind::Index { on, columns, uniqueness: Uniqueness::PrimaryKey | Uniqueness::Constraint } => {
                (*on, *on, columns.clone())
            }
            ObjectKind::Constraint(Constraint { table, kind: ConstraintKind::ForeignKey(key) }) => {
                let ForeignKey { referenced, referenced_columns, .. } = key;
                (*table, *referenced, referenced_columns.clone())
            }
            ObjectKind::Constraint(Constraint { table, kind: ConstraintKind::Check { expression } }) => {
                let words: Vec<&str> = expression.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
                let columns = catalog.get(*table).and_then(|table| table.relation_schema());
                let columns = columns.map_or(&[][..], |schema| &schema.columns).iter().enumerate();
                let named = columns.filter(|(_, column)| words.contains(&column.name.as_str()));
                (*table, *table, named.map(|(index, _)| index).collect())
            }
            _ => continue,
        };
        if let (Some(owner), Some(table)) = (catalog.get(owner), catalog.get(table)) {
            used.push((&**object, owner.schema.as_str(), &**table, columns));
        }
    }
    used
}

fn column_usage(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (constraint, schema, table, columns) in used(&snapshot.catalog) {
        let known = table.relation_schema().map_or(&[][..], |schema| &schema.columns);
        for column in columns.iter().filter_map(|index| known.get(*index)) {
            rows.push(vec![
                text(&snapshot.database),
                text(&table.schema),
                text(&table.name),
                text(&column.name),
                text(&snapshot.database),
                text(schema),
                text(&constraint.name),
            ]);
        }
    }
    rows
}

fn table_usage(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let used = used(&snapshot.catalog).into_iter();
    let keys = used.filter(|(constraint, ..)| {
        !matches!(&constraint.kind, ObjectKind::Constraint(Constraint { kind: ConstraintKind::Check { .. }, .. }))
    });
    let row = |(constraint, schema, table, _): (&Object, &str, &Object, Vec<usize>)| {
        vec![
            text(&snapshot.database),
            text(&table.schema),
            text(&table.name),
            text(&snapshot.database),
            text(schema),
            text(&constraint.name),
        ]
    };
    keys.map(row).collect()
}
