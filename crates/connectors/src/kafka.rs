//! Kafka: the messages of a topic's partitions.
//!
//! Partitions are assigned by us, not by a consumer group, and nothing is committed to the broker: where a source is lies in
//! its positions alone, the next offset of each partition. librdkafka connects again by itself; a broker that stays away for
//! [`ANSWER_TIMEOUT`] is an error, so that whoever waits is told. New partitions of a topic are found within
//! [`METADATA_INTERVAL`].
//!
//! A partition whose offsets have been deleted by retention before they were read is an error of the source, not silence;
//! so is everything that librdkafka does not get over by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use repr::source::{Positions, SourceDescription};
use repr::{PgError, SqlState};

use crate::format::{Decoder, decoder};
use crate::options::{OptionDoc, invalid, required};
use crate::{Connector, DecodeError, Next, Source, SourceBatch};

pub(crate) const CONNECTOR: Connector = Connector {
    name: "kafka",
    doc: "A topic of Apache Kafka or of anything that speaks its protocol.",
    options: &[
        OptionDoc {
            name: "broker",
            doc: "host:port of one broker or several, separated by commas; of the connection.",
        },
        OptionDoc { name: "topic", doc: "The topic." },
        OptionDoc {
            name: "start_offset",
            doc: "Where to start: earliest (so unless said), one offset for every partition, or a list with one each.",
        },
        OptionDoc { name: "properties.", doc: "A property of librdkafka, such as properties.security.protocol." },
    ],
    open,
    latest,
    validate,
};

/// How long a broker may take to answer where a user waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take where nobody does: the thread should be able to stop.
const METADATA_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a topic is asked for new partitions.
const METADATA_INTERVAL: Duration = Duration::from_secs(10);
/// A batch ends after this many bytes even if its rows are few.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A consumer that leaves the log to us: what matters comes as the answer to a call.
type QuietConsumer = BaseConsumer<Quiet>;

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!("{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("{error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}

struct Settings {
    broker: String,
    topic: String,
    start: Start,
    properties: Vec<(String, String)>,
}

/// Where a partition starts that has no position yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    Earliest,
    All(u64),
    Each(Vec<u64>),
}

impl Start {
    fn parse(value: Option<&str>) -> Result<Start, PgError> {
        let bad = || invalid("start_offset", value.unwrap_or_default());
        match value {
            None | Some("earliest") => Ok(Start::Earliest),
            // A source's rows must be the same each time it is read; what "latest" was is known nowhere later.
            Some("latest") => Err(PgError::unsupported("START OFFSET latest")
                .with_hint("Give the offsets to start at as numbers, one for each partition: START OFFSET (10, 12).")),
            Some(value) if value.contains(',') => {
                let offsets = value.split(',').map(|offset| offset.trim().parse::<u64>());
                offsets.collect::<Result<_, _>>().map(Start::Each).map_err(|_| bad())
            }
            Some(value) => value.parse().map(Start::All).map_err(|_| bad()),
        }
    }

    /// The first offset that is wanted; None is the first there is.
    fn of(&self, partition: i32) -> Option<u64> {
        match self {
            Start::Earliest => None,
            Start::All(offset) => Some(*offset),
            Start::Each(offsets) => offsets.get(partition as usize).copied(),
        }
    }
}

fn settings(description: &SourceDescription) -> Result<Settings, PgError> {
    let options = &description.options;
    let properties = options
        .iter()
        .filter_map(|(name, value)| name.strip_prefix("properties.").map(|name| (name.to_string(), value.clone())));
    Ok(Settings {
        broker: required("a Kafka source", options, "broker")?.to_string(),
        topic: required("a Kafka source", options, "topic")?.to_string(),
        start: Start::parse(options.get("start_offset").map(String::as_str))?,
        properties: properties.collect(),
    })
}

fn consumer(settings: &Settings) -> Result<QuietConsumer, PgError> {
    let mut config = ClientConfig::new();
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    // What reading relies on is not the user's to change.
    config
        .set("bootstrap.servers", &settings.broker)
        .set("group.id", "tidewater")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error");
    let defaults = [
        ("client.id", "tidewater"),
        ("fetch.wait.max.ms", "20"),
        ("fetch.error.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "1000"),
        ("queued.min.messages", "100000"),
    ];
    for (name, value) in defaults {
        if !settings.properties.iter().any(|(property, _)| property == name) {
            config.set(name, value);
        }
    }
    config.create_with_context(Quiet).map_err(|error| match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            let message = format!("invalid Kafka property \"{name}\" = \"{value}\": {reason}");
            PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        }
        error => PgError::new(SqlState::CONNECTION_FAILURE, format!("could not make a Kafka client: {error}")),
    })
}

/// The topic's partitions. Errors: 42704 if there is no such topic, 08006 if no broker answers.
fn partitions(consumer: &QuietConsumer, settings: &Settings, timeout: Duration) -> Result<Vec<i32>, PgError> {
    let metadata =
        consumer.fetch_metadata(Some(&settings.topic), timeout).map_err(|error| unreachable(settings, &error))?;
    let undefined = || {
        let message = format!("topic \"{}\" does not exist on the Kafka broker at {}", settings.topic, settings.broker);
        PgError::new(SqlState::UNDEFINED_OBJECT, message)
    };
    let topic = metadata.topics().iter().find(|topic| topic.name() == settings.topic).ok_or_else(undefined)?;
    if let Some(error) = topic.error() {
        return Err(match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => undefined(),
            code => unreachable(settings, &KafkaError::MetadataFetch(code)),
        });
    }
    if topic.partitions().is_empty() {
        return Err(undefined());
    }
    Ok(topic.partitions().iter().map(|partition| partition.id()).collect())
}

fn unreachable(settings: &Settings, error: &KafkaError) -> PgError {
    let reason = match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    };
    let message = format!("could not read topic \"{}\" from the Kafka broker at {}", settings.topic, settings.broker);
    PgError::new(SqlState::CONNECTION_FAILURE, message).with_detail(format!("{reason}."))
}

fn validate(description: &SourceDescription) -> Result<(), PgError> {
    decoder(description)?;
    let settings = settings(description)?;
    let partitions = partitions(&consumer(&settings)?, &settings, ANSWER_TIMEOUT)?;
    match &settings.start {
        Start::Each(offsets) if offsets.len() != partitions.len() => {
            let message = format!(
                "START OFFSET has {} offsets, topic \"{}\" has {} partitions",
                offsets.len(),
                settings.topic,
                partitions.len()
            );
            Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message))
        }
        _ => Ok(()),
    }
}

fn latest(description: &SourceDescription) -> Result<Positions, PgError> {
    let settings = settings(description)?;
    let consumer = consumer(&settings)?;
    let mut positions = Positions::new();
    for partition in partitions(&consumer, &settings, ANSWER_TIMEOUT)? {
        let (_, high) = consumer
            .fetch_watermarks(&settings.topic, partition, ANSWER_TIMEOUT)
            .map_err(|error| unreachable(&settings, &error))?;
        positions.insert(partition.to_string(), high.max(0) as u64);
    }
    Ok(positions)
}

fn open(description: &SourceDescription, from: &Positions, to: Option<&Positions>) -> Result<Box<dyn Source>, PgError> {
    let settings = settings(description)?;
    Ok(Box::new(KafkaSource {
        consumer: consumer(&settings)?,
        settings,
        decoder: decoder(description)?,
        partitions: BTreeMap::new(),
        from: from.clone(),
        to: to.cloned(),
        asked: None,
        away: Some(Instant::now()),
        pending: None,
        runs: Vec::new(),
    }))
}

struct KafkaSource {
    consumer: QuietConsumer,
    settings: Settings,
    decoder: Box<dyn Decoder>,
    /// Those assigned.
    partitions: BTreeMap<i32, Partition>,
    from: Positions,
    to: Option<Positions>,
    /// When the topic was last asked for its partitions.
    asked: Option<Instant>,
    /// Since when no broker has answered.
    away: Option<Instant>,
    /// An error that came after rows that had to go out first.
    pending: Option<PgError>,
    /// Which partitions the decoder's rows are of, in order, and the row that each run of them begins with.
    runs: Vec<(i32, usize)>,
}

struct Partition {
    /// The next offset; None until a message or the partition's end has told it.
    next: Option<u64>,
    /// Messages before this offset are not wanted, although the partition has not come to it yet.
    first: u64,
    /// Read up to here and no further.
    end: Option<u64>,
}

impl Partition {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| end == 0 || self.next.is_some_and(|next| next >= end))
    }
}

impl Source for KafkaSource {
    fn next(&mut self, timeout: Duration) -> Result<Next, PgError> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        let deadline = Instant::now() + timeout;
        self.assign()?;
        if self.is_done() {
            return Ok(Next::End);
        }
        self.check_away()?;
        if self.partitions.is_empty() {
            // The broker is away. Asking took its time already, or is not due yet.
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
            return Ok(Next::Idle);
        }
        let byte_count = match self.poll(deadline) {
            Ok(byte_count) => byte_count,
            Err(error) if self.decoder.rows().is_empty() => return Err(error),
            Err(error) => {
                self.pending = Some(error);
                0
            }
        };
        if self.decoder.rows().is_empty() {
            return Ok(if self.is_done() { Next::End } else { Next::Idle });
        }
        Ok(Next::Batch(self.batch(byte_count)))
    }

    fn read_only(&mut self, columns: &BTreeSet<usize>) {
        self.decoder.rows().read_only(columns);
    }
}

impl KafkaSource {
    /// Everything that was asked for has been read.
    fn is_done(&self) -> bool {
        match &self.to {
            None => false,
            Some(to) if to.values().all(|end| *end == 0) => true,
            Some(_) => !self.partitions.is_empty() && self.partitions.values().all(Partition::is_done),
        }
    }

    /// Assigns the partitions that are new, each from its position. Without an answer from the broker nothing changes.
    fn assign(&mut self) -> Result<(), PgError> {
        let interval = if self.partitions.is_empty() { METADATA_TIMEOUT } else { METADATA_INTERVAL };
        let bounded = self.to.is_some() && !self.partitions.is_empty();
        if bounded || self.asked.is_some_and(|asked| asked.elapsed() < interval) {
            return Ok(());
        }
        let Some(found) = self.ask()? else { return Ok(()) };
        let mut added = TopicPartitionList::new();
        for number in found {
            let key = number.to_string();
            let end = self.to.as_ref().map(|to| to.get(&key).copied().unwrap_or(0));
            if self.partitions.contains_key(&number) || end == Some(0) {
                continue;
            }
            let next = self.from.get(&key).copied();
            let first = self.settings.start.of(number);
            let start = match next.or(first) {
                None => Offset::Beginning,
                Some(_) if next.is_none() => self.existing(number, first.unwrap_or(0))?,
                Some(offset) => Offset::Offset(offset as i64),
            };
            added
                .add_partition_offset(&self.settings.topic, number, start)
                .map_err(|error| unreachable(&self.settings, &error))?;
            self.partitions.insert(number, Partition { next, first: first.unwrap_or(0), end });
        }
        if added.count() > 0 {
            self.consumer.incremental_assign(&added).map_err(|error| unreachable(&self.settings, &error))?;
        }
        Ok(())
    }

    /// The topic's partitions; None without an answer from the broker.
    fn ask(&mut self) -> Result<Option<Vec<i32>>, PgError> {
        let found = partitions(&self.consumer, &self.settings, METADATA_TIMEOUT);
        self.asked = Some(Instant::now());
        match found {
            Ok(found) => {
                self.away = None;
                Ok(Some(found))
            }
            Err(error) if error.state == SqlState::CONNECTION_FAILURE => {
                tracing::debug!("{error}: {}", error.detail.as_deref().unwrap_or_default());
                self.away.get_or_insert_with(Instant::now);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Errors once no broker has answered for [`ANSWER_TIMEOUT`]; asks it now and then before that.
    fn check_away(&mut self) -> Result<(), PgError> {
        let Some(away) = self.away else { return Ok(()) };
        if self.asked.is_none_or(|asked| asked.elapsed() >= METADATA_TIMEOUT) {
            self.ask()?;
        }
        match self.away.is_some() && away.elapsed() >= ANSWER_TIMEOUT {
            true => Err(unreachable(&self.settings, &KafkaError::Global(RDKafkaErrorCode::AllBrokersDown))),
            false => Ok(()),
        }
    }

    /// Where to start so that `first` is not passed over: a broker refuses an offset that its partition does not have yet.
    fn existing(&self, partition: i32, first: u64) -> Result<Offset, PgError> {
        let (_, high) = self
            .consumer
            .fetch_watermarks(&self.settings.topic, partition, ANSWER_TIMEOUT)
            .map_err(|error| unreachable(&self.settings, &error))?;
        Ok(Offset::Offset(high.max(0).min(first as i64)))
    }

    /// Decodes what is there: waits for the first message up to `deadline`, for none after it. Says how many bytes came.
    fn poll(&mut self, deadline: Instant) -> Result<usize, PgError> {
        let mut byte_count = 0;
        loop {
            let waiting = self.decoder.rows().is_empty();
            let timeout = if waiting { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.consumer.poll(timeout) {
                None => return Ok(byte_count),
                Some(Ok(message)) => {
                    let (number, offset) = (message.partition(), message.offset() as u64);
                    let Some(partition) = self.partitions.get_mut(&number) else { continue };
                    // Messages behind the end are of another reading; those before the position were given already.
                    if partition.is_done() || partition.next.is_some_and(|next| offset < next) {
                        continue;
                    }
                    partition.next = Some(offset + 1);
                    if offset < partition.first || partition.end.is_some_and(|end| offset >= end) {
                        continue;
                    }
                    match message.payload() {
                        Some(payload) => {
                            byte_count += payload.len();
                            if self.runs.last().is_none_or(|(last, _)| *last != number) {
                                self.runs.push((number, self.decoder.rows().row_count()));
                            }
                            self.decoder.decode_record(payload, place(number, offset));
                        }
                        None => {
                            let error =
                                PgError::new(SqlState::INVALID_BINARY_REPRESENTATION, "the message has no value");
                            self.decoder.rows().fail(b"", place(number, offset), error);
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    // Transaction markers have offsets and are no messages: only the end tells that they were passed.
                    if let Some(partition) = self.partitions.get_mut(&number)
                        && let Some(end) = partition.end
                    {
                        partition.next = Some(partition.next.unwrap_or(0).max(end));
                    }
                }
                Some(Err(error)) => self.judge(error)?,
            }
            if self.decoder.rows().is_full() || byte_count >= BATCH_BYTES_MAX {
                return Ok(byte_count);
            }
            if self.decoder.rows().is_empty() && (Instant::now() >= deadline || self.is_done()) {
                return Ok(byte_count);
            }
        }
    }

    /// Which errors pass by themselves. Any other ends this reading and is told; the next one starts where this one was.
    fn judge(&mut self, error: KafkaError) -> Result<(), PgError> {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let code = error.rdkafka_error_code();
        match code {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let topic = &self.settings.topic;
                let message = format!("topic \"{topic}\" no longer has the messages that come next");
                return Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .with_detail("Retention deleted them before they were read, or the topic was made anew.")
                    .with_hint("Drop the source and create it again to read what is left."));
            }
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                self.away.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
        if fatal || !code.is_some_and(passes) {
            return Err(unreachable(&self.settings, &error));
        }
        tracing::debug!("topic {}: {error}", self.settings.topic);
        Ok(())
    }

    fn batch(&mut self, byte_count: usize) -> SourceBatch {
        let (columns, row_count, failures) = self.decoder.rows().take();
        let errors = failures.into_iter().map(|failure| {
            let (partition, offset) = (failure.place >> OFFSET_BITS, failure.place & OFFSET_MASK);
            let location = format!("topic {}, partition {partition}, offset {offset}", self.settings.topic);
            DecodeError { location, input: failure.input, error: failure.error }
        });
        let errors = errors.collect();
        let mut positions = self.from.clone();
        for (number, partition) in &self.partitions {
            if let Some(next) = partition.next {
                positions.insert(number.to_string(), next);
            }
        }
        let runs = std::mem::take(&mut self.runs);
        let ends = runs.iter().skip(1).map(|(_, start)| *start).chain([row_count]);
        let partitions =
            runs.iter().zip(ends).map(|((number, start), end)| (number.to_string(), end - start)).collect();
        SourceBatch { columns, row_count, errors, partitions, late_rows: 0, positions, byte_count }
    }
}

/// Whether librdkafka goes on by itself after this: connections, elections, and answers that come late.
fn passes(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::FencedLeaderEpoch
            | Code::KafkaStorageError
            | Code::LeaderNotAvailable
            | Code::NetworkException
            | Code::NodeUpdate
            | Code::NotCoordinator
            | Code::NotLeaderForPartition
            | Code::OffsetNotAvailable
            | Code::OperationTimedOut
            | Code::ReplicaNotAvailable
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::UnknownLeaderEpoch
    )
}

const OFFSET_BITS: u32 = 44;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// A message's partition and offset in one number; 2^44 messages a partition are more than a broker's disks hold.
fn place(partition: i32, offset: u64) -> u64 {
    ((partition as u64) << OFFSET_BITS) | (offset & OFFSET_MASK)
}

#[cfg(test)]
mod tests;
