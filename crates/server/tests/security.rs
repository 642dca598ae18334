//! Who may connect and what can be read on the way: TLS, passwords by SCRAM with and without channel binding, roles. The clients
//! are psql and a wire spoken by hand; certificates are made with openssl.

#[path = "support/server.rs"]
mod server;
#[path = "support/wire.rs"]
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use server::Server;
use tempfile::TempDir;
use wire::{Wire, message, startup};

const SSL_REQUEST: u32 = 80877103;
const GSS_REQUEST: u32 = 80877104;

/// A self-signed certificate and its key, with this name, in `directory`.
fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// What psql prints for `sql` with these connection parameters, or its complaint.
fn psql(server: &Server, parameters: &str, password: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-c", sql])
        .arg(format!("host=127.0.0.1 port={} dbname=test {parameters}", server.pg_port))
        .env("PGPASSWORD", password)
        .output()
        .expect("psql runs");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_string()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
    }
}

fn refused(server: &Server, parameters: &str, password: &str, expected: &str) {
    let error = psql(server, parameters, password, "SELECT 1").expect_err("the server refuses");
    assert!(error.ends_with(expected), "{parameters}: {error}");
}

fn request(code: u32) -> Vec<u8> {
    [&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat()
}

#[test]
fn tls_is_offered_and_read_again_when_its_files_change() {
    let directory = TempDir::new().expect("a temporary directory");
    let (first, first_key) = certificate(directory.path(), "first");
    let (second, second_key) = certificate(directory.path(), "second");
    let (used, used_key) = (directory.path().join("used.crt"), directory.path().join("used.key"));
    let copy = |from: &Path, to: &Path| assert!(std::fs::copy(from, to).is_ok(), "a file is copied");
    copy(&first, &used);
    copy(&first_key, &used_key);
    let data = directory.path().join("data");
    let server = Server::start_in(&data, &["--tls-cert", path(&used), "--tls-key", path(&used_key)]);

    // In TLS, in the clear, and with the server's certificate checked.
    assert_eq!(psql(&server, "user=test sslmode=require", "", "SELECT 1").as_deref(), Ok("1"));
    assert_eq!(psql(&server, "user=test sslmode=disable", "", "SELECT 1").as_deref(), Ok("1"));
    let verified = |root: &Path| format!("user=test sslmode=verify-ca sslrootcert={}", path(root));
    assert_eq!(psql(&server, &verified(&first), "", "SELECT 1").as_deref(), Ok("1"));
    assert!(psql(&server, &verified(&second), "", "SELECT 1").is_err());
    // Rows by the megabyte go through it.
    let sum =
        "SELECT length(string_agg(x, '')) FROM (SELECT repeat('x', 1000) AS x FROM generate_series(1, 5000)) AS t";
    assert_eq!(psql(&server, "user=test sslmode=require", "", sum).as_deref(), Ok("5000000"));
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 5000)";
    assert_eq!(psql(&server, "user=test sslmode=require", "", rows).map(|text| text.len()), Ok(5000 * 1001 - 1));

    // GSS is not there, TLS is, and nothing may come before it begins.
    let mut wire = Wire::open(server.pg_port);
    wire.send(&request(GSS_REQUEST));
    assert_eq!(wire.byte(), b'N');
    wire.send(&request(SSL_REQUEST));
    assert_eq!(wire.byte(), b'S');
    let mut wire = Wire::open(server.pg_port);
    wire.send(&[request(SSL_REQUEST), startup(3 << 16, &[("user", "test")])].concat());
    assert_eq!(wire.byte(), b'S');
    let replies = wire.rest();
    assert_eq!(replies[0].field('M').as_deref(), Some("received unencrypted data after SSL request"));
    // What is not TLS after all ends the connection.
    let mut wire = Wire::open(server.pg_port);
    wire.send(&request(SSL_REQUEST));
    assert_eq!(wire.byte(), b'S');
    wire.send(&[b'x'; 100]);
    wire.finish();
    wire.drain();

    // Half of a change leaves what there was; the other half is seen without a signal.
    copy(&second, &used);
    server.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(psql(&server, &verified(&first), "", "SELECT 1").as_deref(), Ok("1"));
    copy(&second_key, &used_key);
    let deadline = Instant::now() + Duration::from_secs(20);
    while psql(&server, &verified(&second), "", "SELECT 1").is_err() {
        assert!(Instant::now() < deadline, "the new certificate is not used");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(psql(&server, &verified(&first), "", "SELECT 1").is_err());
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_clear_error() {
    let directory = TempDir::new().expect("a temporary directory");
    let (certificate, _) = certificate(directory.path(), "one");
    let missing = directory.path().join("missing.key");
    let output = Command::new(env!("CARGO_BIN_EXE_tidewater"))
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path().join("data"))
        .args(["--tls-cert", path(&certificate), "--tls-key", path(&missing)])
        .output()
        .expect("the tidewater binary runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("TLS cannot be offered") && error.contains("missing.key"), "{error}");
}

#[test]
fn passwords_are_shown_by_scram() {
    let directory = TempDir::new().expect("a temporary directory");
    let (certificate, key) = certificate(directory.path(), "server");
    let data = directory.path().join("data");
    // A verifier that PostgreSQL 15 made of "pencil".
    let server = Server::start_in(&data, &[]);
    let run = |sql: &str| psql(&server, "user=test", "", sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    run("ALTER ROLE tidewater PASSWORD 'of the owner'");
    run("CREATE USER ann PASSWORD 'pencil' CONNECTION LIMIT 1");
    run("CREATE ROLE bob PASSWORD 'pencil'");
    run("CREATE USER old PASSWORD 'pencil' VALID UNTIL '2001-01-01'");
    run("CREATE USER without");
    run("CREATE USER \"näme\" PASSWORD 'pässwörd ﬁ'");
    let kept = run("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'");
    assert!(kept.starts_with("SCRAM-SHA-256$4096:") && kept.len() == 133, "{kept}");
    run(&format!("CREATE USER copy PASSWORD '{kept}'"));
    assert_eq!(run("SELECT rolpassword FROM pg_authid WHERE rolname = 'copy'"), kept);
    // The same machine is trusted under any name, but a role that may not log in may not.
    refused(&server, "user=bob", "", "FATAL:  role \"bob\" is not permitted to log in");
    assert!(server.terminate().success());

    // Roles are durable; from now on everyone shows a password.
    let options = ["--auth", "scram", "--tls-cert", path(&certificate), "--tls-key", path(&key)];
    let server = Server::start_in(&data, &options);
    for transport in ["sslmode=disable", "sslmode=require", "sslmode=require channel_binding=require"] {
        let user = |name: &str| format!("user={name} {transport}");
        let whoami = "SELECT current_user || ' ' || current_setting('is_superuser')";
        assert_eq!(psql(&server, &user("ann"), "pencil", whoami).as_deref(), Ok("ann off"), "{transport}");
        assert_eq!(psql(&server, &user("copy"), "pencil", whoami).as_deref(), Ok("copy off"), "{transport}");
        assert_eq!(psql(&server, &user("tidewater"), "of the owner", whoami).as_deref(), Ok("tidewater on"));
        assert_eq!(psql(&server, &user("näme"), "pässwörd ﬁ", "SELECT 1").as_deref(), Ok("1"), "{transport}");
        // SASLprep makes them one.
        assert_eq!(psql(&server, &user("näme"), "pässwörd fi", "SELECT 1").as_deref(), Ok("1"), "{transport}");
        for (name, password) in [("ann", "pen"), ("nobody", "pencil"), ("old", "pencil"), ("without", "pencil")] {
            let expected = format!("FATAL:  password authentication failed for user \"{name}\"");
            refused(&server, &user(name), password, &expected);
        }
        refused(&server, &user("bob"), "pencil", "FATAL:  role \"bob\" is not permitted to log in");
    }
    let unbound = psql(&server, "user=ann sslmode=disable channel_binding=require", "pencil", "SELECT 1");
    assert!(unbound.is_err_and(|error| error.contains("channel binding")));
    // One session of ann's at a time.
    let inner =
        format!("\\! PGPASSWORD=pencil psql -X -h 127.0.0.1 -p {} -U ann -d test -c 'SELECT 1' 2>&1", server.pg_port);
    let told = psql(&server, "user=ann", "pencil", &inner).expect("the outer session works");
    assert!(told.ends_with("FATAL:  too many connections for role \"ann\""), "{told}");
    // What is kept of passwords is for superusers' eyes.
    let hidden = "SELECT count(rolpassword) FROM pg_authid";
    assert_eq!(psql(&server, "user=ann", "pencil", hidden).as_deref(), Ok("0"));
    assert_eq!(psql(&server, "user=tidewater", "of the owner", hidden).as_deref(), Ok("6"));
}

#[test]
fn the_first_password_comes_from_the_environment_and_goes_in_clear_text_only_over_tls() {
    let directory = TempDir::new().expect("a temporary directory");
    let (certificate, key) = certificate(directory.path(), "server");
    let data = directory.path().join("data");
    let options = ["--auth", "password", "--tls-cert", path(&certificate), "--tls-key", path(&key)];
    let start = |password: &str| Server::start_with(&data, &options, &[("TIDEWATER_PASSWORD", password)]);
    let server = start("first");
    for transport in ["sslmode=require", "sslmode=disable"] {
        let user = format!("user=tidewater {transport}");
        assert_eq!(psql(&server, &user, "first", "SELECT 1").as_deref(), Ok("1"), "{transport}");
        refused(&server, &user, "second", "FATAL:  password authentication failed for user \"tidewater\"");
    }
    // In the clear SCRAM is asked for: AuthenticationSASL is 10, AuthenticationCleartextPassword would be 3.
    let mut wire = Wire::open(server.pg_port);
    wire.send(&startup(3 << 16, &[("user", "tidewater")]));
    assert_eq!(wire.until('R')[0].body[..4], 10u32.to_be_bytes());
    // It is the first one only.
    assert!(server.terminate().success());
    let server = start("second");
    assert_eq!(psql(&server, "user=tidewater", "first", "SELECT 1").as_deref(), Ok("1"));
}

#[test]
fn drivers_with_a_scram_of_their_own_get_in() {
    let directory = TempDir::new().expect("a temporary directory");
    let (certificate, key) = certificate(directory.path(), "server");
    let options = ["--auth", "scram", "--tls-cert", path(&certificate), "--tls-key", path(&key)];
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &options, &[("TIDEWATER_PASSWORD", "of the owner")]);
    let cache = std::env::var("XDG_CACHE_HOME")
        .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").expect("a home directory")));
    let python = std::env::var("TIDEWATER_CLIENTS_PYTHON")
        .unwrap_or_else(|_| format!("{cache}/tidewater/venv-clients/bin/python"));
    let node = std::env::var("TIDEWATER_CLIENTS_NODE").unwrap_or_else(|_| format!("{cache}/tidewater/node"));
    for (program, file) in [(python.as_str(), "scram_client.py"), ("node", "scram_client.js")] {
        for transport in ["tls", "plain"] {
            let output = Command::new(program)
                .arg(format!("{}/tests/clients/{file}", env!("CARGO_MANIFEST_DIR")))
                .args([&server.pg_port.to_string(), transport])
                .env("NODE_PATH", format!("{node}/node_modules"))
                .output()
                .unwrap_or_else(|error| panic!("{program}: {error}; scripts/setup installs it"));
            let said = String::from_utf8_lossy(&output.stdout);
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert_eq!(said, "ok\n", "{file} {transport}: {complaint}");
        }
    }
}

#[test]
fn an_exchange_tells_nothing_of_who_there_is_and_survives_nonsense() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut server = Server::start_in(&directory.path().join("data"), &["--auth", "scram"]);
    let begin = |user: &str| {
        let mut wire = Wire::open(server.pg_port);
        wire.send(&startup(3 << 16, &[("user", user)]));
        let asked = wire.until('R');
        assert_eq!(asked[0].body, [&10u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat());
        wire
    };
    let initial = |text: &str| {
        let body = [b"SCRAM-SHA-256\0", &(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
        message('p', &body)
    };
    // A role that does not exist has a salt, and the same one when asked again.
    let salt = |user: &str| {
        let mut wire = begin(user);
        wire.send(&initial("n,,n=,r=abcdefgh"));
        let text = String::from_utf8(wire.until('R')[0].body[4..].to_vec()).expect("text");
        let attribute = |name: &str| text.split(',').find_map(|part| part.strip_prefix(name)).map(str::to_string);
        assert!(attribute("r=").is_some_and(|nonce| nonce.starts_with("abcdefgh") && nonce.len() > 20), "{text}");
        assert_eq!(attribute("i=").as_deref(), Some("4096"));
        attribute("s=").expect("a salt")
    };
    assert_eq!(salt("nobody"), salt("nobody"));
    assert_ne!(salt("nobody"), salt("somebody"));
    for (what, bytes) in [
        ("no message of a password", wire::query("SELECT 1")),
        ("an unknown mechanism", message('p', b"SCRAM-SHA-1\0\0\0\0\0")),
        ("binding in the clear", message('p', b"SCRAM-SHA-256-PLUS\0\0\0\0\0")),
        ("a length that lies", message('p', b"SCRAM-SHA-256\0\x7f\xff\xff\xff")),
        ("an empty message", message('p', b"")),
        ("a first message of nothing", initial("")),
        ("a flag that is none", initial("z,,n=,r=abc")),
        ("an identity", initial("n,a=x,n=,r=abc")),
        ("no nonce", initial("n,,n=")),
        ("a message of 100 MB", [b"p".to_vec(), (100u32 << 20).to_be_bytes().to_vec(), vec![0; 4096]].concat()),
        ("a proof of nothing", [initial("n,,n=,r=abc"), message('p', b"c=biws,r=abc,p=")].concat()),
        ("no proof", [initial("n,,n=,r=abc"), message('p', b"c=biws,r=abc")].concat()),
    ] {
        let mut wire = begin("tidewater");
        wire.try_send(&bytes);
        wire.finish();
        let replies = wire.rest();
        let error = replies.iter().find(|reply| reply.tag == 'E');
        assert!(replies.iter().all(|reply| reply.tag != 'Z'), "{what}");
        if what != "a message of 100 MB" {
            assert_eq!(error.and_then(|error| error.field('S')).as_deref(), Some("FATAL"), "{what}");
        }
    }
    assert!(server.is_alive());
}
