//! Turns keys that are revoked, lack a permission or belong elsewhere into the right exit, and clocks into windows.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use stripelake::commit::remote::RemoteLake;
use stripelake::commit::state::ResourceState;
use stripelake::commit::{Lake, lock};
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Asked, Rewrite, Rule, Scripted, refusal};
use stripelake::fake::{Account, InProcess, Resource, Spec};
use stripelake::fetch::Response;
use stripelake::fetch::allowance::Budgets;
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::sync::{Options, sync};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::harness::{TestLake, account, check_kind, scripted, scripted_table};
use crate::table::Table;

fn spec(seed: u64) -> Spec {
    Spec { seed, charges: 350, span_days: 400, ..Spec::default() }
}

#[tokio::test(start_paused = true)]
async fn a1_a_key_that_is_not_accepted_ends_the_run_before_anything_is_written() {
    let account = Arc::new(Account::new(Spec { accepted_key: Some("rk_test_other".to_owned()), ..spec(61) }));
    let transport = InProcess { key: "rk_test_mine".to_owned(), ..InProcess::new(account) };
    let lake = TestLake::new();
    let error = lake.sync(Arc::new(transport)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
    assert_eq!(error.lake_text(), Some("unchanged"));
    assert!(lake.files().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lake_within_a_lake_is_refused() {
    let table = Table::of(&account(61, 60));
    let store = TestLake::new();
    let at =
        |prefix: &str| RemoteLake::new(store.store.clone(), prefix.into(), &format!("s3://bucket/{prefix}"));
    let sync_at = async |prefix: &str| {
        let setup = Setup { lake: Arc::new(Lake::Remote(at(prefix))), ..store.setup() };
        sync(&setup, store.options_for(&["prices"]), table.clone()).await
    };
    check_kind(&sync_at("a/lake").await.unwrap(), None);
    for inner in ["a/lake/charges", "a/lake/deeper/down"] {
        assert_eq!(at(inner).outer().await.as_deref(), Some("s3://bucket/a/lake"));
        assert_eq!(sync_at(inner).await.unwrap_err().kind(), Kind::Usage, "{inner}");
    }
    for beside in ["a/lake", "a/lakes", "b"] {
        check_kind(&sync_at(beside).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a1_a_key_revoked_on_the_way_leaves_what_was_complete() {
    let table = Table::of(&account(62, 900));
    let script = scripted_table(&table);
    let revoked =
        Action::Answer(refusal(401, "api_key_expired", None, "Expired API Key provided: rk_test_****abcd"));
    // Refunds are few and read first; charges come later.
    script.rules.add(Rule::new("/v1/charges", revoked).from_nth(3));
    let lake = TestLake::new();
    let options = Options { concurrency: 1, ..lake.options_for(&["refunds", "charges", "customers"]) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Auth));
    lake.check_intact().await;
    lake.check_table_equals(&table, "refunds").await;
    assert_eq!(script.asked("/v1/charges").len(), 3, "a 401 is not repeated");

    script.rules.clear();
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a2_a_missing_permission_fails_one_resource() {
    let table = Table::of(&Account::new(spec(63)));
    let script = scripted(Account::new(Spec { denied: vec![Resource::Customers], ..spec(63) }));
    let lake = TestLake::new();
    let report = lake.sync(script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    let [(name, error)] = report.failures.as_slice() else { panic!("{:?}", report.failures) };
    assert_eq!(name, "customers");
    assert!(error.hint_text().unwrap().contains("rak_customer_read"), "{:?}", error.hint_text());
    assert_eq!(script.asked("/v1/customers").len(), 1, "a 403 is not repeated");
    for resource in lake.catalog.listed().filter(|resource| resource.name != "customers") {
        lake.check_table_equals(&table, &resource.name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a3_no_permission_at_all_is_the_keys_fault() {
    let script = scripted(account(64, 100));
    script.rules.add(Rule::new(
        "/v1/*",
        Action::Answer(refusal(403, "ip_not_allowed", None, "The IP is not allowed.")),
    ));
    let lake = TestLake::new();
    let report = lake.sync(script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Auth));
    assert_eq!(script.log().len(), 7, "each list once, and the account");
}

#[tokio::test(start_paused = true)]
async fn a5_a_key_of_another_account_is_refused() {
    let lake = TestLake::new();
    lake.sync_completely(Arc::new(InProcess::new(Arc::new(account(65, 50))))).await;
    let before = lake.files().await;
    let error = lake.sync(Arc::new(InProcess::new(Arc::new(account(66, 50))))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Auth, "{error}");
    assert_eq!(lake.files().await, before);
}

/// A table whose account may not be read with this key. As Stripe says it, in
/// <https://github.com/stripe/stripe-node/issues/2246>, or without a name.
fn restricted(table: &Arc<Table>, account: Option<&str>) -> Arc<Scripted> {
    let on = account.map_or(String::new(), |id| format!(" on account '{id}'"));
    let said = format!(
        "The provided key 'rk_test_{}qs8Kgd' does not have the required permissions for this endpoint{on}. \
         Having the 'rak_accounts_kyc_id_numbers_read' permission would allow this request to continue.",
        "*".repeat(93)
    );
    let script = scripted_table(table);
    script.rules.add(Rule::new("/v1/account", Action::Answer(refusal(403, "", None, &said))));
    script
}

#[tokio::test(start_paused = true)]
async fn a5_a_restricted_key_says_whose_it_is_where_it_is_refused() {
    let (ours, theirs) = (Table::of(&account(65, 50)), Table::of(&account(66, 50)));
    let lake = TestLake::new();
    let report = lake.sync(restricted(&ours, Some(&ours.id))).await.unwrap();
    assert_eq!((report.kind(), report.account.as_ref()), (None, Some(&ours.id)));
    let before = lake.files().await;
    for key in [restricted(&theirs, Some(&theirs.id)), restricted(&theirs, None), scripted_table(&theirs)] {
        let error = lake.sync(key).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Auth, "{error}");
        assert_eq!(lake.files().await, before);
    }
    // A key of each kind that is of this account.
    lake.sync_completely(scripted_table(&ours)).await;
    lake.sync_completely(restricted(&ours, Some(&ours.id))).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_does_not_say_whose_it_is_is_warned_of() {
    let table = Table::of(&account(65, 50));
    for (id, n) in
        [(None, 1), (Some("acct_"), 1), (Some("ours"), 1), (Some("acct_1a b"), 1), (Some("acct_1ab"), 0)]
    {
        let lake = TestLake::new();
        let report = lake.sync(restricted(&table, id)).await.unwrap();
        assert_eq!((report.kind(), report.account.is_some()), (None, n == 0), "{id:?}");
        let is_told = |event: &&Event| matches!(event, Event::Warning { message } if message.contains("would not be noticed"));
        assert_eq!(lake.events.lock().unwrap().iter().filter(is_told).count(), n, "{id:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_stripe_does_not_know_is_a_wrong_setting() {
    let script = scripted(account(64, 50));
    let said = "Invalid Stripe API version: 2009-13-13";
    script.rules.add(Rule::new("/v1/*", Action::Answer(refusal(400, "", None, said))));
    let error = TestLake::new().sync(script.clone()).await.unwrap_err();
    assert_eq!((error.kind(), script.log().len()), (Kind::Usage, 1), "{error}");
    assert!(
        error.hint_text().unwrap().contains("api_version") && error.to_string().contains(said),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn s9_a_signal_ends_a_run_that_waits_for_the_account() {
    let busy = || Action::Answer(refusal(429, "lock_timeout", None, "locked"));
    let silent = || Action::Delay(std::time::Duration::from_secs(3_600));
    for (action, kind) in [(busy(), Kind::Terminated), (silent(), Kind::Interrupted)] {
        let (lake, (sender, interrupted)) = (TestLake::new(), watch::channel(None));
        let script = scripted(account(75, 50));
        script.rules.add(Rule::new("/v1/account", action));
        let signal = async {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            sender.send_replace(Some(kind));
            std::future::pending().await
        };
        let started = Instant::now();
        let options = Options { interrupted, ..lake.options() };
        let error = tokio::select! {
            ended = lake.sync_with(options, script) => ended.map(|_| ()).unwrap_err(),
            () = signal => unreachable!(),
        };
        assert_eq!((error.kind(), error.lake_text()), (kind, Some("unchanged")), "{error}");
        assert_eq!(started.elapsed().as_secs(), 3, "it does not wait for an answer");
        assert!(lake.files().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a5_a_lake_that_another_account_took_meanwhile_is_refused() {
    // Two first runs at once: the second one waits for the lock with the account it has asked for.
    let (ours, theirs) = (Table::of(&account(65, 50)), Table::of(&account(66, 50)));
    let lake = TestLake::new();
    let guard =
        lock::acquire(&lake.lake, "first", Duration::ZERO, drop, std::future::pending()).await.unwrap();
    let mut setup = lake.setup();
    setup.wait_lock = Duration::from_secs(60);
    let waiting = sync(&setup, lake.options(), ours);
    let first = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let info = serde_json::json!({
            "format": 1, "account": theirs.id, "livemode": false, "stripe_version": lake.catalog.stripe_version,
        });
        let absent = stripelake::commit::Version::Absent;
        lake.lake.write_json("_stripelake/lake.json", &info, &absent).await.unwrap();
        guard.release().await;
    };
    let (result, ()) = tokio::join!(waiting, first);
    assert_eq!(result.map(|_| ()).unwrap_err().kind(), Kind::Auth);
    // And the lock is free again.
    lake.sync_completely(theirs.clone()).await;
}

#[tokio::test(start_paused = true)]
async fn a5_a_key_of_the_other_mode_is_refused() {
    let lake = TestLake::new();
    lake.sync_completely(Arc::new(InProcess::new(Arc::new(account(67, 50))))).await;
    let script = scripted(Account::new(Spec { livemode: true, ..spec(67) }));
    let options = Options { livemode: true, ..lake.options() };
    let error = lake.sync_with(options, script.clone()).await.unwrap_err();
    assert_eq!((error.kind(), script.log().len()), (Kind::Auth, 0));
}

fn with_date(date: Option<i64>) -> Action {
    let rewrite: Rewrite = Arc::new(move |_, response| {
        let mut response: Response = response;
        response.headers.date = date;
        response
    });
    Action::Rewrite(rewrite)
}

#[tokio::test(start_paused = true)]
async fn a6_what_is_complete_ends_at_stripes_clock() {
    // Stripe's clock is 180 days behind ours, or ahead of it: both are far off and neither loses anything.
    for now in [1_780_000_000, 1_900_000_000] {
        let account = Account::new(Spec { now, ..spec(68) });
        let table = Table::of(&account);
        let lake = TestLake::new();
        let script = scripted(account);
        lake.sync_completely(script.clone()).await;
        lake.check_equals(&table).await;
        // Nor is anything cut off.
        let is_open = |asked: &Asked| !asked.request.query.iter().any(|(name, _)| name == "created[lt]");
        assert!(is_open(&script.asked("/v1/refunds")[0]));
        assert_eq!(lake.state("refunds").await.unwrap().complete_until, Some(now + 1));
        let warned = lake
            .events
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, Event::Warning { message } if message.contains("clock")));
        assert!(warned);
    }
}

#[tokio::test(start_paused = true)]
async fn a6_without_a_date_nothing_is_cut_off_by_our_clock() {
    // Stripe is ahead of this machine, and does not say so.
    let account = Account::new(Spec { now: 1_900_000_000, ..spec(69) });
    let table = Table::of(&account);
    let script = scripted(account);
    script.rules.add(Rule::new("/v1/*", with_date(None)));
    let lake = TestLake::new();
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
    assert_eq!(lake.state("charges").await.unwrap().complete_until, None, "nobody knows until when");
}

#[tokio::test(start_paused = true)]
async fn a6_an_old_answer_about_the_account_leaves_nothing_out() {
    // As a cache gives it; the lists come from Stripe.
    let account = Account::new(Spec { now: Timestamp::now().as_second(), charges: 400, ..spec(74) });
    let table = Table::of(&account);
    let script = scripted_table(&table);
    let lake = TestLake::new();
    let old = table.now() - 30 * 86_400;
    script.rules.add(Rule::new("/v1/account", with_date(Some(old))));
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
    assert_eq!(lake.state("charges").await.unwrap().complete_until, Some(old + 1), "that is certain");
}

#[tokio::test(start_paused = true)]
async fn a6_a_clock_that_is_behind_leaves_nothing_out_of_a_new_lake() {
    let account = Account::new(Spec { now: Timestamp::now().as_second(), charges: 400, ..spec(76) });
    let table = Table::of(&account);
    let script = scripted_table(&table);
    script.rules.add(Rule::new("/v1/*", with_date(Some(table.now() - 7_200))));
    let lake = TestLake::new();
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a6_what_has_its_time_to_come_is_taken_along() {
    // Objects of a clock of their own, as in tests of subscriptions: in this month, a later one, and a later year.
    let table = Table::of(&account(77, 300));
    let future = |days: i64| table.now() + days * 86_400;
    let made = [1, 40, 400].map(|days| {
        let mut charge = table.list("charges")[0].clone();
        (charge["id"], charge["created"]) = (format!("ch_in_{days}").into(), future(days).into());
        charge
    });
    table.edit("charges", |charges| drop(charges.splice(0..0, made.into_iter().rev())));
    let lake = TestLake::new();
    for options in [lake.options(), lake.options(), Options { starts_over: true, ..lake.options() }] {
        check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), None);
        lake.check_equals(&table).await;
    }
    let until = Options { until: Some(future(50)), ..lake.options_for(&["charges"]) };
    let other = TestLake::new();
    check_kind(&other.sync_with(until, table.clone()).await.unwrap(), None);
    let rows = other.rows("charges").await;
    assert!(rows.contains_key("ch_in_40") && !rows.contains_key("ch_in_400"), "as far as was asked for");
}

#[tokio::test(start_paused = true)]
async fn what_is_created_while_a_run_waits_for_the_lock_belongs_to_it() {
    let table = Table::of(&account(75, 50));
    let lake = TestLake::new();
    let free = std::future::pending();
    let guard = lock::acquire(&lake.lake, "first", Duration::ZERO, drop, free).await.unwrap();
    let setup = Setup { wait_lock: Duration::from_secs(60), ..lake.setup() };
    let waiting = sync(&setup, lake.options(), table.clone());
    let first = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut new = table.list("charges")[0].clone();
        (new["id"], new["created"]) = ("ch_meanwhile".into(), (table.now() + 5).into());
        table.edit("charges", |charges| charges.insert(0, new));
        table.set_now(table.now() + 10);
        guard.release().await;
    };
    let (report, ()) = tokio::join!(waiting, first);
    check_kind(&report.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_lock_is_told_as_long_as_the_budget_lets_it_be() {
    let lake = TestLake::new();
    let free = std::future::pending();
    let _guard = lock::acquire(&lake.lake, "first", Duration::ZERO, drop, free).await.unwrap();
    let setup = Setup { wait_lock: Duration::from_secs(60), ..lake.setup() };
    let budgets = Budgets { duration: Some(Duration::from_secs(5)), ..Budgets::default() };
    let options = Options { budgets, ..lake.options() };
    let error = sync(&setup, options, Table::of(&account(76, 50))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.hint_text().unwrap().contains("--max-duration"), "{:?}", error.hint_text());
    let is_told =
        |event: &Event| matches!(event, Event::Waiting { at_most_secs, .. } if *at_most_secs <= 5.0);
    assert!(lake.events.lock().unwrap().iter().any(is_told));
}

#[tokio::test(start_paused = true)]
async fn a6_a_clock_that_falls_back_leaves_nothing_out() {
    let account = Account::new(spec(73));
    let table = Table::of(&account);
    let script = scripted_table(&table);
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    let behind = table.now() - 90 * 86_400;
    script.rules.add(Rule::new("/v1/*", with_date(Some(behind))).times(1_000));
    for n in 0..3 {
        table.edit("charges", |charges| charges[0]["description"] = n.to_string().into());
        lake.sync_completely(script.clone()).await;
        lake.check_equals(&table).await;
    }
    lake.sync_completely(table.clone()).await;
    assert_eq!(lake.state("charges").await.unwrap().complete_until, Some(table.now() + 1));
}

#[tokio::test(start_paused = true)]
async fn c1_a_lake_in_use_is_left_alone() {
    let lake = TestLake::new();
    let guard =
        lock::acquire(&lake.lake, "other", Duration::ZERO, drop, std::future::pending()).await.unwrap();
    let transport = Arc::new(InProcess::new(Arc::new(account(70, 50))));
    let error = lake.sync(transport.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.to_string().contains("run other"), "who holds it is said: {error}");
    guard.release().await;
    lake.sync_completely(transport).await;
}

#[tokio::test(start_paused = true)]
async fn c1_a_run_that_fails_gives_the_lock_back() {
    let lake = TestLake::new();
    let table = Table::of(&account(71, 50));
    let options = Options { since: Some(table.now() + 100), ..lake.options() };
    assert_eq!(lake.sync_with(options, table.clone()).await.unwrap_err().kind(), Kind::Usage);
    lake.sync_completely(table.clone()).await;
    // A state that a newer program wrote is found under the lock.
    let state = lake.state("charges").await.unwrap();
    let path = "_stripelake/state/charges.json";
    let (_, seen) = lake.lake.read_bytes(path).await.unwrap().unwrap();
    let newer = ResourceState { format: state.format + 1, ..state.clone() };
    let seen = lake.lake.write_json(path, &newer, &seen).await.unwrap();
    assert_eq!(lake.sync(table.clone()).await.unwrap_err().kind(), Kind::Usage);
    lake.lake.write_json(path, &state, &seen).await.unwrap();
    lake.sync_completely(table).await;
}
