//! A fuzzer of the wire: streams of bytes, and sequences of messages that are nearly right, against a running server. It must
//! not panic, hang, or keep what it was sent.
//!
//! `TIDEWATER_FUZZ_SECONDS` says how long (scripts/test: a minute), `TIDEWATER_FUZZ_SEED` which ones; a failure prints its
//! seed. Every conversation is one seed, so a failing one is run again by itself.

#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/wire.rs"]
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use random::Random;
use server::Server;
use tokio_postgres::NoTls;
use wire::{Wire, message, startup};

/// Conversations at a time.
const THREADS: u64 = 4;

/// What the server may take more after all than after the first conversations.
const GROWTH_BYTES_MAX: u64 = 400 << 20;

fn chance(random: &mut Random, one_in: u64) -> bool {
    random.below(one_in) == 0
}

fn of<'a, T: ?Sized>(random: &mut Random, choices: &[&'a T]) -> &'a T {
    choices[random.below(choices.len() as u64) as usize]
}

fn noise(random: &mut Random, length_max: u64) -> Vec<u8> {
    (0..random.below(length_max + 1)).map(|_| random.next() as u8).collect()
}

const STATEMENTS: &[&str] = &[
    "",
    ";",
    "SELECT 1",
    "SELECT $1::int, $2",
    "SELECT $1::text || $2",
    "SELECT g, repeat('x', 100) FROM generate_series(1, 2000) AS g",
    "SELECT 1/0",
    "SELECT nothing",
    "SELEC",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SET statement_timeout = '2s'",
    "SET application_name = 'fuzz'",
    "RESET ALL",
    "SHOW ALL",
    "DISCARD ALL",
    "INSERT INTO fuzzed VALUES (1, 'one') ON CONFLICT DO NOTHING",
    "INSERT INTO fuzzed SELECT g, 'x' FROM generate_series(1, 50) AS g ON CONFLICT DO NOTHING RETURNING *",
    "UPDATE fuzzed SET b = b || '.' WHERE length(b) < 20",
    "DELETE FROM fuzzed WHERE a % 7 = 0",
    "COPY fuzzed FROM STDIN",
    "COPY fuzzed FROM STDIN (FORMAT csv, HEADER)",
    "COPY fuzzed FROM STDIN (FORMAT binary)",
    "COPY fuzzed TO STDOUT",
    "COPY (SELECT * FROM fuzzed) TO STDOUT (FORMAT binary)",
    "DECLARE c SCROLL CURSOR FOR SELECT * FROM fuzzed",
    "DECLARE h CURSOR WITH HOLD FOR SELECT * FROM fuzzed",
    "FETCH 3 FROM c",
    "FETCH BACKWARD 2 FROM c",
    "MOVE LAST c",
    "FETCH ALL h",
    "CLOSE ALL",
    "LISTEN channel",
    "NOTIFY channel, 'x'",
    "UNLISTEN *",
    "SELECT pg_notify('channel', $1)",
    "PREPARE p AS SELECT $1::int",
    "EXECUTE p (1)",
    "DEALLOCATE ALL",
    "EXPLAIN SELECT * FROM fuzzed",
    "SELECT * FROM fuzzed_view",
    "BEGIN; INSERT INTO fuzzed VALUES (3, 'three'); SELECT 1/0; COMMIT",
    "INSERT INTO fuzzed VALUES (4, 'four'); ROLLBACK",
];

const NAMES: &[&str] = &["", "a", "b", "c", "a name that is longer than any"];

/// A message that is nearly right.
fn nearly(random: &mut Random) -> Vec<u8> {
    let name = |random: &mut Random| [of(random, NAMES).as_bytes(), b"\0"].concat();
    let counted = |random: &mut Random, count: u64| (random.below(count) as u16).to_be_bytes();
    let mut bytes = match random.below(16) {
        0..=2 => message('Q', &[of(random, STATEMENTS).as_bytes(), b"\0"].concat()),
        3..=4 => {
            let mut body = [name(random), of(random, STATEMENTS).as_bytes().to_vec(), vec![0]].concat();
            let types = random.below(3);
            body.extend((types as u16).to_be_bytes());
            for _ in 0..types {
                body.extend((random.below(4000) as u32).to_be_bytes());
            }
            message('P', &body)
        }
        5..=6 => {
            let mut body = [name(random), name(random)].concat();
            body.extend(counted(random, 2));
            let parameters = random.below(4);
            body.extend((parameters as u16).to_be_bytes());
            for _ in 0..parameters {
                let value = noise(random, 12);
                match chance(random, 5) {
                    true => body.extend((-1i32).to_be_bytes()),
                    false => body.extend([&(value.len() as u32).to_be_bytes()[..], &value].concat()),
                }
            }
            body.extend(counted(random, 2));
            message('B', &body)
        }
        7..=8 => {
            let limit = random.below(5) as u32;
            message('E', &[name(random), limit.to_be_bytes().to_vec()].concat())
        }
        9 => message('D', &[of(random, &[&b"S"[..], b"P", b"X"]).to_vec(), name(random)].concat()),
        10 => message('C', &[of(random, &[&b"S"[..], b"P"]).to_vec(), name(random)].concat()),
        11..=12 => message('S', b""),
        13 => message(
            'd',
            of(random, &[&b"1\tone\n2\t"[..], b"\\N\n", b"\\.\n", b"PGCOPY\n\xff\r\n\0", b"a,b\n9,nine\n"]),
        ),
        14 => message(*of(random, &[&'c', &'H', &'f', &'F', &'X', &'p']), b""),
        _ => {
            let tag = of(random, &[&'Q', &'P', &'B', &'D', &'E', &'d', &'f', &'C']);
            let body = noise(random, 60);
            message(*tag, &body)
        }
    };
    // Now and then a byte is another, or the end is missing.
    if chance(random, 40) {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] = random.next() as u8;
    }
    if chance(random, 200) {
        bytes.truncate(random.below(bytes.len() as u64) as usize);
    }
    bytes
}

/// One conversation, to its end. Errors: what the server must never answer.
fn converse(port: u16, seed: u64) -> Result<(), String> {
    let mut random = Random(seed);
    let mut wire = Wire::open(port);
    wire.set_timeout(Duration::from_secs(60));
    if chance(&mut random, 6) {
        // No session at all: anything may come first.
        let bytes = match random.below(4) {
            0 => noise(&mut random, 200),
            1 => [&(random.below(200) as u32).to_be_bytes()[..], &noise(&mut random, 200)].concat(),
            2 => [&8u32.to_be_bytes()[..], &80877103u32.to_be_bytes(), &noise(&mut random, 50)].concat(),
            _ => [&[0, 0, 0, 24][..], &80877102u32.to_be_bytes(), &noise(&mut random, 16)].concat(),
        };
        wire.try_send(&bytes);
    } else {
        let minor = random.below(4) as u32;
        wire.send(&startup((3 << 16) + minor, &[("user", "fuzz"), ("client_min_messages", "error")]));
        for _ in 0..random.below(30) {
            let bytes = nearly(&mut random);
            if !wire.try_send(&bytes) {
                break;
            }
        }
    }
    wire.finish();
    for reply in wire.rest_within(Duration::from_secs(60))? {
        if reply.tag == 'E' && reply.field('C').as_deref() == Some("XX000") {
            return Err(format!("an internal error: {}", reply.field('M').unwrap_or_default()));
        }
    }
    Ok(())
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_that_are_nearly_right_do_no_harm() {
    let mut server = Server::start();
    let client = server.connect().await;
    let make = "CREATE TABLE fuzzed (a int PRIMARY KEY, b text); \
                CREATE MATERIALIZED VIEW fuzzed_view AS SELECT b, count(*) AS n FROM fuzzed GROUP BY b";
    client.batch_execute(make).await.expect("a table");
    let (port, seed) = (server.pg_port, variable("TIDEWATER_FUZZ_SEED"));
    if let Some(seed) = seed {
        converse(port, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        return;
    }
    let run = async |base: u64, length: Duration| {
        let (deadline, next) = (Instant::now() + length, Arc::new(AtomicU64::new(base)));
        let threads = (0..THREADS).map(|_| {
            let next = Arc::clone(&next);
            tokio::task::spawn_blocking(move || {
                while Instant::now() < deadline {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    converse(port, seed).map_err(|error| format!("TIDEWATER_FUZZ_SEED={seed}: {error}"))?;
                }
                Ok::<(), String>(())
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.await.expect("no conversation panics").unwrap_or_else(|error| panic!("{error}"));
        }
        next.load(Ordering::Relaxed) - base
    };
    let seconds = variable("TIDEWATER_FUZZ_SECONDS").unwrap_or(6);
    // Another stretch of seeds each day, the same all day.
    let today =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs() / 86_400);
    let base = today << 32;
    run(base, Duration::from_secs(seconds.div_ceil(6))).await;
    let before = server.resident_bytes();
    let count = run(base + (1 << 31), Duration::from_secs(seconds)).await;
    let after = server.resident_bytes();
    println!("{count} conversations in {seconds} s, {} MB before and {} MB after", before >> 20, after >> 20);
    assert!(server.is_alive(), "the server has died");
    assert!(after < before + GROWTH_BYTES_MAX, "memory went from {before} to {after} bytes");
    // Nobody is left behind, and the server still answers.
    let (other, connection) = tokio_postgres::connect(&server.connection_string(), NoTls).await.expect("a session");
    tokio::spawn(connection);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let row = other.query_one("SELECT count(*) FROM pg_stat_activity", &[]).await.expect("sessions are counted");
        if row.get::<_, i64>(0) == 2 {
            break;
        }
        assert!(Instant::now() < deadline, "{} sessions are left", row.get::<_, i64>(0));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
