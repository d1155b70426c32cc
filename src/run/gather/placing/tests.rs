//! Checks that of a list that came twice the one that was read later stays, in whatever order they come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use object_store::memory::InMemory;
use serde_json::json;

use super::*;
use crate::catalog::Catalog;
use crate::commit::Lake;
use crate::commit::remote::RemoteLake;
use crate::decode::rows::with_partition_at;
use crate::decode::schema::arrow_schema;
use crate::decode::{self, Decoder};
use crate::encode;
use crate::plan::coverage::Coverage;
use crate::run::Setup;
use crate::run::gather::Message;
use crate::run::gather::waiting::{self, WaitingRows};
use crate::spool::Budget;

fn setup() -> Setup {
    Setup {
        catalog: Arc::new(Catalog::embedded().unwrap()),
        lake: Arc::new(Lake::Remote(RemoteLake::new(
            Arc::new(InMemory::new()),
            Default::default(),
            "memory://lake",
        ))),
        run_id: "run".to_owned(),
        started_at: Timestamp::now(),
        encode: encode::Options::default(),
        owner: None,
        memory: 64 << 20,
        temporary: std::env::temp_dir(),
        grains: HashMap::new(),
        wait_lock: Duration::ZERO,
        on_event: Arc::new(|_| {}),
    }
}

/// How the gatherer gets lists.
#[derive(Debug, Clone, Copy)]
enum Way {
    Read,
    /// From the file in which a run that was killed kept them.
    TakenUp,
}

/// How many rows each table has after lists with so many items were taken, each observed at a time.
async fn n_rows_of(lists: &[(usize, i64)], way: Way) -> Vec<u64> {
    let setup = setup();
    let child = setup.catalog.resources.iter().find(|resource| resource.parent.is_some()).unwrap();
    let parent = child.parent.as_ref().unwrap();
    let resource = setup.catalog.get(&parent.resource).unwrap().clone();
    let budget = Budget::new(setup.memory);
    let mut gatherer = Gatherer::open(&setup, &resource, None, &budget).await.unwrap();
    let mut kept = WaitingRows::new(&resource.name, &setup.run_id);
    for (n_items, observed_at) in lists {
        let options = decode::Options { livemode: Some(false), ..Default::default() };
        let mut decoder = Decoder::new(&resource, &setup.children_of(&resource), options);
        let item = |n| json!({"id": format!("item_{n}"), "object": child.object, "created": 1_790_000_000});
        let items: Vec<_> = (0..*n_items).map(item).collect();
        let list = json!({"object": "list", "data": items, "has_more": false, "url": "/v1/x"});
        let mut object = json!({"id": "parent_1", "object": resource.object, "created": 1_790_000_000});
        object[&parent.path[0]] = list;
        let page = json!({"object": "list", "data": [object], "has_more": false});
        let pushed = decoder.push_page(page.to_string().as_bytes(), *observed_at).unwrap();
        assert_eq!(pushed.rejected, []);
        match way {
            Way::Read => gatherer.take(Message::Rows(decoder.flush())).await.unwrap(),
            Way::TakenUp => drop(kept.add(&setup.lake, &decoder.flush()).unwrap()),
        }
    }
    let everything: Coverage = std::iter::once(0..i64::MAX).collect();
    if let Way::TakenUp = way {
        kept.keep(&setup.lake, &everything).await.unwrap();
    }
    let schemas = gatherer.tables.iter().map(|table| with_partition_at(&arrow_schema(&table.resource)));
    let schemas: Vec<_> = schemas.collect();
    for file in &kept.files {
        let opened = waiting::open(&setup.lake, file).await.unwrap().unwrap();
        for decoded in waiting::read(opened, &schemas, everything.clone()).unwrap() {
            gatherer.place(decoded.unwrap(), Vec::new()).unwrap();
        }
    }
    gatherer.take(Message::Complete).await.unwrap();
    gatherer.reports().iter().map(|report| report.rows).collect()
}

#[tokio::test]
async fn the_list_that_was_read_last_stays_whichever_comes_last() {
    let cases: [(&[(usize, i64)], u64); 6] = [
        (&[(1, 1)], 1),
        (&[(3, 1), (1, 2)], 1),
        (&[(1, 2), (3, 1)], 1),
        (&[(3, 1), (0, 2)], 0),
        (&[(0, 2), (3, 1)], 0),
        (&[(2, 5), (1, 3), (4, 5), (1, 4)], 4),
    ];
    for (lists, n_items) in cases {
        for way in [Way::Read, Way::TakenUp] {
            assert_eq!(n_rows_of(lists, way).await, [1, n_items], "{lists:?}, {way:?}");
        }
    }
}
