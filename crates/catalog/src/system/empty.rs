//! Relations about what Tidewater does not have. Clients look into them; they find their columns and no row.

use super::{Snapshot, SystemRelation, Value};

macro_rules! empty {
    ($($oid:literal $schema:ident.$name:ident ($columns:literal))*) => {
        pub(super) const RELATIONS: &[SystemRelation] = &[$(SystemRelation {
            oid: $oid, schema: stringify!($schema), name: stringify!($name), columns: $columns, rows: none,
        }),*];
    };
}

fn none(_: &Snapshot) -> Vec<Vec<Value>> {
    Vec::new()
}

empty! {
    826 pg_catalog.pg_default_acl ("oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype text, defaclacl _text")
    1214 pg_catalog.pg_shdepend ("dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype text")
    1417 pg_catalog.pg_foreign_server ("oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvversion text, srvacl _text, srvoptions _text")
    2328 pg_catalog.pg_foreign_data_wrapper ("oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl _text, fdwoptions _text")
    2396 pg_catalog.pg_shdescription ("objoid oid, classoid oid, description text")
    2600 pg_catalog.pg_aggregate ("aggfnoid oid, aggkind text, aggnumdirectargs int2, aggtransfn oid, aggfinalfn oid")
    2605 pg_catalog.pg_cast ("oid oid, castsource oid, casttarget oid, castfunc oid, castcontext text, castmethod text")
    2608 pg_catalog.pg_depend ("classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype text")
    2611 pg_catalog.pg_inherits ("inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool")
    2616 pg_catalog.pg_opclass ("oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid, opcdefault bool, opckeytype oid")
    2617 pg_catalog.pg_operator ("oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind text, oprcanmerge bool, oprcanhash bool, oprleft oid, oprright oid, oprresult oid, oprcom oid, oprnegate oid, oprcode oid, oprrest oid, oprjoin oid")
    2618 pg_catalog.pg_rewrite ("oid oid, rulename name, ev_class oid, ev_type text, ev_enabled text, is_instead bool, ev_qual text, ev_action text")
    2620 pg_catalog.pg_trigger ("oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled text, tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2, tgattr _int2, tgargs bytea, tgqual text, tgoldtable name, tgnewtable name")
    2964 pg_catalog.pg_db_role_setting ("setdatabase oid, setrole oid, setconfig _text")
    3079 pg_catalog.pg_extension ("oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text, extconfig _oid, extcondition _text")
    3118 pg_catalog.pg_foreign_table ("ftrelid oid, ftserver oid, ftoptions _text")
    3256 pg_catalog.pg_policy ("oid oid, polname name, polrelid oid, polcmd text, polpermissive bool, polroles _oid, polqual text, polwithcheck text")
    3350 pg_catalog.pg_partitioned_table ("partrelid oid, partstrat text, partnatts int2, partdefid oid, partattrs _int2, partclass _oid, partcollation _oid, partexprs text")
    3381 pg_catalog.pg_statistic_ext ("oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, stxkeys _int2, stxkind _text, stxexprs text")
    3466 pg_catalog.pg_event_trigger ("oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled text, evttags _text")
    3501 pg_catalog.pg_enum ("oid oid, enumtypid oid, enumsortorder float4, enumlabel name")
    3541 pg_catalog.pg_range ("rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, rngcanonical oid, rngsubdiff oid")
    3576 pg_catalog.pg_transform ("oid oid, trftype oid, trflang oid, trffromsql oid, trftosql oid")
    3592 pg_catalog.pg_shseclabel ("objoid oid, classoid oid, provider text, label text")
    3596 pg_catalog.pg_seclabel ("objoid oid, classoid oid, objsubid int4, provider text, label text")
    6100 pg_catalog.pg_subscription ("oid oid, subdbid oid, subname name, subowner oid, subenabled bool, subconninfo text, subslotname name, subsynccommit text, subpublications _text")
    6104 pg_catalog.pg_publication ("oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool, pubtruncate bool, pubviaroot bool")
    6106 pg_catalog.pg_publication_rel ("oid oid, prpubid oid, prrelid oid, prqual text, prattrs _int2")
    6237 pg_catalog.pg_publication_namespace ("oid oid, pnpubid oid, pnnspid oid")
    12008 pg_catalog.pg_prepared_xacts ("transaction oid, gid text, prepared timestamptz, owner name, database name")
    12009 pg_catalog.pg_locks ("locktype text, database oid, relation oid, pid int4, mode text, granted bool")
    12012 pg_catalog.pg_stats ("schemaname name, tablename name, attname name, inherited bool, null_frac float4, avg_width int4, n_distinct float4")
    12013 pg_catalog.pg_timezone_names ("name text, abbrev text, utc_offset interval, is_dst bool")
    12014 pg_catalog.pg_available_extensions ("name name, default_version text, installed_version text, comment text")
    12015 pg_catalog.pg_cursors ("name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, creation_time timestamptz")
    12016 pg_catalog.pg_prepared_statements ("name text, statement text, prepare_time timestamptz, from_sql bool")
    12017 pg_catalog.pg_publication_tables ("pubname name, schemaname name, tablename name, attnames _text, rowfilter text")
    12018 pg_catalog.pg_stat_user_tables ("relid oid, schemaname name, relname name, seq_scan int8, n_live_tup int8")
    12019 pg_catalog.pg_rules ("schemaname name, tablename name, rulename name, definition text")
    13207 information_schema.referential_constraints ("constraint_catalog name, constraint_schema name, constraint_name name, unique_constraint_catalog name, unique_constraint_schema name, unique_constraint_name name, match_option varchar, update_rule varchar, delete_rule varchar")
    13208 information_schema.constraint_column_usage ("table_catalog name, table_schema name, table_name name, column_name name, constraint_catalog name, constraint_schema name, constraint_name name")
    13209 information_schema.routines ("specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name, routine_name name, routine_type varchar, data_type varchar")
    13211 information_schema.parameters ("specific_catalog name, specific_schema name, specific_name name, ordinal_position int4, parameter_mode varchar, parameter_name name, data_type varchar")
    13212 information_schema.triggers ("trigger_catalog name, trigger_schema name, trigger_name name, event_object_schema name, event_object_table name")
    13213 information_schema.table_privileges ("grantor name, grantee name, table_catalog name, table_schema name, table_name name, privilege_type varchar, is_grantable varchar")
    13214 information_schema.check_constraints ("constraint_catalog name, constraint_schema name, constraint_name name, check_clause varchar")
}
