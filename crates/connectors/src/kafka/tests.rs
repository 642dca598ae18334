//! A Kafka source against librdkafka's mock cluster: partitions, positions, bounds, broken messages, a broker that goes away.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use repr::{ColumnSchema, LateRows, RelationSchema, SqlType, Watermark};

use super::*;

fn source(broker: &str, options: &[(&str, &str)]) -> SourceDescription {
    let mut all: repr::source::Options =
        options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    all.insert("broker".to_string(), broker.to_string());
    all.insert("topic".to_string(), "numbers".to_string());
    SourceDescription {
        watermark: None,
        connector: "kafka".to_string(),
        options: all,
        format: Some("json".to_string()),
        format_options: Default::default(),
        schema: RelationSchema::new(vec![ColumnSchema::new("a", SqlType::Int8)]),
    }
}

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, BaseProducer) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("numbers", 2, 1).unwrap();
    let producer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
    (cluster, producer)
}

fn produce(producer: &BaseProducer, partition: i32, messages: &[&str]) {
    for message in messages {
        producer.send(BaseRecord::<(), str>::to("numbers").partition(partition).payload(message)).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// Reads until `count` rows and errors are there, or the source ends.
fn read(source: &mut dyn Source, count: usize) -> (Vec<i64>, Vec<String>, Positions) {
    let (mut values, mut errors, mut positions) = (Vec::new(), Vec::new(), Positions::new());
    let started = Instant::now();
    while values.len() + errors.len() < count && started.elapsed() < Duration::from_secs(20) {
        match source.next(Duration::from_millis(50)).unwrap() {
            Next::Batch(batch) => {
                values.extend(batch.columns[0].as_primitive::<Int64Type>().values());
                errors.extend(batch.errors.into_iter().map(|error| error.location));
                positions = batch.positions;
            }
            Next::Idle => {}
            Next::End => break,
        }
    }
    values.sort_unstable();
    (values, errors, positions)
}

#[test]
fn all_partitions_are_read_and_go_on_from_their_positions() {
    let (cluster, producer) = cluster();
    produce(&producer, 0, &["{\"a\":1}", "nonsense", "{\"a\":2}"]);
    produce(&producer, 1, &["{\"a\":3}"]);
    let description = source(&cluster.bootstrap_servers(), &[]);
    validate(&description).unwrap();
    let (values, errors, positions) = read(&mut *open(&description, &Positions::new(), None).unwrap(), 4);
    assert_eq!(values, [1, 2, 3]);
    assert_eq!(errors, ["topic numbers, partition 0, offset 1"]);
    assert_eq!(positions, Positions::from([("0".to_string(), 3), ("1".to_string(), 1)]));
    assert_eq!(latest(&description).unwrap(), positions);

    produce(&producer, 1, &["{\"a\":4}"]);
    let mut resumed = open(&description, &positions, None).unwrap();
    assert_eq!(read(&mut *resumed, 1).0, [4]);
    // Up to where it was, and not what came later.
    let mut bounded = open(&description, &Positions::new(), Some(&positions)).unwrap();
    assert_eq!(read(&mut *bounded, usize::MAX).0, [1, 2, 3]);
    let skipping = source(&cluster.bootstrap_servers(), &[("start_offset", "2,1")]);
    assert_eq!(read(&mut *open(&skipping, &Positions::new(), None).unwrap(), 2).0, [2, 4]);
}

#[test]
fn each_partition_has_a_watermark_of_its_own() {
    let (cluster, producer) = cluster();
    produce(&producer, 0, &["{\"a\":100}", "nonsense", "{\"a\":90}", "{\"a\":96}"]);
    produce(&producer, 1, &["{\"a\":10}", "{\"a\":4}", "nonsense", "{\"a\":7}"]);
    let watermark = Watermark { column: 0, delay: 5, late_rows: LateRows::Drop };
    let description = SourceDescription { watermark: Some(watermark), ..source(&cluster.bootstrap_servers(), &[]) };
    let (values, errors, positions) = read(&mut *crate::open(&description, &Positions::new(), None).unwrap(), 6);
    assert_eq!((values, errors.len()), (vec![7, 10, 96, 100], 2));
    let times = [("0", 4), ("1", 4), ("0 (event time)", 100), ("1 (event time)", 10)];
    assert_eq!(positions, times.into_iter().map(|(key, at)| (key.to_string(), at)).collect());

    produce(&producer, 0, &["{\"a\":94}", "{\"a\":95}"]);
    produce(&producer, 1, &["{\"a\":5}"]);
    let mut resumed = crate::open(&description, &positions, None).unwrap();
    assert_eq!(read(&mut *resumed, 2).0, [5, 95]);
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let (cluster, producer) = cluster();
    produce(&producer, 0, &["{\"a\":1}"]);
    let description = source(&cluster.bootstrap_servers(), &[]);
    let mut reader = open(&description, &Positions::new(), None).unwrap();
    assert_eq!(read(&mut *reader, 1).0, [1]);
    cluster.broker_down(1).unwrap();
    for _ in 0..10 {
        assert!(matches!(reader.next(Duration::from_millis(50)).unwrap(), Next::Idle));
    }
    let mut late = open(&description, &Positions::new(), None).unwrap();
    assert!(matches!(late.next(Duration::from_millis(50)).unwrap(), Next::Idle));
    cluster.broker_up(1).unwrap();
    produce(&producer, 1, &["{\"a\":2}"]);
    assert_eq!(read(&mut *reader, 1).0, [2]);
    assert_eq!(read(&mut *late, 2).0, [1, 2]);
}

#[test]
fn nothing_listening_is_a_clear_error() {
    let mut options = source("127.0.0.1:1", &[]);
    options.options.insert("properties.nonsense".to_string(), "1".to_string());
    assert_eq!(validate(&options).unwrap_err().state, SqlState::INVALID_PARAMETER_VALUE);
    assert_eq!(Start::parse(Some("latest")).unwrap_err().state, SqlState::FEATURE_NOT_SUPPORTED);
    assert_eq!(Start::parse(Some("3, 4")).unwrap(), Start::Each(vec![3, 4]));
    assert!(Start::parse(Some("x")).is_err());
}
