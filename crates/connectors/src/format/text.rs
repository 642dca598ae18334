//! Text: each line, or message, is the value of the one column.

use repr::source::SourceDescription;
use repr::{PgError, SqlType};

use super::{Decoder, Field, Format, Rows, check_one_column, each_line, not_utf8};

pub(super) const FORMAT: Format = Format {
    name: "text",
    doc: "Each line of a file, or message, is the value of the one column, of type text.",
    options: &[],
    decoder,
};

struct TextDecoder {
    rows: Rows,
}

fn decoder(description: &SourceDescription) -> Result<Box<dyn Decoder>, PgError> {
    check_one_column(description, "text", "text", |sql_type| {
        matches!(sql_type, SqlType::Text | SqlType::Varchar | SqlType::Json | SqlType::Jsonb)
    })?;
    Ok(Box::new(TextDecoder { rows: Rows::new(&description.schema) }))
}

impl Decoder for TextDecoder {
    fn decode_stream(&mut self, bytes: &[u8], place: u64, at_end: bool) -> usize {
        each_line(bytes, at_end, |line, start| {
            self.decode_record(line, place + start as u64);
            !self.rows.is_full()
        })
    }

    fn decode_record(&mut self, record: &[u8], place: u64) {
        match std::str::from_utf8(record) {
            Ok(text) => self.rows.push(&[Field::Text(0..text.len())], text, "", place),
            Err(_) => self.rows.fail(record, place, not_utf8(record)),
        }
    }

    fn rows(&mut self) -> &mut Rows {
        &mut self.rows
    }
}
