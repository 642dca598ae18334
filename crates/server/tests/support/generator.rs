//! Random tables, queries and changes that PostgreSQL and Tidewater both take. A seed always gives the same world.
//!
//! Values come from small domains with many NULLs and duplicates, since that is where answers go wrong. Nothing generated can
//! overflow, divide by zero or depend on an order, so that an error always means something.

use std::fmt::Write;

use crate::random::Random;

/// One world: statements that make the tables, queries over them, and changes to them. The last changes delete everything.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) tables: Vec<String>,
    pub(crate) schema: Vec<String>,
    pub(crate) queries: Vec<String>,
    /// Queries that PostgreSQL does not know.
    pub(crate) own_queries: Vec<String>,
    pub(crate) changes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Int,
    Bigint,
    Text,
    Numeric,
    Bool,
    Timestamp,
}

/// A column in scope: what to write for it, and its type.
#[derive(Clone)]
struct Column {
    name: String,
    of: Type,
}

const TYPES: [Type; 6] = [Type::Int, Type::Bigint, Type::Text, Type::Numeric, Type::Bool, Type::Timestamp];
const CHANGES: usize = 6;

impl World {
    pub(crate) fn new(seed: u64, query_count: usize) -> World {
        let mut random = Random(seed);
        let tables: Vec<String> = (0..3).map(|table| format!("t{table}")).collect();
        let schema = tables.iter().enumerate().map(|(index, table)| create_table(table, index == 0)).collect();
        let mut changes: Vec<String> = vec![insert(&mut random, 0), insert(&mut random, 1), insert(&mut random, 2)];
        changes.extend((0..CHANGES).map(|_| change(&mut random)));
        changes.push(tables.iter().map(|table| format!("DELETE FROM {table}")).collect::<Vec<_>>().join("; "));
        let mut generator = Generator { random, aliases: 0, bindings: Vec::new() };
        let queries = (0..query_count).map(|_| generator.query(2, &[]).0).collect();
        let own_queries = (0..query_count.div_ceil(3)).map(|_| generator.mutually_recursive()).collect();
        World { seed, tables, schema, queries, own_queries, changes }
    }
}

fn columns(table: &str) -> Vec<Column> {
    let column = |name: &str, of| Column { name: format!("{table}.{name}"), of };
    let mut columns = vec![column("k", Type::Int)];
    columns.extend(["a", "b", "c", "d", "e", "f"].iter().zip(TYPES).map(|(name, of)| column(name, of)));
    columns
}

fn type_name(of: Type) -> &'static str {
    match of {
        Type::Int => "int",
        Type::Bigint => "bigint",
        Type::Text => "text",
        Type::Numeric => "numeric",
        Type::Bool => "boolean",
        Type::Timestamp => "timestamp",
    }
}

/// The first table has a primary key, the others may hold a row twice.
fn create_table(table: &str, keyed: bool) -> String {
    let key = if keyed { " PRIMARY KEY" } else { "" };
    format!("CREATE TABLE {table} (k int{key}, a int, b bigint, c text, d numeric(6,2), e boolean, f timestamp)")
}

fn insert(random: &mut Random, table: usize) -> String {
    let rows: Vec<String> = (0..random.below(8) + 1)
        .map(|row| {
            // Keys that are new to the keyed table most of the time; a clash must be refused by both.
            let key = if table == 0 { random.below(40) * 10 + row } else { random.below(5) };
            let values: Vec<String> = TYPES.iter().map(|of| random.value(*of)).collect();
            format!("({key}, {})", values.join(", "))
        })
        .collect();
    format!("INSERT INTO t{table} VALUES {}", rows.join(", "))
}

/// One statement, or several that take effect at one time.
fn change(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("{}; {}", statement(random), statement(random)),
        _ => statement(random),
    }
}

fn statement(random: &mut Random) -> String {
    let table = random.below(3) as usize;
    let condition =
        random.pick(&["a = 1", "b > 1", "c = 'ash'", "e", "d IS NULL", "k < 20", "f IS NOT NULL AND a < 3"]);
    match random.below(5) {
        0 | 1 => insert(random, table),
        2 => format!("DELETE FROM t{table} WHERE {condition}"),
        3 => format!("UPDATE t{table} SET a = a + 1, c = 'elm' WHERE {condition}"),
        _ => {
            let (d, e) = (random.value(Type::Numeric), random.value(Type::Bool));
            format!("UPDATE t{table} SET d = {d}, e = {e}, b = NULL WHERE {condition}")
        }
    }
}

struct Generator {
    random: Random,
    aliases: usize,
    /// The relations of the WITH MUTUALLY RECURSIVE around, and the types of their columns.
    bindings: Vec<(String, Vec<Type>)>,
}

impl Generator {
    /// A query and the types of its columns, which are named c0, c1, ..; `outer` are columns it may be correlated with.
    fn query(&mut self, depth: usize, outer: &[Column]) -> (String, Vec<Type>) {
        if depth > 0 && self.random.chance(12) {
            return self.set_operation(depth, outer);
        }
        if depth > 0 && outer.is_empty() && self.random.chance(10) {
            return self.recursive();
        }
        let (from, scope) = self.from(depth);
        let mut conditions: Vec<String> = Vec::new();
        if self.random.chance(60) {
            conditions.push(self.condition(&scope, outer, depth));
        }
        if !outer.is_empty() {
            conditions.push(self.comparison(&scope, outer));
        }
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        if outer.is_empty() && self.random.chance(25) {
            self.windowed(from, filter, &scope)
        } else if outer.is_empty() && self.random.chance(45) {
            self.grouped(from, filter, &scope)
        } else {
            self.plain(from, filter, &scope)
        }
    }

    fn plain(&mut self, from: String, filter: String, scope: &[Column]) -> (String, Vec<Type>) {
        let distinct = if self.random.chance(25) { "DISTINCT " } else { "" };
        let mut types = Vec::new();
        let mut list = Vec::new();
        for index in 0..self.random.below(3) + 1 {
            let (text, of) = self.scalar(scope);
            list.push(format!("{text} AS c{index}"));
            types.push(of);
        }
        (format!("SELECT {distinct}{} FROM {from}{filter}", list.join(", ")), types)
    }

    fn grouped(&mut self, from: String, filter: String, scope: &[Column]) -> (String, Vec<Type>) {
        let keys: Vec<Column> = (0..self.random.below(3)).map(|_| self.random.pick(scope).clone()).collect();
        let mut types: Vec<Type> = keys.iter().map(|key| key.of).collect();
        let mut list: Vec<String> =
            keys.iter().enumerate().map(|(index, key)| format!("{} AS c{index}", key.name)).collect();
        for _ in 0..self.random.below(3) + 1 {
            let (text, of) = self.aggregate(scope);
            list.push(format!("{text} AS c{}", list.len()));
            types.push(of);
        }
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        let group = match names.as_slice() {
            [] => String::new(),
            [first, rest @ ..] if self.random.chance(25) => {
                let all = names.join(", ");
                list.push(format!("grouping({all}) AS c{}", list.len()));
                types.push(Type::Int);
                match self.random.below(4) {
                    0 => format!(" GROUP BY ROLLUP ({all})"),
                    1 => format!(" GROUP BY CUBE ({all})"),
                    2 if !rest.is_empty() => format!(" GROUP BY {first}, ROLLUP ({})", rest.join(", ")),
                    _ => format!(" GROUP BY GROUPING SETS (({all}), ({first}), (), ({first}))"),
                }
            }
            _ => format!(" GROUP BY {}", names.join(", ")),
        };
        let having = if self.random.chance(20) { " HAVING count(*) > 1" } else { "" };
        (format!("SELECT {} FROM {from}{filter}{group}{having}", list.join(", ")), types)
    }

    /// Window functions beside columns; sometimes only the rows with small numbers.
    fn windowed(&mut self, from: String, filter: String, scope: &[Column]) -> (String, Vec<Type>) {
        let mut types = Vec::new();
        let mut list = Vec::new();
        for _ in 0..self.random.below(3) + 1 {
            let column = self.random.pick(scope).clone();
            list.push(format!("{} AS c{}", column.name, list.len()));
            types.push(column.of);
        }
        // One for all calls that number rows: rows that are equal get numbers of their own, and two orders of them would
        // have to be matched.
        let all: Vec<String> = scope.iter().map(|column| format!("{}{}", column.name, self.direction())).collect();
        let numbering = format!("{} ORDER BY {}", self.partition(scope), all.join(", "));
        for _ in 0..self.random.below(3) + 1 {
            let (text, of) = self.window_call(scope, &numbering);
            list.push(format!("{text} AS c{}", list.len()));
            types.push(of);
        }
        let query = format!("SELECT {} FROM {from}{filter}", list.join(", "));
        match types.last() {
            Some(Type::Bigint) if self.random.chance(40) => {
                let alias = format!("x{}", self.aliases);
                self.aliases += 1;
                let (last, bound) = (types.len() - 1, self.random.below(4));
                (format!("SELECT {alias}.* FROM ({query}) AS {alias} WHERE {alias}.c{last} <= {bound}"), types)
            }
            _ => (query, types),
        }
    }

    /// A window function whose answer does not depend on the order of rows that tie: where positions count, the order is by
    /// all columns.
    fn window_call(&mut self, scope: &[Column], numbering: &str) -> (String, Type) {
        let column = self.random.pick(scope).clone();
        let name = &column.name;
        let partition = self.partition(scope);
        let some = format!("{}{}", self.random.pick(scope).name, self.direction());
        let small = self.random.below(3) + 1;
        let rows = self
            .random
            .pick(&[
                "UNBOUNDED PRECEDING AND CURRENT ROW",
                "1 PRECEDING AND 1 FOLLOWING",
                "2 PRECEDING AND CURRENT ROW",
                "CURRENT ROW AND UNBOUNDED FOLLOWING",
                "1 FOLLOWING AND 2 FOLLOWING",
                "3 PRECEDING AND 1 PRECEDING",
            ])
            .to_string();
        let excluded =
            self.random.pick(&["", "", " EXCLUDE CURRENT ROW", " EXCLUDE GROUP", " EXCLUDE TIES"]).to_string();
        // Of a frame without the current row ties are the group. PostgreSQL's last_value takes that row to be there.
        let excluded = match rows.ends_with("2 FOLLOWING") || rows.ends_with("1 PRECEDING") {
            true => excluded.replace("TIES", "GROUP"),
            false => excluded,
        };
        let by_rows = format!("({numbering} ROWS BETWEEN {rows}{excluded})");
        match self.random.below(15) {
            0 => (format!("row_number() OVER ({numbering})"), Type::Bigint),
            1 => (format!("rank() OVER ({partition} ORDER BY {some})"), Type::Bigint),
            2 => (format!("dense_rank() OVER ({partition} ORDER BY {some})"), Type::Bigint),
            3 => {
                let function = self.random.pick(&["percent_rank", "cume_dist"]).to_string();
                (format!("({function}() OVER ({partition} ORDER BY {some}) > 0.4)"), Type::Bool)
            }
            4 => (format!("ntile({}) OVER ({numbering})", small + 1), Type::Int),
            5 => {
                let function = self.random.pick(&["lag", "lead"]).to_string();
                (format!("{function}({name}, {small}) OVER ({numbering})"), column.of)
            }
            6 => {
                let function = self.random.pick(&["first_value", "last_value"]).to_string();
                (format!("{function}({name}) OVER {by_rows}"), column.of)
            }
            7 => (format!("nth_value({name}, {small}) OVER {by_rows}"), column.of),
            8 => {
                let (aggregate, of) = self.window_aggregate(scope);
                (format!("{aggregate} OVER ({partition})"), of)
            }
            9 => {
                let (aggregate, of) = self.window_aggregate(scope);
                (format!("{aggregate} OVER {by_rows}"), of)
            }
            10 => {
                let (aggregate, of) = self.window_aggregate(scope);
                let groups =
                    self.random.pick(&["1 PRECEDING AND 1 FOLLOWING", "2 PRECEDING AND 1 PRECEDING"]).to_string();
                (format!("{aggregate} OVER ({partition} ORDER BY {some} GROUPS BETWEEN {groups}{excluded})"), of)
            }
            11 | 12 => match self.range(scope) {
                Some(range) => {
                    let (aggregate, of) = self.window_aggregate(scope);
                    (format!("{aggregate} OVER ({partition} ORDER BY {range}{excluded})"), of)
                }
                None => (format!("count(*) OVER ({partition} ORDER BY {some})"), Type::Bigint),
            },
            13 => {
                let function = self.random.pick(&["lag", "lead"]).to_string();
                let offset = self.random.pick(scope).clone();
                let offset = if offset.of == Type::Int { offset.name } else { "2".to_string() };
                let fitting: Vec<Column> = scope.iter().filter(|other| other.of == column.of).cloned().collect();
                let default = self.random.pick(&fitting).name.clone();
                (format!("{function}({name}, {offset}, {default}) OVER ({numbering})"), column.of)
            }
            _ => {
                let (aggregate, of) = self.window_aggregate(scope);
                (format!("{aggregate} OVER ({partition} ORDER BY {some})"), of)
            }
        }
    }

    /// An order by one column, and a frame of a distance in it; None where no column is measured.
    fn range(&mut self, scope: &[Column]) -> Option<String> {
        let measured = |column: &&Column| !matches!(column.of, Type::Text | Type::Bool);
        let columns: Vec<Column> = scope.iter().filter(measured).cloned().collect();
        if columns.is_empty() {
            return None;
        }
        let column = self.random.pick(&columns).clone();
        let (near, far) = match column.of {
            Type::Timestamp => ("interval '1 day'", "interval '1 day 12 hours'"),
            Type::Numeric => ("0.25", "1.5"),
            _ => ("1", "2"),
        };
        let frame = match self.random.below(5) {
            0 => format!("{far} PRECEDING AND {near} FOLLOWING"),
            1 => format!("{near} PRECEDING AND CURRENT ROW"),
            2 => format!("UNBOUNDED PRECEDING AND {near} PRECEDING"),
            3 => format!("{near} FOLLOWING AND {far} FOLLOWING"),
            _ => format!("{near} FOLLOWING AND UNBOUNDED FOLLOWING"),
        };
        Some(format!("{}{} RANGE BETWEEN {frame}", column.name, self.direction()))
    }

    fn partition(&mut self, scope: &[Column]) -> String {
        let columns: Vec<String> = (0..self.random.below(3)).map(|_| self.random.pick(scope).name.clone()).collect();
        if columns.is_empty() { String::new() } else { format!("PARTITION BY {}", columns.join(", ")) }
    }

    fn direction(&mut self) -> &'static str {
        const DIRECTIONS: [&str; 4] = ["", "", " DESC", " NULLS FIRST"];
        let direction: &&str = self.random.pick(&DIRECTIONS);
        direction
    }

    /// An aggregate that a window takes: without DISTINCT.
    fn window_aggregate(&mut self, scope: &[Column]) -> (String, Type) {
        loop {
            let (aggregate, of) = self.aggregate(scope);
            // Nor an order of its own, and the call comes last.
            let plain = ["DISTINCT ", "ORDER BY", "round(", "::text"].iter().all(|word| !aggregate.contains(word));
            if plain {
                return (aggregate, of);
            }
        }
    }

    fn aggregate(&mut self, scope: &[Column]) -> (String, Type) {
        let column = self.random.pick(scope).clone();
        let distinct = if self.random.chance(25) { "DISTINCT " } else { "" };
        let filter =
            if self.random.chance(15) { format!(" FILTER (WHERE {})", self.simple(scope)) } else { String::new() };
        let name = &column.name;
        match (self.random.below(15), column.of) {
            (0, _) => (format!("count(*){filter}"), Type::Bigint),
            (11, _) => {
                let function = self.random.pick(&["json_agg", "jsonb_agg"]).to_string();
                let order = self.random.pick(&["", " DESC", " NULLS FIRST"]);
                (format!("{function}({distinct}{name} ORDER BY {name}{order}){filter}::text"), Type::Text)
            }
            (12, Type::Int | Type::Bigint) => {
                let other = self.random.pick(scope).clone();
                let other = if matches!(other.of, Type::Int | Type::Bigint) { other.name } else { name.clone() };
                match self.random.below(3) {
                    0 => (format!("regr_count({distinct}{name}, {other}){filter}"), Type::Bigint),
                    _ => {
                        let functions =
                            ["corr", "covar_pop", "covar_samp", "regr_slope", "regr_intercept", "regr_r2", "regr_sxy"];
                        let function = self.random.pick(&functions);
                        (format!("round({function}({distinct}{name}, {other}){filter}::numeric, 6)"), Type::Numeric)
                    }
                }
            }
            (13, of) => {
                let order = self.random.pick(&["", " DESC", " NULLS FIRST"]);
                let within = format!("({}) WITHIN GROUP (ORDER BY {name}{order}){filter}", self.random.typed(of));
                match self.random.below(3) {
                    0 => (format!("rank{within}"), Type::Bigint),
                    1 => (format!("dense_rank{within}"), Type::Bigint),
                    _ => (format!("({}{within} > 0.4)", self.random.pick(&["percent_rank", "cume_dist"])), Type::Bool),
                }
            }
            (6, Type::Text) => (format!("string_agg({distinct}{name}, '-' ORDER BY {name}){filter}"), Type::Text),
            (8, Type::Int) => {
                let function = self.random.pick(&["bit_and", "bit_or", "bit_xor"]);
                (format!("{function}({name}){filter}"), Type::Int)
            }
            (9, Type::Int | Type::Bigint | Type::Numeric) => {
                let function = self.random.pick(&["var_pop", "var_samp", "stddev_pop", "stddev_samp"]);
                (format!("{function}({distinct}{name}){filter}"), Type::Numeric)
            }
            (8 | 9, of) => (format!("mode() WITHIN GROUP (ORDER BY {name}){filter}"), of),
            (10, of) => {
                let (fraction, order) =
                    (self.random.pick(&["0", "0.25", "0.5", "1"]), self.random.pick(&["", " DESC"]));
                (format!("percentile_disc({fraction}) WITHIN GROUP (ORDER BY {name}{order}){filter}"), of)
            }
            (6 | 7, _) => {
                let order = self.random.pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
                (format!("array_agg({distinct}{name} ORDER BY {name}{order}){filter}::text"), Type::Text)
            }
            (1, Type::Bool) => (format!("bool_or({name}){filter}"), Type::Bool),
            (2, Type::Bool) => (format!("bool_and({name}){filter}"), Type::Bool),
            (1 | 2, Type::Int) => (format!("sum({distinct}{name}){filter}"), Type::Bigint),
            (1, Type::Bigint | Type::Numeric) => (format!("sum({distinct}{name}){filter}"), Type::Numeric),
            (2, Type::Bigint | Type::Numeric) => (format!("avg({distinct}{name}){filter}"), Type::Numeric),
            (3 | 4, of) if of != Type::Bool => {
                let function = self.random.pick(&["min", "max"]);
                (format!("{function}({name}){filter}"), of)
            }
            _ => (format!("count({distinct}{name}){filter}"), Type::Bigint),
        }
    }

    fn set_operation(&mut self, depth: usize, outer: &[Column]) -> (String, Vec<Type>) {
        let (left, types) = self.plain_of(depth - 1, outer, None);
        let (right, _) = self.plain_of(depth - 1, outer, Some(&types));
        let operator = self.random.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
        let (left, right) = (self.at_one_scale(left, &types), self.at_one_scale(right, &types));
        (format!("{left} {operator} {right}"), types)
    }

    /// The query with numbers of one scale: of 1.0 and 1.00, which are equal, a set keeps any one.
    fn at_one_scale(&mut self, query: String, types: &[Type]) -> String {
        if !types.contains(&Type::Numeric) {
            return query;
        }
        let alias = format!("x{}", self.aliases);
        self.aliases += 1;
        let column = |(index, of): (usize, &Type)| match of {
            Type::Numeric => format!("c{index}::numeric(30,6) AS c{index}"),
            _ => format!("c{index}"),
        };
        let list: Vec<String> = types.iter().enumerate().map(column).collect();
        format!("SELECT {} FROM ({query}) AS {alias}", list.join(", "))
    }

    /// A recursion over rows of a table: with UNION until nothing is new, with UNION ALL for some steps.
    fn recursive(&mut self) -> (String, Vec<Type>) {
        let name = format!("r{}", self.aliases);
        self.aliases += 1;
        let (from, scope) = self.from(0);
        let start: Vec<Column> = (0..self.random.below(2) + 1).map(|_| self.random.pick(&scope).clone()).collect();
        let filter =
            if self.random.chance(60) { format!(" WHERE {}", self.condition(&scope, &[], 0)) } else { String::new() };
        let mut types: Vec<Type> = start.iter().map(|column| column.of).collect();
        let own: Vec<Column> =
            types.iter().enumerate().map(|(index, of)| Column { name: format!("{name}.c{index}"), of: *of }).collect();
        let (other, other_scope) = self.item(0);
        let Some(equality) = self.equality(&own, &other_scope) else { return self.plain(from, filter, &scope) };
        let both: Vec<Column> = own.iter().chain(&other_scope).cloned().collect();
        let fitting = |of: Type| both.iter().filter(|column| column.of == of).collect::<Vec<_>>();
        let step: Vec<&Column> = types.iter().map(|of| *self.random.pick(&fitting(*of))).collect();
        let list = |columns: &mut dyn Iterator<Item = &Column>| {
            columns.enumerate().map(|(index, column)| format!("{} AS c{index}", column.name)).collect::<Vec<_>>()
        };
        let (mut start, mut step) = (list(&mut start.iter()), list(&mut step.into_iter()));
        let mut conditions = Vec::new();
        if self.random.chance(40) {
            conditions.push(self.condition(&both, &[], 1));
        }
        let union = if self.random.chance(50) { "UNION" } else { "UNION ALL" };
        if union == "UNION ALL" {
            let depth = types.len();
            start.push(format!("0 AS c{depth}"));
            step.push(format!("{name}.c{depth} + 1 AS c{depth}"));
            conditions.push(format!("{name}.c{depth} < 3"));
            types.push(Type::Int);
        }
        let join = self.random.pick(&["JOIN", "JOIN", "LEFT JOIN"]);
        let step_filter =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let columns: Vec<String> = (0..types.len()).map(|index| format!("c{index}")).collect();
        let (start, step, columns) = (start.join(", "), step.join(", "), columns.join(", "));
        let text = format!(
            "WITH RECURSIVE {name}({columns}) AS (SELECT {start} FROM {from}{filter} {union} SELECT {step} FROM {name} {join} {other} ON {equality}{step_filter}) SELECT {columns} FROM {name}"
        );
        (text, types)
    }

    /// Relations that read each other and the tables, for a few iterations: what they are then is definite even where they
    /// would never come to rest. Each has a row once at most, so that there are never many.
    fn mutually_recursive(&mut self) -> String {
        let types = [Type::Int, Type::Int, Type::Bigint, Type::Text, Type::Bool, Type::Timestamp];
        for _ in 0..self.random.below(2) + 1 {
            let types = (0..self.random.below(2) + 1).map(|_| *self.random.pick(&types)).collect();
            self.bindings.push((format!("r{}", self.aliases), types));
            self.aliases += 1;
        }
        let bindings: Vec<String> =
            self.bindings.clone().iter().map(|(name, types)| self.binding(name, types)).collect();
        let (body, _) = self.query(1, &[]);
        self.bindings.clear();
        let limit = self.random.below(4) + 1;
        format!(
            "WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT {limit}) {} SELECT * FROM ({body}) AS q",
            bindings.join(", ")
        )
    }

    fn binding(&mut self, name: &str, types: &[Type]) -> String {
        let (left, _) = self.plain_of(1, &[], Some(types));
        let (right, _) = self.plain_of(0, &[], Some(types));
        let columns: Vec<String> =
            types.iter().enumerate().map(|(index, of)| format!("c{index} {}", type_name(*of))).collect();
        let both = format!("{left} UNION {right}");
        let query = match (self.random.below(6), types) {
            (0, _) => format!("{left} EXCEPT {right}"),
            (1, _) => format!("{left} INTERSECT {right}"),
            (2, [_, Type::Bool]) => format!("SELECT c0, bool_and(c1) FROM ({left} UNION ALL {right}) AS u GROUP BY c0"),
            (2, [_, _]) => format!("SELECT c0, max(c1) FROM ({left} UNION ALL {right}) AS u GROUP BY c0"),
            (3, [_, Type::Bigint]) => format!("SELECT c0, count(*) FROM ({both}) AS u GROUP BY c0"),
            (3, [Type::Int]) => format!("SELECT count(DISTINCT c0)::int FROM ({both}) AS u"),
            (3, [_, _]) => format!("SELECT DISTINCT ON (c0) c0, c1 FROM ({both}) AS u ORDER BY c0, c1"),
            (4, [Type::Bigint]) => format!("SELECT sum(c0)::bigint % 7 FROM ({both}) AS u"),
            (4, [_, Type::Text]) => {
                format!("SELECT c0, max(c1) || count(*)::text || min(c1) FROM ({both}) AS u GROUP BY c0")
            }
            _ => both,
        };
        format!("{name} ({}) AS ({query})", columns.join(", "))
    }

    /// A SELECT with columns of the given types, or of any.
    fn plain_of(&mut self, depth: usize, outer: &[Column], types: Option<&[Type]>) -> (String, Vec<Type>) {
        let (from, scope) = self.from(depth);
        let filter =
            if self.random.chance(60) { format!(" WHERE {}", self.condition(&scope, outer, 0)) } else { String::new() };
        let Some(types) = types else { return self.plain(from, filter, &scope) };
        let list: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(index, of)| {
                let fitting: Vec<Column> = scope.iter().filter(|column| column.of == *of).cloned().collect();
                let text =
                    if fitting.is_empty() { self.random.typed(*of) } else { self.random.pick(&fitting).name.clone() };
                format!("{text} AS c{index}")
            })
            .collect();
        (format!("SELECT {} FROM {from}{filter}", list.join(", ")), types.to_vec())
    }

    fn from(&mut self, depth: usize) -> (String, Vec<Column>) {
        if self.random.chance(15) {
            return self.many();
        }
        let (mut text, mut scope) = self.item(depth);
        for _ in 0..[0, 0, 1, 1, 2][self.random.below(5) as usize] {
            if self.random.chance(15) {
                let (lateral, columns) = self.lateral(&scope);
                text += &lateral;
                scope.extend(columns);
                continue;
            }
            let (right, right_scope) = self.item(depth.saturating_sub(1));
            let kind = self.random.pick(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
            let Some(equality) = self.equality(&scope, &right_scope) else { continue };
            let condition = match *kind {
                "CROSS JOIN" => String::new(),
                // PostgreSQL takes only plain equalities there.
                "FULL JOIN" => format!(" ON {equality}"),
                _ if self.random.chance(25) => format!(" ON {equality} AND {}", self.comparison(&scope, &right_scope)),
                "JOIN" if self.random.chance(15) => format!(" ON {}", self.comparison(&scope, &right_scope)),
                _ => format!(" ON {equality}"),
            };
            write!(text, " {kind} {right}{condition}").expect("writing to memory");
            scope.extend(right_scope);
        }
        (text, scope)
    }

    /// Three or four relations, each equal to one before it, and maybe to another.
    fn many(&mut self) -> (String, Vec<Column>) {
        let (mut text, mut scope) = self.item(0);
        for _ in 0..self.random.below(2) + 2 {
            let (right, right_scope) = self.item(0);
            let Some(mut condition) = self.equality(&scope, &right_scope) else { continue };
            if self.random.chance(50) {
                let further = match self.random.below(3) {
                    0 => self.comparison(&scope, &right_scope),
                    1 => self.simple(&right_scope),
                    _ => self.equality(&scope, &right_scope).unwrap_or_else(|| "true".to_owned()),
                };
                write!(condition, " AND {further}").expect("writing to memory");
            }
            write!(text, " JOIN {right} ON {condition}").expect("writing to memory");
            scope.extend(right_scope);
        }
        (text, scope)
    }

    /// A join with rows that depend on the row so far: some of a table's, or a function's.
    fn lateral(&mut self, scope: &[Column]) -> (String, Vec<Column>) {
        let (alias, inner) = (format!("x{}", self.aliases), format!("x{}", self.aliases + 1));
        self.aliases += 2;
        let column = |name: &str, of| Column { name: format!("{alias}.{name}"), of };
        let numbers: Vec<Column> = scope.iter().filter(|column| column.of == Type::Int).cloned().collect();
        let join = self.random.pick(&["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"]).to_string();
        let on = if join.starts_with("LEFT") { " ON true" } else { "" };
        if !numbers.is_empty() && self.random.chance(50) {
            let (stop, other) = (self.random.pick(&numbers).name.clone(), self.random.pick(&numbers).name.clone());
            let rows = match self.random.below(3) {
                0 => format!("generate_series(0, {stop}) WITH ORDINALITY AS {alias} (c0, c1)"),
                1 => format!("unnest(ARRAY[{stop}, {other}], ARRAY[7::bigint]) AS {alias} (c0, c1)"),
                _ => format!(
                    "ROWS FROM (generate_series(1, {stop}), generate_series({other}::bigint, 2)) AS {alias} (c0, c1)"
                ),
            };
            return (format!(" {join} {rows}{on}"), vec![column("c0", Type::Int), column("c1", Type::Bigint)]);
        }
        // The one table whose rows have an order without ties.
        let condition = self.comparison(&columns(&inner), scope);
        let (order, limit) = (self.random.pick(&["b", "c DESC", "d NULLS FIRST"]), self.random.below(3) + 1);
        let rows = format!(
            "(SELECT {inner}.k AS c0, {inner}.b AS c1 FROM t0 AS {inner} WHERE {condition} \
             ORDER BY {inner}.{order}, {inner}.k LIMIT {limit}) AS {alias}"
        );
        (format!(" {join} {rows}{on}"), vec![column("c0", Type::Int), column("c1", Type::Bigint)])
    }

    fn item(&mut self, depth: usize) -> (String, Vec<Column>) {
        let alias = format!("x{}", self.aliases);
        self.aliases += 1;
        if depth > 0 && self.random.chance(25) {
            let (query, types) = self.query(depth - 1, &[]);
            let scope =
                types.iter().enumerate().map(|(index, of)| Column { name: format!("{alias}.c{index}"), of: *of });
            return (format!("({query}) AS {alias}"), scope.collect());
        }
        if !self.bindings.is_empty() && self.random.chance(50) {
            let (name, types) = self.random.pick(&self.bindings).clone();
            let column = |(index, of)| Column { name: format!("{alias}.c{index}"), of };
            return (format!("{name} AS {alias}"), types.into_iter().enumerate().map(column).collect());
        }
        (format!("t{} AS {alias}", self.random.below(3)), columns(&alias))
    }

    fn equality(&mut self, left: &[Column], right: &[Column]) -> Option<String> {
        let pairs: Vec<(&Column, &Column)> =
            left.iter().flat_map(|l| right.iter().filter(|r| r.of == l.of).map(move |r| (l, r))).collect();
        (!pairs.is_empty()).then(|| {
            let (left, right) = self.random.pick(&pairs);
            format!("{} = {}", left.name, right.name)
        })
    }

    /// A comparison between a column of each side, or with a constant where no types fit.
    fn comparison(&mut self, left: &[Column], right: &[Column]) -> String {
        let operator = self.random.pick(&["=", "<>", "<", ">=", "IS DISTINCT FROM"]);
        let pairs: Vec<(&Column, &Column)> =
            left.iter().flat_map(|l| right.iter().filter(|r| r.of == l.of).map(move |r| (l, r))).collect();
        match pairs.is_empty() {
            true => self.simple(left),
            false => {
                let (left, right) = self.random.pick(&pairs);
                format!("{} {operator} {}", left.name, right.name)
            }
        }
    }

    fn simple(&mut self, scope: &[Column]) -> String {
        let column = self.random.pick(scope).clone();
        match self.random.below(4) {
            0 => format!("{} IS NULL", column.name),
            1 => format!("{} IN ({}, {})", column.name, self.random.typed(column.of), self.random.typed(column.of)),
            _ => {
                let operator = self.random.pick(&["=", "<>", "<", "<=", ">", ">="]);
                format!("{} {operator} {}", column.name, self.random.typed(column.of))
            }
        }
    }

    fn condition(&mut self, scope: &[Column], outer: &[Column], depth: usize) -> String {
        match self.random.below(10) {
            0 => format!("NOT ({})", self.simple(scope)),
            1 => format!("({} OR {})", self.simple(scope), self.simple(scope)),
            2 => format!("({} AND {})", self.simple(scope), self.simple(scope)),
            3 if depth > 0 => {
                let (query, _) = self.query(0, scope);
                format!("{}EXISTS ({query})", self.random.pick(&["", "NOT "]))
            }
            4 if depth > 0 => {
                let column = self.random.pick(scope).clone();
                let correlated = if self.random.chance(50) { scope } else { &[] };
                let (query, _) = self.plain_of(0, correlated, Some(&[column.of]));
                format!("{} {}IN ({query})", column.name, self.random.pick(&["", "NOT "]))
            }
            5 if depth > 0 => {
                let (query, of) = self.scalar_subquery(scope);
                let fitting: Vec<Column> = scope.iter().filter(|column| column.of == of).cloned().collect();
                match fitting.is_empty() {
                    true => self.simple(scope),
                    false => format!("{} >= {query}", self.random.pick(&fitting).name),
                }
            }
            6 if !outer.is_empty() => self.comparison(scope, outer),
            7 if depth > 0 => {
                let pair = [self.random.pick(scope).clone(), self.random.pick(scope).clone()];
                let (query, _) = self.plain_of(0, &[], Some(&[pair[0].of, pair[1].of]));
                format!("({}, {}) {}IN ({query})", pair[0].name, pair[1].name, self.random.pick(&["", "NOT "]))
            }
            8 => {
                let pair = [self.random.pick(scope).clone(), self.random.pick(scope).clone()];
                let operator = self.random.pick(&["=", "<>", "<", "<=", ">", ">=", "IS NOT DISTINCT FROM"]);
                let values = (self.random.typed(pair[0].of), self.random.typed(pair[1].of));
                format!("ROW({}, {}) {operator} ROW({}, {})", pair[0].name, pair[1].name, values.0, values.1)
            }
            _ => self.simple(scope),
        }
    }

    /// An aggregate over a table, correlated with the scope half of the time: one row always.
    fn scalar_subquery(&mut self, scope: &[Column]) -> (String, Type) {
        let (from, inner) = self.item(0);
        let (aggregate, of) = self.aggregate(&inner);
        let filter =
            if self.random.chance(50) { format!(" WHERE {}", self.comparison(&inner, scope)) } else { String::new() };
        (format!("(SELECT {aggregate} FROM {from}{filter})"), of)
    }

    fn scalar(&mut self, scope: &[Column]) -> (String, Type) {
        let column = self.random.pick(scope).clone();
        let name = &column.name;
        match (self.random.below(12), column.of) {
            (0, Type::Int) => (format!("{name} + 1"), Type::Int),
            (1, Type::Int) => (format!("{name} * 2 - 3"), Type::Int),
            (0, Type::Numeric) => (format!("{name} * 1.5"), Type::Numeric),
            (0, Type::Text) => (format!("upper({name})"), Type::Text),
            (1, Type::Text) => (format!("{name} || '!'"), Type::Text),
            (2, Type::Text) => (format!("length({name})"), Type::Int),
            (3, of) => (format!("coalesce({name}, {})", self.random.typed(of)), of),
            (4, of) => (format!("CASE WHEN {} THEN {name} END", self.simple(scope)), of),
            (5, _) => (format!("({name} IS NULL)"), Type::Bool),
            (6, _) => self.scalar_subquery(scope),
            (_, of) => (name.clone(), of),
        }
    }
}

impl Random {
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, X>(&mut self, items: &'a [X]) -> &'a X {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A literal for a column of this type; one in five is NULL.
    fn value(&mut self, of: Type) -> String {
        if self.chance(20) { "NULL".to_string() } else { self.typed(of) }
    }

    /// A literal of exactly this type, never NULL.
    fn typed(&mut self, of: Type) -> String {
        match of {
            Type::Int => self.below(5).to_string(),
            Type::Bigint => format!("{}::bigint", self.below(5)),
            Type::Text => format!("'{}'::text", self.pick(&["ash", "elm", "Oak", "fir", ""])),
            Type::Numeric => format!("{}.{:02}::numeric(6,2)", self.below(4), self.below(4) * 25),
            Type::Bool => self.pick(&["true", "false"]).to_string(),
            Type::Timestamp => format!("timestamp '2026-01-0{} 10:00:00'", self.below(4) + 1),
        }
    }
}
