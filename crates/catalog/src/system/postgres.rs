//! What PostgreSQL 15 says of itself: the relations of its catalogs with their columns, and the rows that it has from birth.
//!
//! The text files beside this one are written by `scripts/system-catalog` from a fresh PostgreSQL; nothing in them is typed by
//! hand. [`relations`] reads `relations.txt`, a line a relation. The other files are rows as COPY prints them, under a line of
//! column names; [`stored`] gives those of them that are true here: of types, operators and functions that we have.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use repr::SqlType;
use repr::types::{TYPES, TypeInfo};

use super::{Snapshot, Value, text};

/// One relation of PostgreSQL's catalogs.
pub(super) struct PostgresRelation {
    /// Its OID.
    pub(super) oid: u32,
    /// `pg_catalog` or `information_schema`.
    pub(super) schema: &'static str,
    /// `r` or `v`.
    pub(super) kind: char,
    /// Its name.
    pub(super) name: &'static str,
    /// Its columns in order.
    pub(super) columns: Vec<PostgresColumn>,
}

/// One column of a [`PostgresRelation`].
pub(super) struct PostgresColumn {
    /// Its name.
    pub(super) name: &'static str,
    /// `pg_type.typname` of its type: `name`, `_text`, `sql_identifier`.
    pub(super) type_name: &'static str,
    /// Whether it is never NULL.
    pub(super) not_null: bool,
}

/// Every relation of `pg_catalog` and `information_schema`, by OID.
pub(super) fn relations() -> Vec<PostgresRelation> {
    include_str!("postgres/relations.txt").lines().filter_map(relation).collect()
}

fn relation(line: &'static str) -> Option<PostgresRelation> {
    let (head, columns) = line.split_once(": ")?;
    let mut head = head.split(' ');
    let (oid, schema, kind, name) = (head.next()?, head.next()?, head.next()?, head.next()?);
    let column = |text: &'static str| {
        let (name, type_name) = text.split_once(' ')?;
        let not_null = type_name.ends_with('!');
        Some(PostgresColumn { name, type_name: type_name.trim_end_matches('!'), not_null })
    };
    Some(PostgresRelation {
        oid: oid.parse().ok()?,
        schema,
        kind: kind.chars().next()?,
        name,
        columns: columns.split(", ").filter_map(column).collect(),
    })
}

/// A table of rows as COPY prints them; None is NULL.
pub(super) struct Stored {
    names: Vec<&'static str>,
    rows: Vec<Vec<Option<String>>>,
}

impl Stored {
    fn parse(text: &'static str) -> Stored {
        let mut lines = text.lines();
        let names = lines.next().unwrap_or_default().split('\t').collect();
        let rows = lines.map(|line| line.split('\t').map(unescape).collect()).collect();
        Stored { names, rows }
    }

    /// Where a column is; the files are ours, so it is there.
    fn index(&self, name: &str) -> usize {
        self.names.iter().position(|column| *column == name).unwrap_or(0)
    }

    /// The values of two columns, row by row.
    fn pairs(&self, first: &str, second: &str) -> impl Iterator<Item = (&str, &str)> {
        let (first, second) = (self.index(first), self.index(second));
        self.rows.iter().map(move |row| (field(row, first), field(row, second)))
    }
}

fn field(row: &[Option<String>], index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or_default()
}

fn unescape(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    if !field.contains('\\') {
        return Some(field.to_string());
    }
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (plain, false) => out.push(plain),
        }
    }
    Some(out)
}

macro_rules! files {
    ($($name:literal)*) => {
        static FILES: LazyLock<HashMap<&'static str, Stored>> = LazyLock::new(|| {
            HashMap::from([$(($name, Stored::parse(include_str!(concat!("postgres/", $name, ".tsv"))))),*])
        });
    };
}

files! {
    "pg_aggregate" "pg_am" "pg_amop" "pg_amproc" "pg_cast" "pg_collation" "pg_language" "pg_opclass"
    "pg_operator" "pg_opfamily" "pg_proc" "pg_range" "pg_settings" "pg_type"
}

/// The rows of `relation` that PostgreSQL has from birth and that are true here, their values in the order of `columns`.
pub(super) fn stored(relation: &str, columns: &[PostgresColumn], snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let Some(file) = FILES.get(relation).filter(|_| relation != "pg_settings") else { return Vec::new() };
    let kept: Box<dyn Fn(&[Option<String>]) -> bool> = match relation {
        // The first column of either is the function's OID.
        "pg_proc" | "pg_aggregate" => {
            let callable = callable(snapshot);
            Box::new(move |row| callable.contains(&number(row, 0)))
        }
        _ => Box::new(|row| is_true(relation, file, row)),
    };
    let mut rows = values(file, columns, kept);
    if relation == "pg_type" {
        rows.extend(own_types(file, columns));
    }
    rows
}

/// Rows of `pg_type` for what PostgreSQL has only by extensions: each as the rows of `uuid` and its array, but for what differs.
fn own_types(file: &Stored, columns: &[PostgresColumn]) -> Vec<Vec<Value>> {
    const UUID: &str = "2950";
    const ARRAY_OF_UUID: &str = "2951";
    let known: HashSet<u32> = file.rows.iter().map(|row| number(row, 0)).collect();
    let like = |oid: &'static str, changed: &dyn Fn(&str) -> Option<Value>| {
        let mut rows = values(file, columns, |row| field(row, 0) == oid);
        for (value, column) in rows.iter_mut().flat_map(|row| row.iter_mut().zip(columns)) {
            let of_both = match column.name {
                "typlen" => Some(Value::Int(-1)),
                // No function of PostgreSQL's reads or writes it.
                "typinput" | "typoutput" | "typreceive" | "typsend" => Some(Value::Oid(0)),
                _ => None,
            };
            if let Some(changed) = changed(column.name).or(of_both) {
                *value = changed;
            }
        }
        rows
    };
    let both = |info: &TypeInfo| {
        let scalar = like(UUID, &|column| match column {
            "oid" => Some(Value::Oid(info.oid)),
            "typname" => Some(text(info.name)),
            "typarray" => Some(Value::Oid(info.array_oid)),
            _ => None,
        });
        let array = like(ARRAY_OF_UUID, &|column| match column {
            "oid" => Some(Value::Oid(info.array_oid)),
            "typname" => Some(text(format!("_{}", info.name))),
            "typelem" => Some(Value::Oid(info.oid)),
            _ => None,
        });
        [scalar, array].concat()
    };
    TYPES.iter().filter(|info| !known.contains(&info.oid)).flat_map(both).collect()
}

fn values(file: &Stored, columns: &[PostgresColumn], kept: impl Fn(&[Option<String>]) -> bool) -> Vec<Vec<Value>> {
    let indexes: Vec<usize> = columns.iter().map(|column| file.index(column.name)).collect();
    let value = |field: &Option<String>| field.as_ref().map_or(Value::Null, |text| Value::Text(text.clone()));
    let row = |row: &Vec<Option<String>>| indexes.iter().map(|index| value(&row[*index])).collect();
    file.rows.iter().filter(|fields| kept(fields)).map(row).collect()
}

fn number(row: &[Option<String>], index: usize) -> u32 {
    field(row, index).parse().unwrap_or(0)
}

fn is_true(relation: &str, file: &Stored, row: &[Option<String>]) -> bool {
    let known = |column: &str| is_known(number(row, file.index(column)));
    match relation {
        "pg_type" => VISIBLE_TYPES.contains(&number(row, 0)),
        "pg_operator" => OPERATORS.contains(&number(row, 0)),
        "pg_cast" => known("castsource") && known("casttarget"),
        "pg_range" => known("rngtypid"),
        // The one kind of index that there is, and that of tables.
        "pg_am" => matches!(field(row, file.index("amname")), "heap" | "btree"),
        "pg_opclass" => field(row, file.index("opcmethod")) == BTREE && known("opcintype"),
        "pg_opfamily" => field(row, file.index("opfmethod")) == BTREE && FAMILIES.contains(&number(row, 0)),
        "pg_amop" => field(row, file.index("amopmethod")) == BTREE && known("amoplefttype") && known("amoprighttype"),
        "pg_amproc" => {
            FAMILIES.contains(&number(row, file.index("amprocfamily")))
                && known("amproclefttype")
                && known("amprocrighttype")
        }
        "pg_language" => field(row, file.index("lanname")) != "c",
        _ => true,
    }
}

/// `pg_am.oid` of btree.
const BTREE: &str = "403";

/// Whether a column can have the type, or an array over it.
fn is_known(oid: u32) -> bool {
    oid == 0 || SqlType::from_oid(oid).is_some()
}

/// Types with a row in `pg_type`: ours, the pseudo-types, and those of the catalogs' own columns.
static VISIBLE_TYPES: LazyLock<HashSet<u32>> = LazyLock::new(|| {
    let of_columns: HashSet<&str> =
        relations().into_iter().flat_map(|relation| relation.columns).map(|column| column.type_name).collect();
    let types = &FILES["pg_type"];
    let (name, kind) = (types.index("typname"), types.index("typtype"));
    let seen = |row: &&Vec<Option<String>>| {
        // Nothing is of type bit, but pgvector's libraries look it up before they do anything.
        let looked_up = matches!(field(row, name), "bit" | "_bit");
        looked_up
            || is_known(number(row, 0))
            || matches!(field(row, kind), "p" | "d")
            || of_columns.contains(field(row, name))
    };
    types.rows.iter().filter(seen).map(|row| number(row, 0)).collect()
});

/// The operators over types that we have.
static OPERATORS: LazyLock<HashSet<u32>> = LazyLock::new(|| {
    let operators = &FILES["pg_operator"];
    let (left, right) = (operators.index("oprleft"), operators.index("oprright"));
    let ours = |row: &&Vec<Option<String>>| is_operand(number(row, left)) && is_operand(number(row, right));
    operators.rows.iter().filter(ours).map(|row| number(row, 0)).collect()
});

/// Whether an operator or function may take the type: a known one or `anyelement` and its kin.
fn is_operand(oid: u32) -> bool {
    is_known(oid) || matches!(oid, 2276 | 2277 | 2283 | 2776 | 5077 | 5078)
}

/// The families of the operator classes that there are.
static FAMILIES: LazyLock<HashSet<u32>> = LazyLock::new(|| {
    let classes = &FILES["pg_opclass"];
    let (method, family, operand) =
        (classes.index("opcmethod"), classes.index("opcfamily"), classes.index("opcintype"));
    let ours = |row: &&Vec<Option<String>>| field(row, method) == BTREE && is_known(number(row, operand));
    classes.rows.iter().filter(ours).map(|row| number(row, family)).collect()
});

/// The functions that other rows name: what types are read and printed by, what operators and casts call.
static SUPPORT: LazyLock<HashSet<u32>> = LazyLock::new(|| {
    let mut functions = HashSet::new();
    let mut add = |file: &'static str, columns: &[&str], kept: &dyn Fn(&[Option<String>]) -> bool| {
        let file = &FILES[file];
        for row in file.rows.iter().filter(|row| kept(row)) {
            functions.extend(columns.iter().map(|column| number(row, file.index(column))));
        }
    };
    let of_types = ["typinput", "typoutput", "typreceive", "typsend", "typmodin", "typmodout"];
    add("pg_type", &of_types, &|row| VISIBLE_TYPES.contains(&number(row, 0)));
    add("pg_operator", &["oprcode"], &|row| OPERATORS.contains(&number(row, 0)));
    add("pg_cast", &["castfunc"], &|row| is_true("pg_cast", &FILES["pg_cast"], row));
    functions.remove(&0);
    functions
});

/// OIDs of the functions that can be called, and of those that other rows name.
fn callable(snapshot: &Snapshot) -> HashSet<u32> {
    let mut callable = SUPPORT.clone();
    let functions = &FILES["pg_proc"];
    let (name, arguments, result) =
        (functions.index("proname"), functions.index("proargtypes"), functions.index("prorettype"));
    let named: HashSet<&str> = snapshot.functions.iter().map(String::as_str).collect();
    for row in &functions.rows {
        let mut types = field(row, arguments).split(' ').filter(|oid| !oid.is_empty());
        let ours = named.contains(field(row, name))
            && types.all(|oid| is_operand(oid.parse().unwrap_or(1)))
            && (is_operand(number(row, result)) || matches!(number(row, result), 2249 | 2275 | 2278 | 2281));
        if ours {
            callable.insert(number(row, 0));
        }
    }
    callable
}

/// `pg_type.oid` of a type's name.
pub(super) fn type_oid(name: &str) -> Option<u32> {
    static OIDS: LazyLock<HashMap<&'static str, u32>> = LazyLock::new(|| by_name("pg_type", "typname"));
    OIDS.get(name).copied()
}

/// A column of `pg_type`, of the type with this OID.
pub(super) fn of_type(oid: u32, column: &str) -> Option<&'static str> {
    static ROWS: LazyLock<HashMap<u32, usize>> = LazyLock::new(|| by_oid("pg_type"));
    let types = &FILES["pg_type"];
    types.rows[*ROWS.get(&oid)?][types.index(column)].as_deref()
}

fn by_name(file: &str, column: &str) -> HashMap<&'static str, u32> {
    FILES[file].pairs(column, "oid").filter_map(|(name, oid)| Some((name, oid.parse().ok()?))).collect()
}

fn by_oid(file: &str) -> HashMap<u32, usize> {
    FILES[file].rows.iter().enumerate().map(|(index, row)| (number(row, 0), index)).collect()
}

/// One of PostgreSQL's functions or operators.
#[derive(Clone, Copy)]
pub(super) struct Routine {
    /// Its OID.
    pub(super) oid: u32,
    /// Its name.
    pub(super) name: &'static str,
    /// Its arguments' types, by OID, with blanks between.
    pub(super) arguments: &'static str,
}

/// A function of PostgreSQL's by OID.
pub(super) fn function(oid: u32) -> Option<Routine> {
    Some(Routine { oid, name: of_function(oid, "proname")?, arguments: of_function(oid, "proargtypes")? })
}

/// A column of `pg_proc`, of the function with this OID.
pub(super) fn of_function(oid: u32, column: &str) -> Option<&'static str> {
    static ROWS: LazyLock<HashMap<u32, usize>> = LazyLock::new(|| by_oid("pg_proc"));
    let file = &FILES["pg_proc"];
    file.rows[*ROWS.get(&oid)?][file.index(column)].as_deref()
}

/// The functions of PostgreSQL's with this name.
pub(super) fn functions_named(name: &str) -> Vec<Routine> {
    let file = &FILES["pg_proc"];
    let (column, arguments) = (file.index("proname"), file.index("proargtypes"));
    let routine = |row: &'static Vec<Option<String>>| Routine {
        oid: number(row, 0),
        name: field(row, column),
        arguments: field(row, arguments),
    };
    file.rows.iter().filter(|row| field(row, column) == name).map(routine).collect()
}

/// The operators of PostgreSQL's that `wanted` finds by OID and name, with their operands' types.
pub(super) fn operators(wanted: impl Fn(u32, &str) -> bool) -> Vec<(Routine, [u32; 2])> {
    let file = &FILES["pg_operator"];
    let (name, left, right) = (file.index("oprname"), file.index("oprleft"), file.index("oprright"));
    let routine = |row: &'static Vec<Option<String>>| {
        let routine = Routine { oid: number(row, 0), name: field(row, name), arguments: "" };
        (routine, [number(row, left), number(row, right)])
    };
    file.rows.iter().filter(|row| wanted(number(row, 0), field(row, name))).map(routine).collect()
}

/// `pg_collation`'s rows as OID and name.
pub(super) fn collations() -> impl Iterator<Item = (u32, &'static str)> {
    FILES["pg_collation"].pairs("oid", "collname").map(|(oid, name)| (oid.parse().unwrap_or(0), name))
}

/// The default operator class for indexes over a type.
pub(super) fn operator_class(type_oid: u32) -> u32 {
    static CLASSES: LazyLock<HashMap<u32, u32>> = LazyLock::new(|| {
        let file = &FILES["pg_opclass"];
        let (method, operand, default) = (file.index("opcmethod"), file.index("opcintype"), file.index("opcdefault"));
        let chosen = |row: &&Vec<Option<String>>| field(row, method) == BTREE && field(row, default) == "t";
        file.rows.iter().filter(chosen).map(|row| (number(row, operand), number(row, 0))).collect()
    });
    // varchar has none of its own, and arrays share one.
    let array = SqlType::from_oid(type_oid).filter(|sql_type| matches!(sql_type, SqlType::Array(_)));
    let operand = match type_oid {
        1043 => 25,
        _ if array.is_some() => 2277,
        other => other,
    };
    CLASSES.get(&operand).copied().unwrap_or(0)
}

/// What PostgreSQL says of a setting, by the columns of `pg_settings`; None for one of ours.
pub(super) fn setting(name: &str, column: &str) -> Option<&'static str> {
    static ROWS: LazyLock<HashMap<String, usize>> = LazyLock::new(|| {
        let names = FILES["pg_settings"].pairs("name", "name").enumerate();
        names.map(|(index, (name, _))| (name.to_lowercase(), index)).collect()
    });
    let file = &FILES["pg_settings"];
    file.rows[*ROWS.get(&name.to_lowercase())?][file.index(column)].as_deref()
}

/// The keywords of PostgreSQL's grammar, each with the columns of `pg_get_keywords`.
pub(super) fn keywords() -> impl Iterator<Item = Vec<&'static str>> {
    include_str!("postgres/keywords.tsv").lines().map(|line| line.split('\t').collect())
}
