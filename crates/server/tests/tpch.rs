//! TPC-H: its 22 queries kept as views over generated tables, equal to PostgreSQL's answers after every step of the refresh
//! functions RF1, which inserts new orders, and RF2, which deletes old ones.
//!
//! Tables and queries are those of `sql-tests/views/tpch.slt`, whose constants let every query have an answer on little data;
//! where the specification's validation constants differ, its query is a view of its own. The data are dbgen's. A refresh
//! is one thousandth of the orders, and its new orders take keys that dbgen leaves free between the old ones; it is
//! applied in small parts, each a transaction.
//!
//! The scale factor is 0.01; with `TIDEWATER_LONG=1` it is 0.1, in many more steps.

#[path = "support/ask.rs"]
mod ask;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use ask::{rows, run};
use bytes::Bytes;
use futures::SinkExt;
use postgres::Postgres;
use server::Server;
use sqllogictest::{DefaultColumnType, Record};
use tokio_postgres::Client;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// A refresh inserts and deletes this part of the orders.
const REFRESHES: i32 = 1000;

/// How much is done.
struct Size {
    scale: f64,
    /// Pairs of RF1 and RF2.
    pairs: i32,
    /// Steps a refresh is cut into.
    parts: usize,
}

/// Without these PostgreSQL looks at all rows for each row of the correlated subqueries.
const POSTGRES_INDEXES: &str = "CREATE INDEX ON lineitem (l_partkey, l_suppkey); CREATE INDEX ON orders (o_custkey); \
                                CREATE INDEX ON partsupp (ps_suppkey); ANALYZE";

/// Where a text has other constants than the specification's validation: its view, and what takes the place of what.
const VALIDATION: &[(&str, &[(&str, &str)])] = &[
    ("q2", &[("p_size<25", "p_size=15")]),
    ("q5", &[("interval '5' year", "interval '1' year")]),
    ("q8", &[("p_type like 'ECONOMY%'", "p_type='ECONOMY ANODIZED STEEL'")]),
    ("q10", &[("interval '4' year", "interval '3' month")]),
    ("q11", &[("*0.01 from", "*{fraction} from")]),
    ("q17", &[("0.9*avg", "0.2*avg"), ("p_brand='Brand#23'", "p_brand='Brand#23' and p_container='MED BOX'")]),
    ("q18", &[(">120", ">300")]),
    (
        "q19",
        &[
            ("('SM CASE','SM BOX')", "('SM CASE','SM BOX','SM PACK','SM PKG')"),
            ("l_quantity<=31 and p_size between 1\nand 35", "l_quantity<=11 and p_size between 1 and 5"),
            ("('AIR','MAIL'))", "('AIR','AIR REG') and l_shipinstruct='DELIVER IN PERSON')"),
            ("('MED\nBAG','SM BOX')", "('MED BAG','MED BOX','MED PKG','MED PACK')"),
            (
                "l_quantity<=40 and p_size between 1 and 40)",
                "l_quantity<=20 and p_size between 1 and 10 and l_shipmode in ('AIR','AIR REG') and \
                 l_shipinstruct='DELIVER IN PERSON') or (p_partkey=l_partkey and p_brand='Brand#34' and \
                 p_container in ('LG CASE','LG BOX','LG PACK','LG PKG') and l_quantity>=20 and l_quantity<=30 and \
                 p_size between 1 and 15 and l_shipmode in ('AIR','AIR REG') and l_shipinstruct='DELIVER IN PERSON')",
            ),
        ],
    ),
    (
        "q20",
        &[
            ("date '1992-01-01'", "date '1994-01-01'"),
            ("interval '6' year", "interval '1' year"),
            ("n_name<>'CANADA'", "n_name='CANADA'"),
        ],
    ),
    ("q21", &[("s_nationkey=n_nationkey group", "s_nationkey=n_nationkey and n_name='SAUDI ARABIA' group")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_22_queries_follow_the_refresh_functions() {
    let size = match std::env::var_os("TIDEWATER_LONG") {
        None => Size { scale: 0.01, pairs: 2, parts: 5 },
        Some(_) => Size { scale: 0.1, pairs: 1, parts: 30 },
    };
    let Some(postgres) = Postgres::start() else {
        panic!("PostgreSQL 15 is not installed: scripts/setup installs it");
    };
    let server = Server::start();
    let ours = server.connect().await;
    let theirs = server::connect(&postgres.connection_string("postgres")).await;
    let (tables, views) = texts(size.scale);
    let mut clock = Clock(Instant::now());
    for table in &tables {
        run(&ours, table).await;
        run(&theirs, table).await;
    }
    for (table, rows) in base(size.scale) {
        copy(&ours, table, &rows).await;
        copy(&theirs, table, &rows).await;
    }
    run(&theirs, POSTGRES_INDEXES).await;
    clock.says("tables filled");
    for (name, query) in &views {
        run(&ours, &format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await;
    }
    clock.says("views made");
    let mut comparison = Comparison::default();
    comparison.make(&views, &ours, &theirs, "at the start").await;
    assert!(comparison.empty.len() * 3 < views.len(), "too many queries have no row: {:?}", comparison.empty);
    let mut step = 0;
    for pair in 1..=size.pairs {
        for (index, refresh) in [insertions(size.scale, pair), deletions(size.scale, pair)].into_iter().enumerate() {
            for part in refresh.chunks(refresh.len().div_ceil(size.parts)) {
                let change = format!("BEGIN;\n{}COMMIT", part.concat());
                let start = Instant::now();
                run(&ours, &change).await;
                comparison.change_time[index] += start.elapsed();
                run(&theirs, &change).await;
                step += 1;
                comparison.make(&views, &ours, &theirs, &format!("after step {step}: {change}")).await;
            }
        }
        clock.says(&format!("{step} steps"));
    }
    for (name, query) in &views {
        assert_eq!(
            rows(&ours, query).await,
            rows(&ours, &format!("SELECT * FROM {name}")).await,
            "{name} from scratch"
        );
    }
    clock.says("queries from scratch");
    println!(
        "tpch: scale factor {}, {} views, {step} steps, {} answers compared, {} of them changed by the step; \
         RF1 took {:.1} s, RF2 {:.1} s",
        size.scale,
        views.len(),
        comparison.count,
        comparison.changed,
        comparison.change_time[0].as_secs_f64(),
        comparison.change_time[1].as_secs_f64()
    );
    assert!(comparison.changed > step, "the refreshes hardly change an answer: {}", comparison.changed);
}

/// Says how long each part took.
struct Clock(Instant);

impl Clock {
    fn says(&mut self, what: &str) {
        println!("tpch: {what} ({:.1} s)", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// What was compared so far.
#[derive(Default)]
struct Comparison {
    count: usize,
    /// Answers that differed from those before.
    changed: usize,
    /// Views that were empty at some time.
    empty: BTreeMap<String, usize>,
    answers: BTreeMap<String, Vec<String>>,
    /// What Tidewater took to take in those of RF1 and of RF2.
    change_time: [Duration; 2],
}

impl Comparison {
    /// Compares each view with PostgreSQL's answer to its query.
    async fn make(&mut self, views: &[(String, String)], ours: &Client, theirs: &Client, when: &str) {
        for (name, query) in views {
            let expected = rows(theirs, query).await;
            let maintained = rows(ours, &format!("SELECT * FROM {name}")).await;
            assert_eq!(maintained, expected, "{name} {when}\n{query}");
            self.count += 1;
            if expected.is_empty() {
                *self.empty.entry(name.clone()).or_default() += 1;
            }
            let before = self.answers.insert(name.clone(), expected);
            self.changed += before.is_some_and(|before| before != self.answers[name]) as usize;
        }
    }
}

/// The CREATE TABLE statements, and the queries by name.
fn texts(scale: f64) -> (Vec<String>, Vec<(String, String)>) {
    let file = server::root().join("sql-tests/views/tpch.slt");
    let records = sqllogictest::parse_file::<DefaultColumnType>(&file).expect("the file is well-formed");
    let statements = records.into_iter().filter_map(|record| match record {
        Record::Statement { sql, .. } => Some(sql),
        _ => None,
    });
    let (mut tables, mut views) = (Vec::new(), Vec::new());
    for sql in statements {
        if sql.starts_with("CREATE TABLE") {
            tables.push(sql);
        } else if let Some(view) = sql.strip_prefix("CREATE MATERIALIZED VIEW ") {
            let (name, query) = view.split_once(" AS\n").expect("a name and a query");
            views.push((name.to_string(), query.to_string()));
        }
    }
    assert_eq!((tables.len(), views.len()), (8, 22), "tables and queries of {}", file.display());
    for (name, constants) in VALIDATION {
        let (_, query) = views.iter().find(|view| view.0 == *name).expect("a query of that name");
        let mut query = query.clone();
        for (from, to) in *constants {
            assert!(query.contains(from), "{name} has no {from}");
            query = query.replace(from, &to.replace("{fraction}", &(0.0001 / scale).to_string()));
        }
        views.push((format!("{name}_validation"), query));
    }
    (tables, views)
}

/// The rows of each table as dbgen writes them.
fn base(scale: f64) -> Vec<(&'static str, String)> {
    vec![
        ("region", lines(RegionGenerator::new(scale, 1, 1))),
        ("nation", lines(NationGenerator::new(scale, 1, 1))),
        ("supplier", lines(SupplierGenerator::new(scale, 1, 1))),
        ("part", lines(PartGenerator::new(scale, 1, 1))),
        ("partsupp", lines(PartSuppGenerator::new(scale, 1, 1))),
        ("customer", lines(CustomerGenerator::new(scale, 1, 1))),
        ("orders", lines(OrderGenerator::new(scale, 1, 1))),
        ("lineitem", lines(LineItemGenerator::new(scale, 1, 1))),
    ]
}

fn lines<T: Display>(rows: impl IntoIterator<Item = T>) -> String {
    rows.into_iter().map(|row| fields(&row) + "\n").collect()
}

/// The fields of a row between bars: dbgen ends each with one.
fn fields(row: &impl Display) -> String {
    let line = row.to_string();
    line.strip_suffix('|').expect("dbgen ends its lines with a bar").to_string()
}

async fn copy(client: &Client, table: &str, rows: &str) {
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN (DELIMITER '|')")).await.expect("COPY begins");
    let mut sink = std::pin::pin!(sink);
    for piece in rows.as_bytes().chunks(1 << 20) {
        sink.send(Bytes::copy_from_slice(piece)).await.expect("COPY takes rows");
    }
    sink.finish().await.expect("COPY ends");
}

/// RF1: the statements that insert each new order with its lines. They are the orders that a larger database would have next.
fn insertions(scale: f64, pair: i32) -> Vec<String> {
    let first = OrderGenerator::calculate_row_count(scale, 1, 1);
    let mut lines: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for mut line in LineItemGenerator::new(scale, REFRESHES + pair, REFRESHES) {
        line.l_orderkey = free_key(line.l_orderkey, first);
        lines.entry(line.l_orderkey).or_default().push(values(&line));
    }
    let orders = OrderGenerator::new(scale, REFRESHES + pair, REFRESHES).into_iter().map(|mut order| {
        order.o_orderkey = free_key(order.o_orderkey, first);
        let lines = lines[&order.o_orderkey].join(", ");
        format!("INSERT INTO orders VALUES {};\nINSERT INTO lineitem VALUES {lines};\n", values(&order))
    });
    orders.collect()
}

/// RF2: the statements that delete each of the oldest orders that are left, with its lines.
fn deletions(scale: f64, pair: i32) -> Vec<String> {
    let orders = OrderGenerator::new(scale, pair, REFRESHES).into_iter().map(|order| {
        let key = order.o_orderkey;
        format!("DELETE FROM lineitem WHERE l_orderkey = {key};\nDELETE FROM orders WHERE o_orderkey = {key};\n")
    });
    orders.collect()
}

/// A key that no order of the tables has, for an order behind the `first` ones: dbgen uses eight of every 32 keys.
fn free_key(key: i64, first: i64) -> i64 {
    let index = (key >> 5 << 3) | (key & 7);
    OrderGenerator::make_order_key(index - first) + 8
}

fn values(row: &impl Display) -> String {
    let fields: Vec<String> = fields(row).split('|').map(|field| format!("'{}'", field.replace('\'', "''"))).collect();
    format!("({})", fields.join(", "))
}
