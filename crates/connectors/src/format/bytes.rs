//! Bytes: each message, or line without its end, is the value of the one column, whatever its bytes are.

use repr::source::SourceDescription;
use repr::{PgError, SqlType};

use super::{Decoder, Format, Rows, check_one_column, each_line};

pub(super) const FORMAT: Format = Format {
    name: "bytes",
    doc: "Each message, or line of a file, is the value of the one column, of type bytea.",
    options: &[],
    decoder,
};

struct BytesDecoder {
    rows: Rows,
}

fn decoder(description: &SourceDescription) -> Result<Box<dyn Decoder>, PgError> {
    check_one_column(description, "bytes", "bytea", |sql_type| *sql_type == SqlType::Bytea)?;
    Ok(Box::new(BytesDecoder { rows: Rows::new(&description.schema) }))
}

impl Decoder for BytesDecoder {
    fn decode_stream(&mut self, bytes: &[u8], place: u64, at_end: bool) -> usize {
        each_line(bytes, at_end, |line, start| {
            self.decode_record(line, place + start as u64);
            !self.rows.is_full()
        })
    }

    fn decode_record(&mut self, record: &[u8], _place: u64) {
        self.rows.push_bytes(record);
    }

    fn rows(&mut self) -> &mut Rows {
        &mut self.rows
    }
}
