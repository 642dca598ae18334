//! The statistics views, as far as tools join them to relations: a row for each, and counters that stand at 0, since nothing
//! counts.

use super::pg_class::relation_kind;
use super::{DATABASE_OID, Snapshot, SystemRelation, Value, text};
use crate::{FIRST_USER_ID, Object, ObjectKind};

const TABLE_COLUMNS: &str = "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, \
    idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, n_live_tup int8, \
    n_dead_tup int8, n_mod_since_analyze int8, n_ins_since_vacuum int8, vacuum_count int8, autovacuum_count int8, \
    analyze_count int8, autoanalyze_count int8";
const TABLE_IO_COLUMNS: &str = "relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8";
const INDEX_COLUMNS: &str = "relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_scan int8, \
    idx_tup_read int8, idx_tup_fetch int8";
const INDEX_IO_COLUMNS: &str = "relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, \
    idx_blks_read int8, idx_blks_hit int8";

macro_rules! relation {
    ($name:literal, $columns:expr, $rows:expr) => {
        SystemRelation { oid: 0, schema: "pg_catalog", name: $name, columns: $columns, rows: $rows }
    };
}

pub(super) const RELATIONS: &[SystemRelation] = &[
    relation!("pg_stat_all_indexes", INDEX_COLUMNS, |snapshot| indexes(snapshot, 3)),
    relation!("pg_stat_all_tables", TABLE_COLUMNS, |snapshot| tables(snapshot, |_| true, 16)),
    relation!("pg_stat_user_indexes", INDEX_COLUMNS, |snapshot| indexes(snapshot, 3)),
    relation!("pg_stat_user_tables", TABLE_COLUMNS, |snapshot| tables(snapshot, is_users, 16)),
    relation!("pg_stat_sys_tables", TABLE_COLUMNS, |snapshot| tables(snapshot, |object| !is_users(object), 16)),
    relation!("pg_statio_all_indexes", INDEX_IO_COLUMNS, |snapshot| indexes(snapshot, 2)),
    relation!("pg_statio_all_tables", TABLE_IO_COLUMNS, |snapshot| tables(snapshot, |_| true, 2)),
    relation!("pg_statio_user_indexes", INDEX_IO_COLUMNS, |snapshot| indexes(snapshot, 2)),
    relation!("pg_statio_user_tables", TABLE_IO_COLUMNS, |snapshot| tables(snapshot, is_users, 2)),
    relation!("pg_statio_sys_tables", TABLE_IO_COLUMNS, |snapshot| tables(snapshot, |object| !is_users(object), 2)),
    relation!(
        "pg_stat_database",
        "datid oid, datname name, numbackends int4, xact_commit int8, xact_rollback int8, blks_read int8, blks_hit int8, \
         tup_returned int8, tup_fetched int8, tup_inserted int8, tup_updated int8, tup_deleted int8, conflicts int8, \
         temp_files int8, temp_bytes int8, deadlocks int8",
        |snapshot| {
            let known = [Value::Oid(DATABASE_OID), text(&snapshot.database), Value::Int(0)];
            vec![known.into_iter().chain(zeros(13)).collect()]
        }
    ),
];

fn zeros(count: usize) -> impl Iterator<Item = Value> {
    std::iter::repeat_n(Value::Int(0), count)
}

fn is_users(object: &Object) -> bool {
    object.oid >= FIRST_USER_ID
}

/// The relations that PostgreSQL counts for: tables and materialized views.
fn tables(snapshot: &Snapshot, wanted: fn(&Object) -> bool, counters: usize) -> Vec<Vec<Value>> {
    let counted =
        snapshot.catalog.objects().filter(|object| wanted(object) && matches!(relation_kind(object), Some("r" | "m")));
    let row = |object: &std::sync::Arc<Object>| {
        let known = [Value::Oid(object.oid), text(&object.schema), text(&object.name)];
        known.into_iter().chain(zeros(counters)).collect()
    };
    counted.map(row).collect()
}

fn indexes(snapshot: &Snapshot, counters: usize) -> Vec<Vec<Value>> {
    let row = |index: &std::sync::Arc<Object>| {
        let ObjectKind::Index { on, .. } = &index.kind else { return None };
        let table = snapshot.catalog.get(*on)?;
        let oids = [Value::Oid(table.oid), Value::Oid(index.oid)];
        let names = [text(&table.schema), text(&table.name), text(&index.name)];
        Some(oids.into_iter().chain(names).chain(zeros(counters)).collect())
    };
    snapshot.catalog.objects().filter_map(row).collect()
}
