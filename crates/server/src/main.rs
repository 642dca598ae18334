//! The `tidewater` binary.
//!
//! Exit codes: 0 after a clean stop, 1 if the server could not start or failed, 2 if the command line is wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use server::{AuthPolicy, Config};
use tracing_subscriber::EnvFilter;

// Arrow buffers come and go by the thousand from every worker; the system's allocator keeps too much of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Live answers over live data, in SQL, from any Postgres client.
#[derive(Parser)]
#[command(name = "tidewater", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Where data is kept [default: $XDG_DATA_HOME/tidewater or ~/.local/share/tidewater]
    #[arg(long, env = "TIDEWATER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where Postgres clients connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7432", env = "TIDEWATER_LISTEN")]
    listen: SocketAddr,
    /// Where /health, /ready and /metrics are
    #[arg(long, default_value = "127.0.0.1:7480", env = "TIDEWATER_HTTP")]
    http: SocketAddr,
    /// Dataflow worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), env = "TIDEWATER_WORKERS")]
    workers: u16,
    /// Memory to stay within, in bytes
    #[arg(long, value_name = "BYTES", env = "TIDEWATER_MEMORY_LIMIT")]
    memory_limit: Option<u64>,
    /// Sessions at a time
    #[arg(long, default_value_t = 500, env = "TIDEWATER_MAX_CONNECTIONS")]
    max_connections: usize,
    /// Who shows a password: others than this machine, or everyone
    #[arg(long, value_enum, default_value_t = AuthPolicy::Trust, env = "TIDEWATER_AUTH")]
    auth: AuthPolicy,
    /// A certificate with its chain, in PEM: TLS is offered. Read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "TIDEWATER_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "TIDEWATER_TLS_KEY")]
    tls_key: Option<PathBuf>,
}

/// Where a password for the first role is read from; an option would show it to every process of the machine.
const PASSWORD_VARIABLE: &str = "TIDEWATER_PASSWORD";

fn main() -> ExitCode {
    refuse_huge_pages();
    allow_many_files();
    let Command::Serve(serve) = CommandLine::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidewater: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks the kernel for small pages. Merging frees and takes memory all the time, and of a huge page all is cleared again
/// for the part that is used: that was a third of the time of a join of wide rows, and a tenth of its memory.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets a flag of this process and touches no memory. Where the kernel does not know it, nothing changes.
    let _ = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Takes as many file descriptors as the system lets us have: each session is one, and the usual limit is 1024.
fn allow_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the one structure that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            // Refused, things are as they were.
            let _ = libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

fn run(serve: Serve) -> anyhow::Result<()> {
    let data_dir = match serve.data_dir {
        Some(data_dir) => data_dir,
        None => default_data_dir().ok_or_else(|| {
            anyhow::anyhow!("there is no home directory to keep data in; --data-dir chooses another place")
        })?,
    };
    let config = Config {
        data_dir,
        listen: serve.listen,
        http: serve.http,
        workers: usize::from(serve.workers),
        memory_limit_bytes: serve.memory_limit,
        connections_max: serve.max_connections,
        auth: serve.auth,
        tls: serve.tls_cert.zip(serve.tls_key),
        password: std::env::var(PASSWORD_VARIABLE).ok().filter(|password| !password.is_empty()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("wire").build()?;
    let served = runtime.block_on(server::serve(config));
    // Connections that would not end do not keep the process.
    runtime.shutdown_background();
    Ok(served?)
}

fn default_data_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(base.join("tidewater"))
}
