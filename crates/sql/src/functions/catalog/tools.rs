//! Functions that tools' introspection calls, beside those of `catalog.rs`: names of what an OID means, visibility, privileges,
//! what there is none of.

use catalog::ObjectKind;
use catalog::system::Snapshot;
use catalog::system::registered::{self, name_of, oid_of};
use repr::{PgError, SqlType};

use super::{Function, LAX, STRICT, Value, allowed, optional, text};

/// Every overload. Alphabetical; more specific argument types first.
#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = functions! {
    "acldefault"("char", "oid") -> "_aclitem" STRICT = |snapshot, arguments| default_privileges(snapshot, arguments);
    "age"("xid") -> "int4" STRICT = |_, _| Ok(Value::Int(0));
    "array_lower"("_text", "int4") -> "int4" STRICT = |_, arguments| Ok(match (&arguments[0], &arguments[1]) {
        (Value::Texts(elements), Value::Int(1)) if !elements.is_empty() => Value::Int(1),
        _ => Value::Null,
    });
    "format_type"("oid", "int4") -> "text" LAX = |_, arguments| match (&arguments[0], &arguments[1]) {
        (Value::Null, _) => Ok(Value::Null),
        (oid, Value::Int(typmod)) => text(registered::type_name(oid.oid().0, *typmod as i32)),
        (oid, _) => text(registered::type_name(oid.oid().0, -1)),
    };
    "getdatabaseencoding"() -> "name" LAX = |_, _| text("UTF8");
    "has_any_column_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_any_column_privilege"("oid", "oid", "text") -> "bool" STRICT = allowed;
    "has_any_column_privilege"("name", "oid", "text") -> "bool" STRICT = allowed;
    "has_any_column_privilege"("text", "text", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("oid", "int2", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("oid", "text", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("text", "int2", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("name", "oid", "int2", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("name", "oid", "text", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("name", "text", "int2", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("name", "text", "text", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("oid", "oid", "int2", "text") -> "bool" STRICT = allowed;
    "has_database_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_database_privilege"("name", "oid", "text") -> "bool" STRICT = allowed;
    "has_database_privilege"("oid", "oid", "text") -> "bool" STRICT = allowed;
    "has_database_privilege"("oid", "text", "text") -> "bool" STRICT = allowed;
    "has_foreign_data_wrapper_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_foreign_data_wrapper_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_function_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_function_privilege"("name", "oid", "text") -> "bool" STRICT = allowed;
    "has_function_privilege"("name", "text", "text") -> "bool" STRICT = allowed;
    "has_function_privilege"("oid", "oid", "text") -> "bool" STRICT = allowed;
    "has_language_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_language_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_parameter_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_parameter_privilege"("name", "text", "text") -> "bool" STRICT = allowed;
    "has_schema_privilege"("name", "oid", "text") -> "bool" STRICT = allowed;
    "has_schema_privilege"("oid", "oid", "text") -> "bool" STRICT = allowed;
    "has_schema_privilege"("oid", "text", "text") -> "bool" STRICT = allowed;
    "has_sequence_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_sequence_privilege"("name", "oid", "text") -> "bool" STRICT = allowed;
    "has_sequence_privilege"("text", "text", "text") -> "bool" STRICT = allowed;
    "has_server_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_server_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_table_privilege"("name", "oid", "text") -> "bool" STRICT = allowed;
    "has_table_privilege"("oid", "oid", "text") -> "bool" STRICT = allowed;
    "has_table_privilege"("oid", "text", "text") -> "bool" STRICT = allowed;
    "has_tablespace_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_tablespace_privilege"("name", "text", "text") -> "bool" STRICT = allowed;
    "has_type_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_type_privilege"("name", "text", "text") -> "bool" STRICT = allowed;
    "oidvectortypes"("_oid") -> "text" STRICT = |_, arguments| {
        let Value::Texts(oids) = &arguments[0] else { return Ok(Value::Null) };
        let oids: Vec<u32> = oids.iter().flatten().filter_map(|oid| oid.parse().ok()).collect();
        text(registered::type_names(&oids))
    };
    "pg_collation_actual_version"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_column_is_updatable"("regclass", "int2", "bool") -> "bool" STRICT = |snapshot, arguments| {
        Ok(Value::Bool(is_table(snapshot, &arguments[0])))
    };
    "pg_conf_load_time"() -> "timestamptz" LAX = |snapshot, _| Ok(Value::Int(snapshot.statement_us));
    "pg_conversion_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Null);
    "pg_current_xact_id_if_assigned"() -> "int8" LAX = |_, _| Ok(Value::Null);
    "pg_describe_object"("oid", "oid", "int4") -> "text" STRICT = |snapshot, arguments| {
        let object = snapshot.catalog.by_oid(arguments[1].oid().0);
        optional(object.map(|object| {
            let kind = object.kind_name();
            format!("{kind} {}", name_of(snapshot, &SqlType::Regclass, object.oid))
        }))
    };
    "pg_get_function_arg_default"("oid", "int4") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_function_arguments"("oid") -> "text" STRICT = |_, arguments| {
        optional(registered::function_arguments(arguments[0].oid().0, true))
    };
    "pg_get_function_identity_arguments"("oid") -> "text" STRICT = |_, arguments| {
        optional(registered::function_arguments(arguments[0].oid().0, false))
    };
    "pg_get_function_result"("oid") -> "text" STRICT = |_, arguments| {
        optional(registered::function_result(arguments[0].oid().0))
    };
    "pg_get_function_sqlbody"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_functiondef"("oid") -> "text" STRICT = |_, arguments| {
        optional(registered::function_definition(arguments[0].oid().0))
    };
    "pg_get_indexdef"("oid", "int4") -> "text" STRICT = super::index_column;
    "pg_get_partition_constraintdef"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_replica_identity_index"("regclass") -> "regclass" STRICT = |_, _| Ok(Value::Null);
    "pg_get_statisticsobjdef"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_statisticsobjdef_expressions"("oid") -> "_text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_viewdef"("oid", "int4") -> "text" STRICT = |snapshot, arguments| {
        optional(super::view_definition(&snapshot.catalog, arguments[0].oid()))
    };
    "pg_get_viewdef"("text", "bool") -> "text" STRICT = |snapshot, arguments| {
        let oid = oid_of(snapshot, &SqlType::Regclass, arguments[0].text())?;
        optional(super::view_definition(&snapshot.catalog, repr::ObjectId(oid)))
    };
    "pg_has_role"("oid", "text") -> "bool" STRICT = allowed;
    "pg_has_role"("name", "oid", "text") -> "bool" STRICT = allowed;
    "pg_has_role"("oid", "oid", "text") -> "bool" STRICT = allowed;
    "pg_has_role"("oid", "name", "text") -> "bool" STRICT = allowed;
    "pg_index_column_has_property"("regclass", "int4", "text") -> "bool" STRICT = |_, arguments| {
        // What PostgreSQL says of an ascending column of a btree.
        Ok(Value::Bool(!matches!(arguments[2].text(), "desc" | "nulls_first" | "distance_orderable")))
    };
    "pg_index_has_property"("regclass", "text") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_indexam_has_property"("oid", "text") -> "bool" STRICT = |_, arguments| {
        Ok(Value::Bool(matches!(arguments[1].text(), "can_order" | "can_unique" | "can_multi_col")))
    };
    "pg_last_wal_receive_lsn"() -> "text" LAX = |_, _| Ok(Value::Null);
    "pg_last_wal_replay_lsn"() -> "text" LAX = |_, _| Ok(Value::Null);
    "pg_last_xact_replay_timestamp"() -> "timestamptz" LAX = |_, _| Ok(Value::Null);
    "pg_opfamily_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_postmaster_start_time"() -> "timestamptz" LAX = |snapshot, _| Ok(Value::Int(snapshot.started_us));
    "pg_relation_filepath"("regclass") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_relation_is_updatable"("regclass", "bool") -> "int4" STRICT = |snapshot, arguments| {
        // Bits for UPDATE, INSERT and DELETE.
        Ok(Value::Int(if is_table(snapshot, &arguments[0]) { 28 } else { 0 }))
    };
    "pg_size_pretty"("numeric") -> "text" STRICT = |_, arguments| {
        let bytes: f64 = arguments[0].text().parse().unwrap_or(0.0);
        text(super::pretty_size(bytes.round() as i64))
    };
    "pg_stat_get_backend_idset"() -> "int4" LAX = |_, _| Ok(Value::Null);
    "pg_stat_get_numscans"("oid") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_tablespace_size"("oid") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_tablespace_size"("name") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_ts_dict_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Null);
    "pg_ts_parser_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Null);
    "pg_ts_template_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Null);
    "regclassarrayout"("_regclass") -> "_text" STRICT = |snapshot, arguments| {
        print_all(snapshot, SqlType::Regclass, arguments)
    };
    "regprocarrayout"("_regproc") -> "_text" STRICT = |snapshot, arguments| {
        print_all(snapshot, SqlType::Regproc, arguments)
    };
    "regtypearrayout"("_regtype") -> "_text" STRICT = |snapshot, arguments| {
        print_all(snapshot, SqlType::Regtype, arguments)
    };
    "shobj_description"("oid", "name") -> "text" STRICT = |_, arguments| Ok(match (arguments[0].oid().0, arguments[1].text()) {
        (catalog::system::DATABASE_OID, "pg_database") => {
            Value::Text("default administrative connection database".to_string())
        }
        _ => Value::Null,
    });
    "txid_current_if_assigned"() -> "int8" LAX = |_, _| Ok(Value::Null);
};

/// What reads, prints and looks up each type whose values are printed as names.
macro_rules! registered {
    ($($sql_type:ident $name:literal $input:literal $output:literal $find:literal;)*) => {
        functions! { $(
            $input("text") -> $name STRICT = |snapshot, arguments| read(snapshot, SqlType::$sql_type, arguments);
            $output($name) -> "text" STRICT = |snapshot, arguments| print(snapshot, SqlType::$sql_type, arguments);
            $find("text") -> $name STRICT = |snapshot, arguments| find(snapshot, SqlType::$sql_type, arguments);
        )* }
    };
}

/// Those of every such type. Alphabetical.
#[rustfmt::skip]
pub(super) static REGISTERED: &[Function] = registered! {
    Regclass "regclass" "regclassin" "regclassout" "to_regclass";
    Regcollation "regcollation" "regcollationin" "regcollationout" "to_regcollation";
    Regnamespace "regnamespace" "regnamespacein" "regnamespaceout" "to_regnamespace";
    Regoper "regoper" "regoperin" "regoperout" "to_regoper";
    Regoperator "regoperator" "regoperatorin" "regoperatorout" "to_regoperator";
    Regproc "regproc" "regprocin" "regprocout" "to_regproc";
    Regprocedure "regprocedure" "regprocedurein" "regprocedureout" "to_regprocedure";
    Regrole "regrole" "regrolein" "regroleout" "to_regrole";
    Regtype "regtype" "regtypein" "regtypeout" "to_regtype";
};

fn read(snapshot: &Snapshot, sql_type: SqlType, arguments: &[Value]) -> Result<Value, PgError> {
    oid_of(snapshot, &sql_type, arguments[0].text()).map(Value::Oid)
}

fn print(snapshot: &Snapshot, sql_type: SqlType, arguments: &[Value]) -> Result<Value, PgError> {
    text(name_of(snapshot, &sql_type, arguments[0].oid().0))
}

/// [`print()`] for each element of an array.
fn print_all(snapshot: &Snapshot, sql_type: SqlType, arguments: &[Value]) -> Result<Value, PgError> {
    let Value::Texts(oids) = &arguments[0] else { return Ok(Value::Null) };
    let name = |oid: &String| name_of(snapshot, &sql_type, oid.parse().unwrap_or(0));
    Ok(Value::Texts(oids.iter().map(|oid| oid.as_ref().map(name)).collect()))
}

/// As [`read`], but nothing that has the name is NULL.
fn find(snapshot: &Snapshot, sql_type: SqlType, arguments: &[Value]) -> Result<Value, PgError> {
    Ok(oid_of(snapshot, &sql_type, arguments[0].text()).map_or(Value::Null, Value::Oid))
}

fn is_table(snapshot: &Snapshot, oid: &Value) -> bool {
    let object = snapshot.catalog.by_oid(oid.oid().0);
    object.is_some_and(|object| matches!(object.kind, ObjectKind::Table { .. }))
}

/// What is granted where nothing was: all to the owner, and to everybody what PostgreSQL's manual says under GRANT.
fn default_privileges(snapshot: &Snapshot, arguments: &[Value]) -> Result<Value, PgError> {
    let (owner, everybody) = match arguments[0].text() {
        "r" => ("arwdDxt", ""),
        "s" => ("rwU", ""),
        "d" => ("CTc", "Tc"),
        "f" => ("X", "X"),
        "l" | "T" => ("U", "U"),
        "L" => ("rw", ""),
        "n" => ("UC", ""),
        "p" => ("sA", ""),
        "t" => ("C", ""),
        "F" | "S" => ("U", ""),
        _ => return Ok(Value::Null),
    };
    let name = name_of(snapshot, &SqlType::Regrole, arguments[1].oid().0);
    let granted = [(everybody, ""), (owner, name.as_str())].into_iter().filter(|(rights, _)| !rights.is_empty());
    Ok(Value::Texts(granted.map(|(rights, to)| Some(format!("{to}={rights}/{name}"))).collect()))
}
