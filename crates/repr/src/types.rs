//! The one type table: SQL name, Arrow storage, Postgres OID.
//!
//! Storage types are as distinct as Arrow allows, because a plan knows only Arrow types while the binder knows SQL types.
//! Two choices deserve a reason:
//!
//! - `numeric` is `LargeBinary` in the order-preserving encoding of [`crate::numeric`]: PostgreSQL's numeric has a scale per
//!   value, which no Arrow decimal has, and comparing the bytes compares the numbers.
//! - `timestamptz` is `Timestamp(Microsecond, "UTC")`, `timestamp` the same without a zone. Microseconds throughout.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

use crate::text::vector::vector_field;

/// A SQL type without its modifier (length, precision), which lives in [`crate::ColumnSchema::typmod`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Each variant is PostgreSQL's type of that name.
pub enum SqlType {
    Bool,
    Bytea,
    Name,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Json,
    Float4,
    Float8,
    Bpchar,
    Varchar,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Numeric,
    Uuid,
    Jsonb,
    Regclass,
    Regtype,
    // What PostgreSQL's own catalogs are made of.
    /// `"char"`: one byte.
    Char,
    /// Printed as numbers with blanks between them, counted from 0; stored as a list.
    Int2vector,
    /// As [`SqlType::Int2vector`].
    Oidvector,
    Xid,
    Aclitem,
    PgNodeTree,
    Anyarray,
    Regcollation,
    Regnamespace,
    Regoper,
    Regoperator,
    Regproc,
    Regprocedure,
    Regrole,
    /// An embedding: a list of reals, none of them NULL. Its modifier is the number of its dimensions.
    Vector,
    /// A literal or parameter whose type the context has not said yet. Stored as text.
    Unknown,
    /// An array of any number of dimensions of the element type; stored as a list of elements.
    Array(Box<SqlType>),
}

/// One row of the type table.
pub struct TypeInfo {
    /// The type.
    pub sql_type: SqlType,
    /// `pg_type.typname`.
    pub name: &'static str,
    /// What `format_type` prints, the SQL standard's name.
    pub sql_name: &'static str,
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_type.oid` of the array over it.
    pub array_oid: u32,
    /// `pg_type.typlen`; -1 is variable.
    pub size_bytes: i16,
    /// `pg_type.typcategory`.
    pub category: char,
}

/// How values are stored and moved: types of one storage differ in what they are called, and in the few places that ask for
/// the type itself. What goes over values of every type matches on this, so that a new type is a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each is the type of that name, and those stored alike.
pub enum Storage<'t> {
    Bool,
    Bytea,
    Int2,
    Int4,
    Int8,
    /// A number of 32 bits without a sign.
    Oid,
    Float4,
    Float8,
    Numeric,
    /// A string of at most 2 GiB a column.
    Text,
    Json,
    /// As [`Storage::Json`], with a version before it in the binary form.
    Jsonb,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Vector,
    /// A list of values of this type.
    List(&'t SqlType),
}

macro_rules! types {
    ($($variant:ident $name:literal $sql_name:literal $oid:literal $array_oid:literal $len:literal $category:literal
       $storage:ident $(($element:ident))?)*) => {
        /// Every scalar type, in the order of its OID.
        pub static TYPES: &[TypeInfo] = &[$(TypeInfo {
            sql_type: SqlType::$variant, name: $name, sql_name: $sql_name, oid: $oid, array_oid: $array_oid,
            size_bytes: $len, category: $category,
        }),*];

        impl SqlType {
            /// How its values are stored.
            pub fn storage(&self) -> Storage<'_> {
                match self {
                    $(SqlType::$variant => Storage::$storage $((&SqlType::$element))?,)*
                    SqlType::Array(element) => Storage::List(element),
                }
            }
        }
    };
}

types! {
    Bool        "bool"        "boolean"                     16   1000  1  'B' Bool
    Bytea       "bytea"       "bytea"                       17   1001 -1  'U' Bytea
    Char        "char"        "\"char\""                    18   1002  1  'Z' Text
    Name        "name"        "name"                        19   1003 64  'S' Text
    Int8        "int8"        "bigint"                      20   1016  8  'N' Int8
    Int2        "int2"        "smallint"                    21   1005  2  'N' Int2
    Int2vector  "int2vector"  "int2vector"                  22   1006 -1  'A' List(Int2)
    Int4        "int4"        "integer"                     23   1007  4  'N' Int4
    Regproc     "regproc"     "regproc"                     24   1008  4  'N' Oid
    Text        "text"        "text"                        25   1009 -1  'S' Text
    Oid         "oid"         "oid"                         26   1028  4  'N' Oid
    Xid         "xid"         "xid"                         28   1011  4  'U' Oid
    Oidvector   "oidvector"   "oidvector"                   30   1013 -1  'A' List(Oid)
    Json        "json"        "json"                        114  199  -1  'U' Json
    PgNodeTree  "pg_node_tree" "pg_node_tree"               194  0    -1  'Z' Text
    Float4      "float4"      "real"                        700  1021  4  'N' Float4
    Float8      "float8"      "double precision"            701  1022  8  'N' Float8
    Unknown     "unknown"     "unknown"                     705  0    -2  'X' Text
    Aclitem     "aclitem"     "aclitem"                     1033 1034 12  'U' Text
    Bpchar      "bpchar"      "character"                   1042 1014 -1  'S' Text
    Varchar     "varchar"     "character varying"           1043 1015 -1  'S' Text
    Date        "date"        "date"                        1082 1182  4  'D' Date
    Time        "time"        "time without time zone"      1083 1183  8  'D' Time
    Timestamp   "timestamp"   "timestamp without time zone" 1114 1115  8  'D' Timestamp
    Timestamptz "timestamptz" "timestamp with time zone"    1184 1185  8  'D' Timestamptz
    Interval    "interval"    "interval"                    1186 1187 16  'T' Interval
    Numeric     "numeric"     "numeric"                     1700 1231 -1  'N' Numeric
    Regprocedure "regprocedure" "regprocedure"              2202 2207  4  'N' Oid
    Regoper     "regoper"     "regoper"                     2203 2208  4  'N' Oid
    Regoperator "regoperator" "regoperator"                 2204 2209  4  'N' Oid
    Regclass    "regclass"    "regclass"                    2205 2210  4  'N' Oid
    Regtype     "regtype"     "regtype"                     2206 2211  4  'N' Oid
    Anyarray    "anyarray"    "anyarray"                    2277 0    -1  'P' Text
    Uuid        "uuid"        "uuid"                        2950 2951 16  'U' Uuid
    Jsonb       "jsonb"       "jsonb"                       3802 3807 -1  'U' Jsonb
    Regnamespace "regnamespace" "regnamespace"              4089 4090  4  'N' Oid
    Regrole     "regrole"     "regrole"                     4096 4097  4  'N' Oid
    Regcollation "regcollation" "regcollation"              4191 4192  4  'N' Oid
    // In PostgreSQL an extension's, whose OID is chosen when it is installed; here one that PostgreSQL gives to nothing.
    Vector      "vector"      "vector"                      9010 9011 -1  'U' Vector
}

impl SqlType {
    /// The table's row, or its element's row for an array.
    pub fn info(&self) -> &'static TypeInfo {
        let scalar = match self {
            SqlType::Array(element) => return element.info(),
            scalar => scalar,
        };
        TYPES.iter().find(|info| info.sql_type == *scalar).expect("every scalar type is in the table")
    }

    /// `pg_type.oid`.
    pub fn oid(&self) -> u32 {
        match self {
            SqlType::Array(element) => element.info().array_oid,
            scalar => scalar.info().oid,
        }
    }

    /// The type with this `pg_type.oid`, if we have it.
    pub fn from_oid(oid: u32) -> Option<SqlType> {
        TYPES.iter().find_map(|info| match oid {
            0 => None,
            oid if info.oid == oid => Some(info.sql_type.clone()),
            oid if info.array_oid == oid => Some(SqlType::Array(Box::new(info.sql_type.clone()))),
            _ => None,
        })
    }

    /// Whether a value is the OID of something, printed as a number or as the name of what it is.
    pub fn is_oid(&self) -> bool {
        matches!(self, SqlType::Oid) || self.is_registered()
    }

    /// Whether a value is an OID that is printed as the name of what has it: `regclass` and its kin.
    pub fn is_registered(&self) -> bool {
        self.info().name.starts_with("reg") && !matches!(self, SqlType::Array(_))
    }

    /// The type's elements, if it is an array or one of the vectors of PostgreSQL's catalogs.
    pub fn element(&self) -> Option<&SqlType> {
        match self.storage() {
            Storage::List(element) => Some(element),
            _ => None,
        }
    }

    /// Whether it is one of the vectors of PostgreSQL's catalogs: an array by another name, counted from 0.
    pub fn is_catalog_vector(&self) -> bool {
        matches!(self.storage(), Storage::List(_)) && !matches!(self, SqlType::Array(_))
    }

    /// `pg_type.typname`: `int4`, `_int4`.
    pub fn name(&self) -> String {
        match self {
            SqlType::Array(element) => format!("_{}", element.info().name),
            scalar => scalar.info().name.to_string(),
        }
    }

    /// What PostgreSQL prints in messages and `\d`: `integer`, `integer[]`.
    pub fn sql_name(&self) -> String {
        match self {
            SqlType::Array(element) => format!("{}[]", element.info().sql_name),
            scalar => scalar.info().sql_name.to_string(),
        }
    }

    /// The Arrow type that stores it.
    pub fn arrow(&self) -> DataType {
        match self.storage() {
            Storage::Bool => DataType::Boolean,
            Storage::Bytea => DataType::Binary,
            Storage::Int2 => DataType::Int16,
            Storage::Int4 => DataType::Int32,
            Storage::Int8 => DataType::Int64,
            Storage::Oid => DataType::UInt32,
            Storage::Float4 => DataType::Float32,
            Storage::Float8 => DataType::Float64,
            Storage::Numeric => DataType::LargeBinary,
            Storage::Text => DataType::Utf8,
            Storage::Json | Storage::Jsonb => DataType::LargeUtf8,
            Storage::Date => DataType::Date32,
            Storage::Time => DataType::Time64(TimeUnit::Microsecond),
            Storage::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Storage::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Storage::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Storage::Uuid => DataType::FixedSizeBinary(16),
            Storage::Vector => DataType::List(vector_field()),
            Storage::List(element) => DataType::new_list(element.arrow(), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_lead_back_to_their_type() {
        for info in TYPES {
            assert_eq!(SqlType::from_oid(info.oid), Some(info.sql_type.clone()));
            if info.array_oid != 0 {
                assert_eq!(SqlType::from_oid(info.array_oid), Some(SqlType::Array(Box::new(info.sql_type.clone()))));
            }
        }
    }
}
