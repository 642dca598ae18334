//! A real Apache Kafka of the tests' own: one broker a test binary, on a free port, in a directory that the next run removes.
//!
//! The broker belongs to a thread that waits for it, and Linux kills it when that thread ends; so it never outlives the
//! tests, however they end.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::sync::{Mutex, MutexGuard};

/// The broker, and the right to use it alone.
pub(crate) struct Broker {
    port: u16,
    home: PathBuf,
    running: Option<Running>,
}

struct Running {
    process_id: i32,
    /// Told when the process has ended.
    ended: mpsc::Receiver<()>,
}

/// The broker of this test binary. Tests that use it come one after the other: some of them stop it.
pub(crate) async fn broker() -> MutexGuard<'static, Broker> {
    static BROKER: LazyLock<Mutex<Broker>> = LazyLock::new(|| {
        remove_left_behind();
        Mutex::new(Broker { port: free_ports(), home: home_of(std::process::id()), running: None })
    });
    let mut broker = BROKER.lock().await;
    broker.start();
    broker
}

impl Broker {
    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it unless it runs; returns when it answers.
    pub(crate) fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        self.running = Some(launch(&self.home, self.port));
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let deadline = Instant::now() + Duration::from_secs(60);
        while consumer.fetch_metadata(None, Duration::from_secs(1)).map_or(0, |found| found.brokers().len()) == 0 {
            let log = || fs::read_to_string(self.home.join("run.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "Kafka did not start within 60 s (scripts/kafka run):\n{}", log());
        }
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(&mut self) {
        self.signal(libc::SIGTERM);
    }

    /// Stops it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.signal(libc::SIGKILL);
    }

    fn signal(&mut self, signal: i32) {
        let running = self.running.take().expect("it runs");
        // SAFETY: kill has no memory to get wrong; the process is waited for only after it has ended.
        unsafe { libc::kill(running.process_id, signal) };
        running.ended.recv_timeout(Duration::from_secs(60)).expect("Kafka stops within 60 s");
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("log_level", "0");
        config
    }

    /// Makes a topic.
    pub(crate) async fn create_topic(&self, name: &str, partition_count: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let topic = NewTopic::new(name, partition_count, TopicReplication::Fixed(1));
        let made = admin.create_topics([&topic], &AdminOptions::new()).await.expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Removes a topic.
    pub(crate) async fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let deleted = admin.delete_topics(&[name], &AdminOptions::new()).await.expect("an answer");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Gives a topic more partitions, `partition_count` in all.
    pub(crate) async fn add_partitions(&self, name: &str, partition_count: usize) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let more = NewPartitions::new(name, partition_count);
        let made = admin.create_partitions([&more], &AdminOptions::new()).await.expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// How many partitions the topic has.
    pub(crate) fn partition_count(&self, name: &str) -> usize {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let found = consumer.fetch_metadata(Some(name), Duration::from_secs(10)).expect("an answer");
        found.topics().first().map_or(0, |topic| topic.partitions().len())
    }

    /// Something to produce with.
    pub(crate) fn producer(&self) -> BaseProducer {
        self.config().set("linger.ms", "0").create().expect("a producer")
    }
}

/// Writes messages to a partition and waits until the broker has them.
pub(crate) fn produce(producer: &BaseProducer, topic: &str, partition: i32, messages: &[impl AsRef<[u8]>]) {
    for message in messages {
        let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(message.as_ref());
        producer.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
    }
    wait(producer);
}

/// Waits until the broker has all that was sent; `flush` would look only ten times a second.
pub(crate) fn wait(producer: &BaseProducer) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while producer.in_flight_count() > 0 {
        assert!(Instant::now() < deadline, "the broker does not take the messages");
        producer.poll(Duration::from_millis(2));
    }
}

/// Starts `scripts/kafka run` on a thread of its own.
fn launch(home: &Path, port: u16) -> Running {
    fs::create_dir_all(home).expect("a directory");
    let log = fs::File::create(home.join("run.log")).expect("a file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka");
    let mut command = Command::new(script);
    command.args(["run", &port.to_string()]).env("TIDEWATER_KAFKA", home).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    let (started, start) = mpsc::channel();
    let (ending, ended) = mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: prctl and getppid may be called between fork and exec.
        unsafe { command.pre_exec(end_with_parent) };
        let mut child = command.spawn().expect("scripts/kafka runs");
        started.send(child.id() as i32).expect("the test waits for it");
        // The thread lives as long as the broker: its end would be the broker's.
        let _ = child.wait();
        let _ = ending.send(());
    });
    Running { process_id: start.recv().expect("scripts/kafka runs"), ended }
}

fn end_with_parent() -> io::Result<()> {
    // SAFETY: it takes plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A port that is free and whose successor, the controller's, is too.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("an address").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

fn home_of(process_id: u32) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{process_id}"))
}

/// Removes the directories of test processes that are gone.
fn remove_left_behind() {
    let entries = fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process_id = name.strip_prefix("kafka-").and_then(|id| id.parse::<u32>().ok());
        if process_id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            // Another run may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
