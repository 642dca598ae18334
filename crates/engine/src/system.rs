//! The snapshot that system relations are made from.

use std::sync::{Arc, LazyLock};

use catalog::role::Role;
use catalog::system::{Actions, ArrangementRow, ErrorRow, FrontierRow, SessionRow, Snapshot, SourceRow};
use catalog::{Catalog, ObjectKind, SearchPath, SequenceAccess};
use dataflow::DataflowStats;
use plan::Fingerprint;
use repr::source::{Positions, SourceDescription, event_time_key, event_time_partition};
use repr::text::calendar::TimeZone;
use repr::text::datetime::{format_timestamp, format_timestamptz};
use repr::{ObjectId, RelationSchema, SqlType, TableOptions, Timestamp, Watermark};

use crate::engine::Shared;
use crate::settings::Settings;

/// The session that reads a system relation.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) session_user: String,
    pub(crate) roles: Arc<Vec<Role>>,
    pub(crate) actions: Arc<dyn Actions>,
    pub(crate) process_id: i32,
    pub(crate) statement_us: i64,
    pub(crate) transaction_us: i64,
    pub(crate) settings: Settings,
    pub(crate) search_path: SearchPath,
    pub(crate) sequences: Arc<dyn SequenceAccess>,
}

impl Asker {
    /// As of now. What costs something is looked at only for the relations in `read`.
    pub(crate) fn snapshot(&self, shared: &Shared, catalog: &Arc<Catalog>, read: &[ObjectId]) -> Snapshot {
        let reads = |name: &str| {
            read.iter().filter_map(|id| catalog::system::relation(*id)).any(|relation| relation.name == name)
        };
        let mut snapshot = Snapshot {
            catalog: Arc::clone(catalog),
            database: self.database.clone(),
            user: self.user.clone(),
            session_user: self.session_user.clone(),
            roles: Arc::clone(&self.roles),
            actions: Some(Arc::clone(&self.actions)),
            process_id: self.process_id,
            started_us: shared.started_us,
            statement_us: self.statement_us,
            transaction_us: self.transaction_us,
            settings: self.settings.rows(),
            functions: &FUNCTIONS,
            search_path: self.search_path.clone(),
            sequences: Some(Arc::clone(&self.sequences)),
            ..Snapshot::default()
        };
        if reads("pg_stat_activity") {
            snapshot.sessions = sessions(shared);
        }
        if reads("tw_errors") {
            snapshot.errors = errors(shared);
        }
        if reads("tw_arrangements") || reads("tw_frontiers") {
            for dataflow in shared.runtime.stats() {
                let frontier = Some(dataflow.frontier).filter(|frontier| *frontier != Timestamp::MAX);
                let name = dataflow_name(catalog, &dataflow);
                snapshot.frontiers.push(FrontierRow { object: dataflow.id, name: name.clone(), frontier });
                snapshot.arrangements.extend(dataflow.operators.into_iter().map(|operator| ArrangementRow {
                    object: dataflow.id,
                    name: name.clone(),
                    operator: operator.name,
                    row_count: operator.row_count as i64,
                    size_bytes: operator.size_bytes as i64,
                }));
            }
        }
        if reads("tw_sources") {
            for object in catalog.objects() {
                match &object.kind {
                    ObjectKind::Source { description, .. } => {
                        let positions = shared.runtime.source_positions(object.id);
                        snapshot.sources.extend(source_rows(object.id, description, &positions));
                    }
                    ObjectKind::Table { schema, options: TableOptions { watermark: Some(watermark), .. }, .. } => {
                        let latest = shared.table_times.get(object.id).latest;
                        let watermark = latest.map(|latest| watermark_text(watermark, latest, schema));
                        snapshot.sources.push(SourceRow {
                            object: object.id,
                            part: "table".to_string(),
                            position: None,
                            watermark,
                        });
                    }
                    _ => {}
                }
            }
        }
        snapshot
    }
}

/// The partitions of a source that were read.
fn source_rows(object: ObjectId, description: &SourceDescription, positions: &Positions) -> Vec<SourceRow> {
    let partitions = positions.iter().filter(|(key, _)| event_time_partition(key).is_none());
    let row = |(part, position): (&String, &u64)| {
        let latest = positions.get(&event_time_key(part)).map(|time| *time as i64);
        let watermark = description.watermark.zip(latest);
        let watermark = watermark.map(|(watermark, latest)| watermark_text(&watermark, latest, &description.schema));
        SourceRow { object, part: part.clone(), position: Some(*position), watermark }
    };
    partitions.map(row).collect()
}

/// The watermark where `latest` is the latest event time, as its column's type shows it.
fn watermark_text(watermark: &Watermark, latest: i64, schema: &RelationSchema) -> String {
    let (time, mut text) = (watermark.behind(latest), String::new());
    match schema.columns[watermark.column].sql_type {
        SqlType::Timestamp => format_timestamp(time, &mut text),
        SqlType::Timestamptz => format_timestamptz(time, &TimeZone::UTC, &mut text),
        _ => text = time.to_string(),
    }
    text
}

/// The object's name; for an arrangement that objects share what it holds, relations by their names.
pub(crate) fn dataflow_name(catalog: &Catalog, dataflow: &DataflowStats) -> String {
    if let Some(object) = catalog.get(dataflow.id) {
        return object.name.clone();
    }
    match dataflow.name.parse::<Fingerprint>() {
        Err(_) => dataflow.name.clone(),
        Ok(fingerprint) => {
            let relation = catalog.get(fingerprint.relation);
            let schema = relation.and_then(|relation| relation.relation_schema());
            let column = |index: &usize| {
                let column = schema.and_then(|schema| schema.columns.get(*index));
                column.map_or_else(|| index.to_string(), |column| column.name.clone())
            };
            let name = relation.map_or_else(|| fingerprint.relation.to_string(), |relation| relation.name.clone());
            format!("{name} by {}", fingerprint.key.iter().map(column).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The functions that may be called.
static FUNCTIONS: LazyLock<Vec<String>> =
    LazyLock::new(|| sql::functions::names().into_iter().map(str::to_string).collect());

fn sessions(shared: &Shared) -> Vec<SessionRow> {
    let sessions = shared.sessions.lock();
    let row = |(process_id, session): (&i32, &crate::engine::Connected)| SessionRow {
        process_id: *process_id,
        user: session.user.clone(),
        application_name: session.application_name.clone(),
        state: session.state.to_string(),
        query: session.query.clone(),
        started_us: session.started_us,
    };
    sessions.iter().map(row).collect()
}

/// Rows that views could not compute, input that did not decode, sources that cannot be read.
fn errors(shared: &Shared) -> Vec<ErrorRow> {
    let computed = shared.runtime.errors().into_iter().map(|(object, error, since, count)| ErrorRow {
        object,
        location: error.operator,
        input: error.row,
        state: error.state.0.to_string(),
        message: error.message,
        since: Some(since),
        count,
    });
    computed.chain(shared.decode_errors.rows()).chain(shared.readers.failures()).collect()
}
