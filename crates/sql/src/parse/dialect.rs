//! PostgreSQL's grammar for sqlparser, but for one thing: the name of a call's argument is a word.
//!
//! sqlparser's own PostgreSQL dialect takes any expression for such a name (`JSON_OBJECT(expr : value)`, which PostgreSQL has
//! since 16), and to find out it parses every argument twice. Calls that nest n deep then take 2^n steps: twenty took seconds.

use std::any::TypeId;

use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

use super::is_word;

const BASE: PostgreSqlDialect = PostgreSqlDialect {};

/// The dialect of every text we parse.
#[derive(Debug)]
pub(super) struct TidewaterDialect {
    /// Whether a relation's version may follow its name. `at` and `before` are no aliases then, so it is for texts that have
    /// `FOR SYSTEM_TIME` alone.
    pub(super) versions: bool,
}

/// What PostgreSQL's dialect says yes to: all methods that it overrides in sqlparser 0.62 (look again with a newer one).
macro_rules! as_postgres {
    ($($question:ident)*) => { $(fn $question(&self) -> bool { BASE.$question() })* };
}

impl Dialect for TidewaterDialect {
    /// The parser asks in places whether the dialect is PostgreSQL's.
    fn dialect(&self) -> TypeId {
        BASE.dialect()
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn supports_table_versioning(&self) -> bool {
        self.versions
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        BASE.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        BASE.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        BASE.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        BASE.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        BASE.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        BASE.is_reserved_for_identifier(keyword)
    }

    /// The word of `FROM t EMIT ON WINDOW CLOSE` is no name of `t`. The parser has just read it.
    fn is_table_alias(&self, keyword: &Keyword, parser: &mut Parser) -> bool {
        let emits = is_word(&parser.get_current_token().token, "EMIT")
            && is_word(&parser.peek_nth_token_ref(0).token, "ON")
            && is_word(&parser.peek_nth_token_ref(1).token, "WINDOW")
            && is_word(&parser.peek_nth_token_ref(2).token, "CLOSE");
        !emits && BASE.is_table_alias(keyword, parser)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        BASE.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        BASE.prec_value(precedence)
    }

    as_postgres! {
        allow_extract_custom
        allow_extract_single_quotes
        supports_alter_column_type_using
        supports_array_typedef_with_brackets
        supports_bitwise_shift_operators
        supports_comma_separated_trim
        supports_comment_on
        supports_comment_optimizer_hint
        supports_create_index_with_clause
        supports_create_table_like_parenthesized
        supports_empty_projections
        supports_explain_with_utility_options
        supports_factorial_operator
        supports_filter_during_aggregation
        supports_geometric_types
        supports_group_by_expr
        supports_insert_table_alias
        supports_interval_options
        supports_listen_notify
        supports_load_extension
        supports_named_fn_args_with_colon_operator
        supports_nested_comments
        supports_notnull_operator
        supports_numeric_literal_underscores
        supports_select_wildcard_with_alias
        supports_set_names
        supports_string_escape_constant
        supports_unicode_string_literal
        supports_xml_expressions
    }
}
