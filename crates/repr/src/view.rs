//! What `CREATE MATERIALIZED VIEW .. WITH (..)` says beyond the query.

/// What becomes of a row that fails while a view is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It leaves the view and is listed in `tw_catalog.tw_errors` until it is mended.
    #[default]
    Quarantine,
    /// The same, and every read of the view fails until then.
    Fail,
    /// The expression that failed is NULL.
    Null,
}

impl OnError {
    /// By its name as an option's value, lower case.
    pub fn parse(name: &str) -> Option<OnError> {
        match name {
            "quarantine" => Some(OnError::Quarantine),
            "fail" => Some(OnError::Fail),
            "null" => Some(OnError::Null),
            _ => None,
        }
    }

    /// What [`OnError::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            OnError::Quarantine => "quarantine",
            OnError::Fail => "fail",
            OnError::Null => "null",
        }
    }
}

/// The options of a materialized view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// `ON ERROR = quarantine | fail | null`.
    pub on_error: OnError,
    /// `RETAIN HISTORY FOR interval`, in milliseconds: how far back the view can be read. 0 is the present only.
    pub retain_history_ms: u64,
    /// `EMIT ON WINDOW CLOSE`: a window's rows are given once, when the watermark has passed its end.
    pub emit_on_window_close: bool,
}
