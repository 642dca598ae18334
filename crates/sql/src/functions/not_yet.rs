//! The names of PostgreSQL 15's functions, so that a call of one that Tidewater lacks is told from a call of none at all.
//!
//! Only an error's text and SQLSTATE depend on this list: a name that is done may stay in it.

const NAMES: &str = "\
    abbrev abs acos acosd acosh age area array_agg array_dims array_fill array_length array_lower array_ndims
    array_position array_positions array_remove array_replace array_to_json array_to_string array_to_tsvector
    array_upper ascii asin asind asinh atan atan2 atan2d atand atanh avg bit_and bit_count bit_length bit_or bit_xor
    bool_and bool_or bound_box box broadcast cardinality cbrt ceil ceiling center char_length character_length chr
    circle clock_timestamp col_description concat concat_ws convert convert_from convert_to corr cos cosd cosh cot
    cotd count covar_pop covar_samp cume_dist current_database current_query current_schema current_schemas
    current_setting current_user currval cursor_to_xml cursor_to_xmlschema database_to_xml
    database_to_xml_and_xmlschema database_to_xmlschema date_bin date_part date_trunc datemultirange daterange
    decode degrees dense_rank diagonal diameter div encode enum_first enum_last enum_range every exp extract
    factorial family first_value floor format format_type gcd gen_random_uuid generate_series generate_subscripts
    get_bit get_byte get_current_ts_config getdatabaseencoding has_any_column_privilege has_column_privilege
    has_database_privilege has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege
    has_parameter_privilege has_schema_privilege has_sequence_privilege has_server_privilege has_table_privilege
    has_tablespace_privilege has_type_privilege height host hostmask inet_client_addr inet_client_port inet_merge
    inet_server_addr inet_server_port initcap int4multirange int4range int8multirange int8range is_normalized
    isclosed isempty isfinite ishorizontal isopen isparallel isperp isvertical json_agg json_array_elements
    json_array_elements_text json_array_length json_build_array json_build_object json_each json_each_text
    json_object json_object_agg json_object_keys json_populate_record json_populate_recordset json_strip_nulls
    json_to_record json_to_recordset json_to_tsvector json_typeof jsonb_agg jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text
    jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz
    jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz
    jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record
    jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record
    jsonb_to_recordset jsonb_to_tsvector jsonb_typeof justify_days justify_hours justify_interval lag last_value
    lastval lcm lead left length line ln log log10 lower lower_inc lower_inf lpad ltrim make_date make_interval
    make_time make_timestamp make_timestamptz masklen max md5 min min_scale mod mode multirange netmask network
    nextval normalize now npoints nth_value ntile num_nonnulls num_nulls nummultirange numnode numrange
    obj_description octet_length overlaps overlay parse_ident pclose percent_rank percentile_cont percentile_disc
    pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_backend_pid pg_blocking_pids pg_cancel_backend
    pg_collation_for pg_column_is_updatable pg_column_size pg_conf_load_time pg_current_snapshot pg_current_xact_id
    pg_current_xact_id_if_assigned pg_database_size pg_describe_object pg_get_functiondef pg_get_keywords
    pg_get_ruledef pg_get_serial_sequence pg_get_triggerdef pg_identify_object pg_identify_object_as_address
    pg_indexes_size pg_is_in_recovery pg_jit_available pg_listening_channels pg_my_temp_schema
    pg_notification_queue_usage pg_postmaster_start_time pg_relation_size pg_size_bytes pg_size_pretty pg_sleep
    pg_sleep_for pg_sleep_until pg_table_size pg_tablespace_size pg_terminate_backend pg_total_relation_size
    pg_typeof phraseto_tsquery pi plainto_tsquery point polygon popen position postgresql_fdw_validator pow power
    query_to_xml query_to_xml_and_xmlschema query_to_xmlschema querytree quote_ident quote_literal quote_nullable
    radians radius random rank regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
    regexp_split_to_array regexp_split_to_table regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2
    regr_slope regr_sxx regr_sxy regr_syy repeat replace reverse right round row_number row_security_active
    row_to_json rpad rtrim scale schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema session_user set_bit
    set_byte set_config set_masklen setseed setval setweight sha224 sha256 sha384 sha512 shobj_description sign
    similar_escape similar_to_escape sin sind sinh slope split_part sqrt statement_timestamp stddev stddev_pop
    stddev_samp string_agg string_to_array string_to_table strip strpos substr substring sum table_to_xml
    table_to_xml_and_xmlschema table_to_xmlschema tan tand tanh text textlen timeofday timestamp timestamptz
    timezone to_ascii to_char to_date to_hex to_json to_jsonb to_number to_regclass to_regcollation to_regnamespace
    to_regoper to_regoperator to_regproc to_regprocedure to_regrole to_regtype to_timestamp to_tsquery to_tsvector
    transaction_timestamp translate trim_array trim_scale trunc ts_debug ts_delete ts_filter ts_headline ts_lexize
    ts_parse ts_rank ts_rank_cd ts_rewrite ts_stat ts_token_type tsmultirange tsquery_phrase tsrange tstzmultirange
    tstzrange tsvector_to_array txid_current txid_current_if_assigned txid_current_snapshot txid_snapshot_xip
    txid_snapshot_xmax txid_snapshot_xmin txid_status txid_visible_in_snapshot unistr unnest upper upper_inc
    upper_inf var_pop var_samp variance version websearch_to_tsquery width width_bucket xml_is_well_formed
    xml_is_well_formed_content xml_is_well_formed_document xmlagg xmlcomment xmlexists xmlvalidate xpath
    xpath_exists";

/// All of them, sorted.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.split_ascii_whitespace()
}

/// Whether PostgreSQL has a function of that name.
pub(super) fn is_postgres_function(name: &str) -> bool {
    names().any(|known| known == name)
}
