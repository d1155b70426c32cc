//! Turns random accounts and random finite faults into lakes that end equal to the account.

use std::time::Duration;

use proptest::prelude::*;
use stripelake::fake::script::{Action, Rule, answer, refusal};
use stripelake::fetch::TransportError;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, scripted_table};
use crate::table::Table;

/// Faults of Stripe and the way to it that end some time.
fn action() -> impl Strategy<Value = Action> {
    let page = r#"{"object":"list","data":[],"url":"/v1/x"}"#;
    prop_oneof![
        (500u16..505).prop_map(|status| Action::Answer(answer(status, "oops"))),
        Just(Action::Fail(TransportError::Network("reset".to_owned()))),
        Just(Action::Answer(answer(200, "<html>"))),
        Just(Action::Answer(answer(200, page))),
        Just(Action::Answer(refusal(429, "lock_timeout", None, "locked"))),
        Just(Action::Answer(refusal(401, "api_key_expired", None, "expired"))),
        Just(Action::Answer(refusal(403, "more_permissions_required", None, "no"))),
        Just(Action::Answer(refusal(404, "resource_missing", Some("id"), "no"))),
        Just(Action::Answer(refusal(400, "resource_missing", Some("starting_after"), "gone"))),
        (0u64..3_000).prop_map(|ms| Action::Delay(Duration::from_millis(ms))),
        Just(Action::Answer({
            let mut limited = refusal(429, "rate_limit", None, "slow down");
            limited.headers.rate_limited_reason = Some("global-rate".to_owned());
            limited
        })),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    const PATHS: [&str; 8] =
        ["*", "account", "charges", "customers", "subscriptions", "subscription_items", "prices", "refunds"];
    (proptest::sample::select(&PATHS[..]), action(), 1u64..8, 1u64..6).prop_map(
        |(path, action, nth, times)| Rule::new(&format!("/v1/{path}"), action).from_nth(nth).times(times),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn i7_finite_faults_end_in_a_lake_that_equals_the_account(
        seed in 0u64..1_000_000,
        charges in 0u64..130,
        concurrency in 1usize..6,
        rules in proptest::collection::vec(rule(), 0..6),
        changed in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let table = Table::of(&account(seed, charges));
            let script = scripted_table(&table);
            let lake = TestLake::new();
            rules.into_iter().for_each(|rule| script.rules.add(rule));
            let mut runs = 0;
            loop {
                let options = Options { concurrency, ..lake.options() };
                let complete = lake.sync_with(options, script.clone()).await.is_ok_and(|r| r.kind().is_none());
                lake.check_intact().await;
                if complete {
                    break;
                }
                runs += 1;
                assert!(runs < 40, "the faults end and the runs do not");
                // Meanwhile the account goes on.
                table.edit("customers", |customers| {
                    for index in &changed {
                        if customers.is_empty() {
                            break;
                        }
                        let at = index.index(customers.len());
                        customers[at]["name"] = format!("changed {runs}").into();
                    }
                });
            }
            lake.check_equals(&table).await;
            assert!(script.log().len() < 2_000, "{} requests", script.log().len());
        });
    }
}
