//! Turns lists that are not newest first into the same rows: Stripe's are, but for what was imported or has a clock of its own.

use std::sync::Arc;

use serde_json::Value;
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rule, Scripted, answer};
use stripelake::fake::{Account, Spec};
use stripelake::fetch::allowance::Budgets;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted_table};
use crate::table::{Table, created};

const DAY: i64 = 86_400;

async fn sync_charges(lake: &TestLake, script: &Arc<Scripted>, concurrency: usize) {
    let options = Options { concurrency, ..lake.options_for(&["charges"]) };
    check_kind(&lake.sync_with(options, script.clone()).await.unwrap(), None);
}

/// Any order of the list is read to its end.
async fn check_order(seed: u64, n: u64, concurrency: usize, upset: impl Fn(&mut Vec<Value>)) {
    let table = Table::charges(seed, n);
    table.edit("charges", |charges| upset(charges));
    let lake = TestLake::new();
    sync_charges(&lake, &scripted_table(&table), concurrency).await;
    lake.check_table_equals(&table, "charges").await;
}

/// These objects of the list were created so long before their place in it.
pub fn older(charges: &mut [Value], places: std::ops::Range<usize>, days: i64) {
    for charge in &mut charges[places] {
        charge["created"] = (created(charge) - days * DAY).into();
    }
}

#[tokio::test(start_paused = true)]
async fn g8_a_list_in_another_order_loses_nothing() {
    check_order(93, 700, 6, |charges| charges.reverse()).await;
    check_order(94, 700, 6, |charges| fastrand::Rng::with_seed(94).shuffle(charges)).await;
    // Newest first, but for one object: an old one among the new ones, within a page and at its end.
    for at in [50, 99, 100] {
        check_order(95, 700, 6, |charges| {
            let oldest = charges.pop().unwrap();
            charges.insert(at, oldest);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn g8_a_new_object_at_the_end_of_the_list_is_read_by_one_worker() {
    // Several workers ask only for the older part there; no page before it tells of the odd one.
    check_order(96, 700, 1, |charges| {
        let newest = charges.remove(0);
        charges.push(newest);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn g8_old_objects_among_new_ones_end_no_slice() {
    for concurrency in [1, 6] {
        for (places, days) in [(299..300, 50), (298..300, 50), (250..400, 300), (100..200, 100)] {
            check_order(97, 3_000, concurrency, |charges| older(charges, places.clone(), days)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g8_an_odd_object_marks_no_other_as_deleted() {
    let spec = Spec { seed: 98, charges: 10, customers: Some(1_500), span_days: 400, ..Spec::default() };
    let table = Table::some_of(&Account::new(spec), |name| name == "customers");
    let lake = TestLake::new();
    let run = async |concurrency| {
        let options = Options { concurrency, ..lake.options_for(&["customers"]) };
        check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), None);
    };
    run(4).await;
    table.edit("customers", |customers| {
        let mut odd = customers[299].clone();
        odd["id"] = "cus_odd".into();
        customers.insert(299, odd);
        older(customers, 299..300, 50);
    });
    for concurrency in [1, 6] {
        run(concurrency).await;
        lake.check_table_equals(&table, "customers").await;
    }
}

/// So many prices, each third of them archived, a day apart.
fn prices(n: usize) -> Arc<Table> {
    let table = Table::of(&account(101, 200));
    table.edit("prices", |prices| {
        let (pattern, now) = (prices[0].clone(), created(&prices[0]));
        *prices = (0..n).map(|at| price(&pattern, at, now - at as i64 * DAY)).collect();
    });
    table
}

fn price(pattern: &Value, at: usize, created: i64) -> Value {
    let mut price = pattern.clone();
    price["id"] = format!("price_{at}").into();
    price["created"] = created.into();
    price["active"] = (!at.is_multiple_of(3)).into();
    price
}

#[tokio::test(start_paused = true)]
async fn g8_no_pass_ends_where_old_objects_stand_among_new_ones() {
    let kinds = |active: bool| move |at: usize| at.is_multiple_of(3) != active;
    for concurrency in [1, 6] {
        for (active, places, days) in [
            (false, 99..100, 50),
            (false, 95..100, 500),
            (false, 90..290, 2_000),
            (true, 99..100, 50),
            (true, 150..300, 2_000),
        ] {
            let table = prices(1_500);
            table.edit("prices", |prices| {
                let of_pass: Vec<usize> = (0..prices.len()).filter(|at| kinds(active)(*at)).collect();
                for at in &of_pass[places.clone()] {
                    prices[*at]["created"] = (created(&prices[*at]) - days * DAY).into();
                }
            });
            let lake = TestLake::new();
            // The second run may mark as deleted what it does not find.
            for _ in 0..2 {
                let options = Options { concurrency, ..lake.options_for(&["prices"]) };
                check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), None);
                lake.check_table_equals(&table, "prices").await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g8_a_listing_with_an_odd_object_at_the_end_of_a_page_is_continued() {
    for requests in [3, 4, 5] {
        let table = Table::charges(99, 900);
        table.edit("charges", |charges| older(charges, 99..100, 30));
        let lake = TestLake::new();
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        let part = Options { budgets, concurrency: 1, ..lake.options_for(&["charges"]) };
        let report = lake.sync_with(part, table.clone()).await.unwrap();
        check_kind(&report, Some(Kind::Budget));
        sync_charges(&lake, &scripted_table(&table), 1).await;
        lake.check_table_equals(&table, "charges").await;
    }
}

#[tokio::test(start_paused = true)]
async fn g8_a_jump_is_believed_when_it_comes_again_also_while_pages_grow() {
    let table = Table::charges(100, 700);
    table.edit("charges", |charges| older(charges, 95..100, 300));
    let script = scripted_table(&table);
    // Pages of fifty until good ones have come.
    let refused = Action::Answer(answer(500, String::new()));
    script.rules.add(Rule::new("/v1/charges", refused).with("limit", "100").times(3));
    let lake = TestLake::new();
    sync_charges(&lake, &script, 1).await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_time_before_a_busy_second_costs_a_request_and_no_more() {
    // The slices end in it, and what is listed of the second is more than is remembered.
    let table = Table::charges(101, 16_000);
    table.edit("charges", |charges| {
        charges.sort_by_key(|charge| -created(charge));
        for block in charges.chunks_mut(800) {
            let second = created(&block[0]);
            block.iter_mut().for_each(|charge| charge["created"] = second.into());
        }
    });
    for concurrency in [1, 6] {
        let script = scripted_table(&table);
        let lake = TestLake::new();
        sync_charges(&lake, &script, concurrency).await;
        lake.check_table_equals(&table, "charges").await;
        let n = script.asked("/v1/charges").len();
        assert!(n <= 160 + 30, "{n} requests for 160 pages");
    }
}
