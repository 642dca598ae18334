//! Questions that many tests ask: one value, all rows, and something that comes true by and by.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

/// The first value of the first row, `NULL` for NULL.
pub(crate) async fn scalar(client: &Client, sql: &str) -> String {
    let rows = rows(client, sql).await;
    let row = rows.first().unwrap_or_else(|| panic!("no row: {sql}"));
    row.split('|').next().unwrap_or_default().to_string()
}

/// Every row as text, columns between bars, in sorted order.
pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut rows: Vec<String> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> = (0..row.len()).map(|column| row.get(column).unwrap_or("NULL")).collect();
                Some(values.join("|"))
            }
            _ => None,
        })
        .collect();
    rows.sort();
    rows
}

/// Runs statements that must succeed.
pub(crate) async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The SQLSTATE and the message of a statement that must fail.
pub(crate) async fn failure(client: &Client, sql: &str) -> (String, String) {
    let error = match client.simple_query(sql).await {
        Ok(_) => panic!("succeeded: {sql}"),
        Err(error) => error,
    };
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    (error.code().code().to_string(), error.message().to_string())
}

/// Waits until a query has this answer, as [`rows`] gives it.
pub(crate) async fn becomes(client: &Client, sql: &str, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = rows(client, sql).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}\nis still {found:?}\ninstead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for something that another task brings about.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
