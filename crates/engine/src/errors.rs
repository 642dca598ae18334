//! Errors on their way to the user, and the rows of `tw_catalog.tw_errors`.

use std::collections::BTreeMap;

use arrow::error::ArrowError;
use catalog::system::ErrorRow;
use datafusion::error::DataFusionError;
use parking_lot::Mutex;
use repr::{ObjectId, PgError, SqlState};

/// What the user should read of a failed evaluation: the kernel's own error where there is one inside.
pub(crate) fn from_datafusion(error: DataFusionError) -> PgError {
    if let DataFusionError::Shared(shared) = &error {
        return root(shared);
    }
    root(&error)
}

fn root(error: &DataFusionError) -> PgError {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<PgError>() {
            Some(error) => error.clone(),
            None => PgError::internal(inner.to_string()),
        },
        DataFusionError::ArrowError(inner, _) => from_arrow(inner),
        DataFusionError::ResourcesExhausted(message) => PgError::new(SqlState::OUT_OF_MEMORY, message.clone()),
        DataFusionError::NotImplemented(message) => PgError::unsupported(message),
        other => PgError::internal(other.strip_backtrace()),
    }
}

fn from_arrow(error: &ArrowError) -> PgError {
    match error {
        ArrowError::DivideByZero => PgError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(message) => PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message.clone()),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<PgError>() {
            Some(error) => error.clone(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(error) => root(error),
                None => PgError::internal(inner.to_string()),
            },
        },
        other => PgError::internal(other.to_string()),
    }
}

/// Input that did not decode, by source and place: reading the same place again changes nothing.
#[derive(Default)]
pub(crate) struct DecodeErrors {
    sources: Mutex<BTreeMap<ObjectId, SourceErrors>>,
}

#[derive(Default)]
struct SourceErrors {
    rows: BTreeMap<String, ErrorRow>,
    /// All of them, those that were not kept among them.
    count: u64,
}

/// Errors kept of one source; later ones are only counted.
const ERRORS_MAX: usize = 10_000;
/// Characters kept of an input that failed.
const INPUT_CHARS_MAX: usize = 1_000;

impl DecodeErrors {
    pub(crate) fn add(&self, source: ObjectId, location: String, input: &str, error: &PgError) {
        let mut sources = self.sources.lock();
        let errors = sources.entry(source).or_default();
        if errors.rows.contains_key(&location) {
            return;
        }
        errors.count += 1;
        if errors.rows.len() < ERRORS_MAX {
            let row = ErrorRow {
                object: source,
                location: location.clone(),
                input: input.chars().take(INPUT_CHARS_MAX).collect(),
                state: error.state.0.to_string(),
                message: error.message.clone(),
                since: None,
                count: 1,
            };
            errors.rows.insert(location, row);
        }
    }

    pub(crate) fn forget(&self, source: ObjectId) {
        self.sources.lock().remove(&source);
    }

    /// The errors kept, and the number of all of each source.
    pub(crate) fn rows(&self) -> Vec<ErrorRow> {
        self.sources.lock().values().flat_map(|errors| errors.rows.values().cloned()).collect()
    }

    pub(crate) fn counts(&self) -> Vec<(ObjectId, u64)> {
        self.sources.lock().iter().map(|(source, errors)| (*source, errors.count)).collect()
    }
}
