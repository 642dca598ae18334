//! What happens to sessions from outside: notifications, timeouts, being cancelled and ended by others, and being many.

#[path = "support/server.rs"]
mod server;
#[path = "support/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use server::Server;
use tempfile::TempDir;
use wire::{Reply, Wire, message, query, startup, tags};

const CANCEL_REQUEST: u32 = 80877102;

fn ask(wire: &mut Wire, sql: &str) -> Vec<Reply> {
    wire.send(&query(sql));
    wire.until('Z')
}

/// The channel and payload of a NotificationResponse.
fn note(reply: &Reply) -> (String, String) {
    assert_eq!(reply.tag, 'A', "{reply:?}");
    let text = String::from_utf8_lossy(&reply.body[4..]).into_owned();
    let (channel, payload) = text.trim_end_matches('\0').split_once('\0').unwrap_or((text.trim_end_matches('\0'), ""));
    (channel.to_string(), payload.to_string())
}

fn notes(replies: &[Reply]) -> Vec<(String, String)> {
    replies.iter().filter(|reply| reply.tag == 'A').map(note).collect()
}

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.to_string(), payload.to_string())
}

#[test]
fn notifications_come_at_commit_and_only_to_those_who_listen() {
    let server = Server::start();
    let (mut ann, mut bob) = (Wire::session(server.pg_port), Wire::session(server.pg_port));
    let pid = ask(&mut bob, "SELECT pg_backend_pid()")[1].body[6..].to_vec();
    assert_eq!(tags(&ask(&mut ann, "LISTEN news")), "CZ");
    // To an idle session at once, with who sent it.
    ask(&mut bob, "NOTIFY news, 'one'");
    let told = ann.reply().expect("a notification");
    assert_eq!(note(&told), pair("news", "one"));
    let sender = i32::from_be_bytes([told.body[0], told.body[1], told.body[2], told.body[3]]);
    assert_eq!(sender.to_string().as_bytes(), pid);
    // To the sender itself too, before it is ready.
    ask(&mut bob, "LISTEN \"Loud\"");
    let replies = ask(&mut bob, "NOTIFY \"Loud\"");
    assert_eq!((tags(&replies).as_str(), notes(&replies)), ("CAZ", vec![pair("Loud", "")]));
    // At COMMIT, each once, in order, without those of a savepoint that was rolled back.
    ask(&mut bob, "BEGIN");
    for payload in ["a", "b", "a"] {
        ask(&mut bob, &format!("NOTIFY news, '{payload}'"));
    }
    ask(&mut bob, "SAVEPOINT s");
    ask(&mut bob, "NOTIFY news, 'lost'");
    ask(&mut bob, "ROLLBACK TO s");
    ask(&mut bob, "SELECT pg_notify('news', 'c')");
    assert_eq!(notes(&ask(&mut ann, "SELECT 1")), []);
    ask(&mut bob, "COMMIT");
    let told: Vec<_> = (0..3).map(|_| note(&ann.reply().expect("a notification"))).collect();
    assert_eq!(told, [pair("news", "a"), pair("news", "b"), pair("news", "c")]);
    // Not from a transaction that failed or was rolled back, nor from a statement that failed.
    ask(&mut bob, "BEGIN; NOTIFY news, 'lost'; ROLLBACK");
    ask(&mut bob, "NOTIFY news, 'lost'; SELECT 1/0");
    ask(&mut bob, "SELECT pg_notify('news', 'lost'), 1/(g - 2) FROM generate_series(1, 3) AS g");
    // To a session in a transaction when that ends.
    ask(&mut ann, "BEGIN");
    ask(&mut bob, "NOTIFY news, 'late'");
    assert_eq!(tags(&ask(&mut ann, "SELECT 1")), "TDCZ");
    let replies = ask(&mut ann, "COMMIT");
    assert_eq!((tags(&replies).as_str(), notes(&replies)), ("CAZ", vec![pair("news", "late")]));
    // LISTEN takes effect at COMMIT, UNLISTEN too.
    ask(&mut ann, "BEGIN; LISTEN other; ROLLBACK");
    ask(&mut ann, "BEGIN; UNLISTEN news; ROLLBACK");
    ask(&mut bob, "NOTIFY other; NOTIFY news, 'still'");
    assert_eq!(note(&ann.reply().expect("a notification")), pair("news", "still"));
    ask(&mut ann, "DISCARD ALL");
    ask(&mut bob, "NOTIFY news, 'nobody'");
    assert_eq!(notes(&ask(&mut ann, "SELECT 1")), []);
    // In the extended protocol between Sync and ReadyForQuery.
    ask(&mut bob, "LISTEN news");
    bob.send(
        &[wire::parse("", "SELECT pg_notify('news', 'sync')"), wire::bind("", &[]), wire::execute("", 0)].concat(),
    );
    bob.send(&wire::sync());
    assert_eq!(tags(&bob.until('Z')), "12DCAZ");
}

#[test]
fn a_listener_that_does_not_read_bounds_its_senders() {
    let server = Server::start();
    let (mut deaf, mut loud) = (Wire::session(server.pg_port), Wire::session(server.pg_port));
    ask(&mut deaf, "LISTEN c");
    // In a transaction nothing is delivered.
    ask(&mut deaf, "BEGIN");
    let send = "SELECT pg_notify('c', g::text || repeat('x', 7000)) FROM generate_series(1, 2000) AS g";
    let mut refused = None;
    for _ in 0..12 {
        let replies = ask(&mut loud, &format!("BEGIN; {send}; COMMIT"));
        refused = replies.iter().find(|reply| reply.tag == 'E').and_then(|reply| reply.field('C'));
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused.as_deref(), Some("54000"));
    // Once it is heard there is room again.
    let replies = ask(&mut deaf, "COMMIT");
    assert!(notes(&replies).len() >= 2000);
    assert!(!tags(&ask(&mut loud, "NOTIFY c, 'again'")).contains('E'));
}

#[test]
fn idle_sessions_end_when_they_were_told_to() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    ask(&mut wire, "SET idle_in_transaction_session_timeout = '200ms'");
    ask(&mut wire, "SELECT 1");
    std::thread::sleep(Duration::from_millis(400));
    // Idle outside of a transaction is another matter; a statement that takes long is none.
    ask(&mut wire, "BEGIN");
    assert_eq!(tags(&ask(&mut wire, "SELECT pg_sleep(0.5)")), "TDCZ");
    let last = wire.rest();
    assert_eq!(last[0].field('C').as_deref(), Some("25P03"));
    assert_eq!(last[0].field('S').as_deref(), Some("FATAL"));
    assert_eq!(last[0].field('M').as_deref(), Some("terminating connection due to idle-in-transaction timeout"));

    let mut wire = Wire::session(server.pg_port);
    ask(&mut wire, "CREATE TABLE t (x int)");
    ask(&mut wire, "SET idle_session_timeout = '200ms'");
    // Waiting for a client's rows is not idle.
    wire.send(&query("COPY t FROM STDIN"));
    wire.until('G');
    std::thread::sleep(Duration::from_millis(400));
    wire.send(&[message('d', b"1\n"), message('c', b"")].concat());
    assert_eq!(tags(&wire.until('Z')), "CZ");
    let last = wire.rest();
    assert_eq!(last[0].field('C').as_deref(), Some("57P05"));
    assert_eq!(last[0].field('M').as_deref(), Some("terminating connection due to idle-session timeout"));
}

#[test]
fn sessions_are_cancelled_and_ended_by_others() {
    let server = Server::start();
    let (mut killer, mut idle, mut busy) =
        (Wire::session(server.pg_port), Wire::session(server.pg_port), Wire::session(server.pg_port));
    let pid =
        |wire: &mut Wire| String::from_utf8_lossy(&ask(wire, "SELECT pg_backend_pid()")[1].body[6..]).into_owned();
    let (idle_pid, busy_pid) = (pid(&mut idle), pid(&mut busy));
    let long = query("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b");
    busy.send(&long);
    std::thread::sleep(Duration::from_millis(200));
    assert!(ask(&mut killer, &format!("SELECT pg_cancel_backend({busy_pid})"))[1].body.ends_with(b"t"));
    let replies = busy.until('Z');
    assert_eq!(replies.iter().find_map(|reply| reply.field('C')).as_deref(), Some("57014"));
    // Cancelling someone who does nothing does nothing.
    ask(&mut killer, &format!("SELECT pg_cancel_backend({idle_pid})"));
    assert_eq!(tags(&ask(&mut idle, "SELECT 1")), "TDCZ");
    busy.send(&long);
    std::thread::sleep(Duration::from_millis(200));
    let replies =
        ask(&mut killer, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
    assert_eq!(tags(&replies), "TDDCZ");
    for (what, wire) in [("idle", &mut idle), ("busy", &mut busy)] {
        let last = wire.rest();
        let error = last.iter().find(|reply| reply.tag == 'E').expect("an error");
        assert_eq!(error.field('C').as_deref(), Some("57P01"), "{what}");
        assert_eq!(error.field('S').as_deref(), Some("FATAL"), "{what}");
    }
    let replies = ask(&mut killer, &format!("SELECT pg_terminate_backend({idle_pid})"));
    assert_eq!(
        replies.iter().find(|reply| reply.tag == 'N').and_then(|reply| reply.field('S')).as_deref(),
        Some("WARNING")
    );
}

#[test]
fn a_client_that_does_not_read_is_ended_all_the_same() {
    let server = Server::start();
    let (mut killer, mut deaf) = (Wire::session(server.pg_port), Wire::session(server.pg_port));
    deaf.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"));
    deaf.until('T');
    let others = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
    assert!(ask(&mut killer, others)[1].body.ends_with(b"1"));
    ask(&mut killer, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ask(&mut killer, others)[1].body.ends_with(b"0") {
        assert!(Instant::now() < deadline, "the session is still there");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn who_is_no_superuser_ends_only_their_own() {
    let server = Server::start();
    let mut owner = Wire::session(server.pg_port);
    ask(&mut owner, "CREATE USER ann; CREATE USER bob");
    let session = |user: &str| {
        let mut wire = Wire::open(server.pg_port);
        wire.send(&startup(3 << 16, &[("user", user)]));
        wire.until('Z');
        let pid = String::from_utf8_lossy(&ask(&mut wire, "SELECT pg_backend_pid()")[1].body[6..]).into_owned();
        (wire, pid)
    };
    let ((mut ann, _), (mut also_ann, own_pid), (_bob, other_pid)) = (session("ann"), session("ann"), session("bob"));
    let refused = |wire: &mut Wire, pid: &str| {
        let replies = ask(wire, &format!("SELECT pg_terminate_backend({pid})"));
        replies.iter().find(|reply| reply.tag == 'E').and_then(|reply| reply.field('C'))
    };
    assert_eq!(refused(&mut ann, &other_pid).as_deref(), Some("42501"));
    assert_eq!(refused(&mut ann, "1").as_deref(), Some("42501"));
    assert_eq!(refused(&mut ann, &own_pid), None);
    assert_eq!(also_ann.rest()[0].field('C').as_deref(), Some("57P01"));
}

#[test]
fn nobody_takes_another_s_rights() {
    let server = Server::start();
    let mut owner = Wire::session(server.pg_port);
    ask(&mut owner, "CREATE USER ann; CREATE ROLE boss SUPERUSER");
    let mut wire = Wire::open(server.pg_port);
    wire.send(&startup(3 << 16, &[("user", "ann"), ("role", "boss"), ("options", "-c role=boss -c is_superuser=on")]));
    wire.until('Z');
    let state = |replies: Vec<Reply>| replies.iter().find(|reply| reply.tag == 'E').and_then(|reply| reply.field('C'));
    assert!(ask(&mut wire, "SELECT current_user")[1].body.ends_with(b"ann"));
    for attempt in [
        "SET ROLE boss",
        "SET LOCAL ROLE boss",
        "SELECT set_config('role', 'boss', false)",
        "SELECT set_config('ROLE', 'tidewater', false)",
        "ALTER ROLE ann SUPERUSER",
        "ALTER ROLE boss PASSWORD 'mine'",
        "GRANT boss TO ann",
        "CREATE ROLE other SUPERUSER",
        "CREATE ROLE other IN ROLE boss",
        "DROP ROLE boss",
    ] {
        assert_eq!(state(ask(&mut wire, attempt)).as_deref(), Some("42501"), "{attempt}");
    }
    assert!(ask(&mut wire, "SHOW is_superuser")[1].body.ends_with(b"off"));
    // A password of one's own is one's own.
    assert_eq!(state(ask(&mut wire, "ALTER ROLE ann PASSWORD 'mine'")), None);
    // Rights are looked at when they are used.
    ask(&mut owner, "ALTER ROLE ann SUPERUSER");
    assert_eq!(state(ask(&mut wire, "SET ROLE boss")), None);
    ask(&mut owner, "DROP ROLE boss");
    assert_eq!(state(ask(&mut wire, "CREATE ROLE other")).as_deref(), Some("42501"));
}

#[test]
fn a_key_to_cancel_is_as_long_as_the_protocol_allows() {
    let server = Server::start();
    let session = |minor: u32| {
        let mut wire = Wire::open(server.pg_port);
        wire.send(&startup((3 << 16) + minor, &[("user", "test")]));
        let key = wire.until('Z').into_iter().find(|reply| reply.tag == 'K').expect("a key").body;
        (wire, key)
    };
    let cancel = |key: &[u8]| {
        let mut other = Wire::open(server.pg_port);
        other.send(&[&(key.len() as u32 + 8).to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), key].concat());
        other.rest();
    };
    let ((_, short), (_, other_short)) = (session(0), session(0));
    assert_eq!((short.len(), other_short.len()), (8, 8));
    assert_ne!(short[4..], other_short[4..]);
    let (mut wire, key) = session(2);
    assert_eq!(key.len(), 4 + 32);
    wire.send(&query("SELECT pg_sleep(20)"));
    // Its beginning alone does not do, nor does more than it.
    cancel(&key[..8]);
    cancel(&[&key[..], b"x"].concat());
    std::thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    cancel(&key);
    let replies = wire.until('Z');
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(replies.iter().find_map(|reply| reply.field('C')).as_deref(), Some("57014"));
}

#[test]
fn a_subscription_s_cursor_waits_as_long_as_it_is_told() {
    let server = Server::start();
    let (mut reader, mut writer) = (Wire::session(server.pg_port), Wire::session(server.pg_port));
    ask(&mut writer, "CREATE TABLE t (x int)");
    ask(&mut reader, "BEGIN");
    ask(&mut reader, "DECLARE c CURSOR FOR SUBSCRIBE t WITH (SNAPSHOT = false)");
    let started = Instant::now();
    assert_eq!(tags(&ask(&mut reader, "FETCH 1 c WITH (timeout = '0.5s')")), "TCZ");
    assert!(started.elapsed() >= Duration::from_millis(500));
    reader.send(&query("FETCH 2 c WITH (TIMEOUT '20s')"));
    ask(&mut writer, "INSERT INTO t VALUES (1)");
    std::thread::sleep(Duration::from_millis(300));
    ask(&mut writer, "INSERT INTO t VALUES (2)");
    let started = Instant::now();
    assert_eq!(tags(&reader.until('Z')), "TDDCZ");
    assert!(started.elapsed() < Duration::from_secs(10));
    // Rows that come all the time do not keep FETCH ALL for ever.
    let replies = ask(&mut reader, "FETCH BACKWARD 1 c");
    assert_eq!(replies[0].field('C').as_deref(), Some("55000"));
}

#[test]
fn two_thousand_idle_connections_cost_little() {
    const COUNT: usize = 2_000;
    /// Generous: 15,000 were measured, most of it the session and its settings.
    const BYTES_MAX: u64 = 64 << 10;
    // This side needs as many sockets.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both read or write the one structure that they are given. Refused, the connections below say so.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::start_in(&directory.path().join("data"), &["--max-connections", "2100"]);
    let mut first = Wire::session(server.pg_port);
    ask(&mut first, "SELECT 1");
    let before = server.resident_bytes();
    let mut wires: Vec<Wire> = (0..COUNT)
        .map(|_| {
            let mut wire = Wire::session(server.pg_port);
            ask(&mut wire, "SELECT 1");
            wire
        })
        .collect();
    let after = server.resident_bytes();
    let each = after.saturating_sub(before) / COUNT as u64;
    println!("{COUNT} idle connections: {each} bytes each");
    assert!(each < BYTES_MAX, "{each} bytes a connection");
    // They cost no time either, and all still answer.
    let started = Instant::now();
    for _ in 0..100 {
        ask(&mut first, "SELECT 1");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "100 statements took {:?}", started.elapsed());
    for wire in &mut wires {
        assert_eq!(tags(&ask(wire, "SELECT 2")), "TDCZ");
    }
}
