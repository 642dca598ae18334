//! CREATE SOURCE and CREATE CONNECTION: where data comes from and how it is written.
//!
//! Two forms of a source mean the same. Ours: `FROM KAFKA CONNECTION k (TOPIC 't') FORMAT JSON`; the one RisingWave users
//! know: `WITH (connector = 'kafka', topic = 't') FORMAT PLAIN ENCODE JSON`. Options are only collected here; which ones a
//! connector has is the connector's to say.

use std::ops::Range;

use repr::PgError;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Ast, CreateConnection, CreateSource, Options, StatementParser};

/// Options whose name is two words. Any other second word is the option's value.
const TWO_WORD_OPTIONS: [(&str, &str); 5] =
    [("LATE", "ROWS"), ("ON", "ERROR"), ("START", "OFFSET"), ("START", "TIMESTAMP"), ("TICK", "INTERVAL")];

impl StatementParser<'_> {
    /// After CREATE SOURCE.
    pub(super) fn create_source(&mut self) -> Result<Ast, PgError> {
        let if_not_exists = self.if_not_exists();
        let (name, name_at) = self.placed(Self::name)?;
        let (columns, constraints) = self.sql(Parser::parse_columns)?;
        let mut source = CreateSource {
            name,
            if_not_exists,
            columns,
            constraints,
            connector: None,
            connection: None,
            row_options: Options::new(),
            options: Options::new(),
            format: None,
            format_options: Options::new(),
            late_into: None,
        };
        // What stands right behind the columns is said of the rows, whatever they come from.
        let mut into = None;
        let said_of_rows = if self.accept(&["WITH"]) { Some(self.options_into(&mut into)?) } else { None };
        if self.accept(&["FROM"]) {
            self.source_from(&mut source)?;
            source.row_options = said_of_rows.unwrap_or_default();
        } else {
            source.options = said_of_rows.ok_or_else(|| self.syntax_error())?;
        }
        if self.accept(&["FORMAT"]) {
            self.source_format(&mut source)?;
        }
        source.late_into = into.map(|(late, into_at)| {
            let punctual = self.replaced(&[(into_at.clone(), "= drop")]);
            let tardy = self.replaced(&[(name_at, &late), (into_at, "= only")]);
            [punctual, tardy]
        });
        Ok(Ast::CreateSource(source))
    }

    /// What `parse` gives, and the characters of the statement that it read.
    fn placed<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, PgError>) -> Result<(T, Range<usize>), PgError> {
        let start = self.peek().span.start.column as usize;
        let parsed = parse(self)?;
        Ok((parsed, start..self.parser.get_current_token().span.end.column as usize))
    }

    /// The statement's text with other words in places of it, which come in order.
    fn replaced(&self, places: &[(Range<usize>, &str)]) -> String {
        let characters: Vec<char> = self.text.chars().collect();
        let (mut text, mut from) = (String::new(), 0);
        for (place, words) in places {
            text.extend(&characters[from..place.start - 1]);
            text.push_str(words);
            from = place.end - 1;
        }
        text.extend(&characters[from..]);
        text
    }

    fn source_from(&mut self, source: &mut CreateSource) -> Result<(), PgError> {
        if self.accept(&["LOAD", "GENERATOR"]) {
            source.connector = Some("load_generator".to_string());
            let generator = self.identifier()?;
            if self.is_token(&Token::LParen) {
                source.options = self.options()?;
            }
            source.options.insert("generator".to_string(), generator);
            return Ok(());
        }
        source.connector = Some(self.identifier()?);
        if self.accept(&["CONNECTION"]) {
            source.connection = Some(self.name()?);
        }
        if self.is_token(&Token::LParen) {
            source.options = self.options()?;
        }
        Ok(())
    }

    /// After FORMAT: `CSV WITH HEADER`, `CSV WITH (..)`, `JSON`, `PLAIN ENCODE JSON (..)`.
    fn source_format(&mut self, source: &mut CreateSource) -> Result<(), PgError> {
        let mut format = self.identifier()?;
        if self.accept(&["ENCODE"]) {
            if format != "plain" {
                return Err(PgError::unsupported(format!("FORMAT {}", format.to_uppercase())));
            }
            format = self.identifier()?;
        }
        source.format = Some(format);
        if self.accept(&["WITH"]) && !self.is_token(&Token::LParen) {
            self.expect(&["HEADER"])?;
            source.format_options.insert("header".to_string(), "true".to_string());
        } else if self.is_token(&Token::LParen) {
            source.format_options = self.options()?;
        }
        Ok(())
    }

    /// After CREATE CONNECTION.
    pub(super) fn create_connection(&mut self) -> Result<Ast, PgError> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        self.expect(&["TO"])?;
        let connector = self.identifier()?;
        let options = self.options()?;
        Ok(Ast::CreateConnection(CreateConnection { name, if_not_exists, connector, options }))
    }

    /// `(PATH 'x', FOLLOW, START OFFSET = 3, properties.acks = 'all')`. An option said twice is a syntax error.
    pub(super) fn options(&mut self) -> Result<Options, PgError> {
        let mut into = None;
        let options = self.options_into(&mut into)?;
        match into {
            None => Ok(options),
            Some(_) => Err(PgError::unsupported("LATE ROWS INTO of anything but a source")),
        }
    }

    /// The same for a source, where `LATE ROWS INTO name` may stand: the name as it was written, and the place of INTO and name.
    fn options_into(&mut self, into: &mut Option<(String, Range<usize>)>) -> Result<Options, PgError> {
        let mut options = Options::new();
        self.expect_token(&Token::LParen)?;
        if self.accept_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let here = self.syntax_error();
            let name = self.option_name()?;
            let (late, place) = self.placed(|parser| match name == "late_rows" && parser.accept(&["INTO"]) {
                true => parser.placed(Self::name).map(Some),
                false => Ok(None),
            })?;
            self.accept_token(&Token::Eq);
            let value = match self.peek().token {
                _ if late.is_some() => "drop".to_string(),
                Token::Comma | Token::RParen => "true".to_string(),
                _ => self.option_value()?,
            };
            if let Some((_, at)) = late {
                let name = self.text.chars().skip(at.start - 1).take(at.len()).collect();
                *into = Some((name, place));
            }
            if options.insert(name, value).is_some() {
                return Err(PgError { message: "conflicting or redundant options".to_string(), ..here });
            }
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }

    fn option_name(&mut self) -> Result<String, PgError> {
        if self.accept(&["RETAIN", "HISTORY"]) {
            self.accept_token(&Token::Eq);
            self.expect(&["FOR"])?;
            return Ok("retain_history".to_string());
        }
        for (first, second) in TWO_WORD_OPTIONS {
            if self.accept(&[first, second]) {
                return Ok(format!("{first}_{second}").to_lowercase());
            }
        }
        let mut name = self.identifier()?.to_lowercase();
        while self.accept_token(&Token::Period) {
            name.push('.');
            name.push_str(&self.identifier()?);
        }
        Ok(name)
    }

    /// A string, number, word, interval or list of them in parentheses; a list's elements are joined by commas.
    pub(super) fn option_value(&mut self) -> Result<String, PgError> {
        if self.accept_token(&Token::LParen) {
            let values = self.comma_separated(Self::option_value)?;
            self.expect_token(&Token::RParen)?;
            return Ok(values.join(","));
        }
        let minus = if self.accept_token(&Token::Minus) { "-" } else { "" };
        self.accept_token(&Token::Plus);
        let value = match &self.peek().token {
            Token::Number(number, _) => number.clone(),
            _ if !minus.is_empty() => return Err(self.syntax_error()),
            Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("interval") => {
                self.parser.advance_token();
                return self.string();
            }
            Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
            Token::Word(word) => word.value.clone(),
            _ => return self.string(),
        };
        self.parser.advance_token();
        Ok(format!("{minus}{value}"))
    }
}
