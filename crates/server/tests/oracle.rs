//! The triangle, at random: for random tables, queries and changes, the maintained view, the same SELECT from scratch and real
//! PostgreSQL 15 agree after every change, and nothing is left when everything is deleted.
//!
//! A world is three tables, ten queries kept as views, and eight changes; a case is one query in its world. The number of cases
//! is `TIDEWATER_ORACLE_CASES` (default 200), after the first `TIDEWATER_ORACLE_SKIP`. A failure prints its seed; `TIDEWATER_ORACLE_SEED=n` runs that world alone. A query
//! that Tidewater refuses with `0A000` is counted and shown, and must stay rare.

#[path = "support/generator.rs"]
mod generator;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use generator::World;
use postgres::Postgres;
use server::Server;
use tokio_postgres::{Client, SimpleQueryMessage};

const VIEWS_A_WORLD: usize = 10;
const FIRST_SEED: u64 = 1;

#[tokio::test]
async fn view_select_and_postgres_agree() {
    let Some(postgres) = Postgres::start() else {
        panic!("PostgreSQL 15 is not installed: scripts/setup installs it");
    };
    let server = Server::start();
    let ours = server.connect().await;
    let theirs = server::connect(&postgres.connection_string("postgres")).await;
    let mut tally = Tally::default();
    for seed in seeds() {
        let world = World::new(seed, VIEWS_A_WORLD);
        run(&world, &ours, &theirs, &mut tally).await;
        if seed % 50 == 0 {
            println!("oracle: {tally:?}");
        }
    }
    println!("oracle: {tally:?}");
    assert!(tally.own.1 * 3 <= tally.own.0, "too many of our own queries are refused: {tally:?}");
    assert!(tally.refused * 5 <= tally.cases, "too many queries are refused: {tally:?}");
}

/// What happened so far.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    comparisons: usize,
    /// Refused by Tidewater with 0A000.
    refused: usize,
    /// Not valid in PostgreSQL either.
    invalid: usize,
    /// Queries of which PostgreSQL knows nothing, and those of them that Tidewater refused.
    own: (usize, usize),
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("TIDEWATER_ORACLE_SEED") {
        Some(seed) => vec![seed],
        None => {
            let worlds = |name: &str| number(name).map(|cases| cases.div_ceil(VIEWS_A_WORLD as u64));
            let first = FIRST_SEED + worlds("TIDEWATER_ORACLE_SKIP").unwrap_or(0);
            (first..first + worlds("TIDEWATER_ORACLE_CASES").unwrap_or(20)).collect()
        }
    }
}

async fn run(world: &World, ours: &Client, theirs: &Client, tally: &mut Tally) {
    for statement in &world.schema {
        execute(ours, statement).await.unwrap_or_else(|error| panic!("seed {}: {statement}: {error}", world.seed));
        execute(theirs, statement).await.expect("the generator's tables are valid");
    }
    let mut kept = Vec::new();
    for (index, query) in world.queries.iter().enumerate() {
        tally.cases += 1;
        if let Err(error) = rows(theirs, query).await {
            tally.invalid += 1;
            if std::env::var("TIDEWATER_ORACLE_VERBOSE").is_ok() {
                println!("invalid: {error}: {query}");
            }
            continue;
        }
        match execute(ours, &format!("CREATE MATERIALIZED VIEW v{index} AS {query}")).await {
            Ok(()) => kept.push((index, query)),
            Err(error) if error.contains("0A000") => {
                tally.refused += 1;
                if std::env::var("TIDEWATER_ORACLE_VERBOSE").is_ok() {
                    println!("refused: {error}: {query}");
                }
            }
            Err(error) => panic!("seed {}: {error}\n{query}", world.seed),
        }
    }
    let mut own = Vec::new();
    for (index, query) in world.own_queries.iter().enumerate() {
        let index = world.queries.len() + index;
        tally.own.0 += 1;
        match execute(ours, &format!("CREATE MATERIALIZED VIEW v{index} AS {query}")).await {
            Ok(()) => own.push((index, query)),
            Err(error) if error.contains("0A000") => {
                tally.own.1 += 1;
                if std::env::var("TIDEWATER_ORACLE_VERBOSE").is_ok() {
                    println!("refused: {error}: {query}");
                }
            }
            Err(error) => panic!("seed {}: {error}\n{query}", world.seed),
        }
    }
    for (step, change) in world.changes.iter().enumerate() {
        let here = execute(ours, change).await;
        let there = execute(theirs, change).await;
        assert_eq!(
            here.is_ok(),
            there.is_ok(),
            "seed {} step {step}: {change}\nours {here:?}\ntheirs {there:?}",
            world.seed
        );
        for (index, query) in &kept {
            compare(world, step, *index, query, ours, Some(theirs)).await;
            tally.comparisons += 1;
        }
        for (index, query) in &own {
            compare(world, step, *index, query, ours, None).await;
            tally.comparisons += 1;
        }
    }
    for index in kept.iter().chain(&own).map(|(index, _)| index) {
        execute(ours, &format!("DROP MATERIALIZED VIEW v{index}")).await.expect("a view can be dropped");
    }
    for table in &world.tables {
        execute(ours, &format!("DROP TABLE {table}")).await.expect("a table can be dropped");
        execute(theirs, &format!("DROP TABLE {table}")).await.expect("a table can be dropped");
    }
}

/// Of a view, its query from scratch and PostgreSQL's answer, if it has one.
async fn compare(world: &World, step: usize, index: usize, query: &str, ours: &Client, theirs: Option<&Client>) {
    let view = rows(ours, &format!("SELECT * FROM v{index}")).await;
    let select = rows(ours, query).await;
    let postgres = match theirs {
        Some(theirs) => rows(theirs, query).await,
        None => select.clone(),
    };
    if view != postgres || select != postgres {
        let changes = world.changes[..=step].join(";\n");
        panic!(
            "seed {} view v{index} step {step} differs\n{};\nCREATE MATERIALIZED VIEW v{index} AS {query};\n{changes};\n\
             view:     {view:?}\nselect:   {select:?}\npostgres: {postgres:?}",
            world.seed,
            world.schema.join(";\n"),
        );
    }
}

async fn execute(client: &Client, statement: &str) -> Result<(), String> {
    client.batch_execute(statement).await.map_err(|error| describe(&error))
}

/// The rows as text, sorted.
async fn rows(client: &Client, query: &str) -> Result<Vec<String>, String> {
    let messages = client.simple_query(query).await.map_err(|error| describe(&error))?;
    let mut rows: Vec<String> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> = (0..row.len()).map(|column| row.get(column).unwrap_or("∅")).collect();
                Some(values.join("|"))
            }
            _ => None,
        })
        .collect();
    rows.sort_unstable();
    Ok(rows)
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{}: {}", error.code().code(), error.message()),
        None => error.to_string(),
    }
}
