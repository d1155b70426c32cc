//! Turns an index into a subscription.

use super::account::{Account, Series};
use super::chance::{Chance, topic};
use super::id::{Id, Kind};
use super::item::EMBEDDED_ITEMS;
use super::json::{Json, Number};
use super::price::Price;
use super::timeline::DAY;
use super::words;

#[derive(Debug)]
pub(super) struct Subscription {
    pub index: u64,
    pub created: i64,
    pub customer: u64,
    pub status: &'static str,
    pub is_billed_by_invoice: bool,
    pub ended_at: Option<i64>,
    pub n_items: u64,
    /// The price of the first item; the others have its currency.
    pub first_price: u64,
    /// From and until when the present billing period goes.
    pub period: (i64, i64),
}

const DAYS_OF_TRIAL: i64 = 14;

impl Account {
    pub(super) fn subscription(&self, index: u64) -> Subscription {
        let mut chance = self.chance(topic("subscription"), index);
        let timeline = self.timeline(Series::Subscriptions);
        let created = timeline.created(index);
        let customer = chance.below(timeline.older_of(index, self.series_len(Series::Customers)));
        let n_prices = timeline.older_of(index, self.series_len(Series::Prices));
        let first_price = self.recurring_price(chance.below(n_prices), n_prices, None);
        let n_items = match chance.below(300) {
            0 => 11 + chance.below(50),
            1..=15 => 2 + chance.below(5),
            _ => 1,
        };
        let age = self.age(created);
        let status = draw_status(age, &mut chance);
        let has_ended = matches!(status, "canceled" | "incomplete_expired");
        let ended_at = has_ended.then(|| created + 1 + chance.below(age as u64 - 1) as i64);
        let recurring = self.price(first_price).recurring.expect("a recurring price was looked for");
        let days = match recurring.interval {
            "day" => 1,
            "week" => 7,
            "month" => 30,
            _ => 365,
        };
        let length = days * recurring.interval_count * DAY;
        let lived = ended_at.unwrap_or(self.spec.now) - created;
        let period_start = created + lived / length * length;
        Subscription {
            index,
            created,
            customer,
            status,
            is_billed_by_invoice: chance.permille(100),
            ended_at,
            n_items,
            first_price,
            period: (period_start, period_start + length),
        }
    }

    pub(super) fn subscription_id(&self, subscription: &Subscription) -> Id {
        self.ids.timed("sub_1", Kind::Subscription, subscription.index, subscription.created)
    }

    pub(super) fn write_subscription(&self, json: &mut Json, subscription: &Subscription) {
        let mut chance = self.chance(topic("subscription body"), subscription.index);
        let chance = &mut chance;
        let prices = self.item_prices(subscription, subscription.n_items.min(EMBEDDED_ITEMS));
        let created = subscription.created;
        let is_invoiced = subscription.is_billed_by_invoice;
        json.put("id", self.subscription_id(subscription));
        json.put("object", "subscription");
        json.null("application");
        let fee = chance.permille(20).then(|| Number(chance.pick(&["10", "12.5", "2.75"]).to_owned()));
        json.put("application_fee_percent", fee);
        write_automatic_tax(json, chance.permille(400));
        json.put("billing_cycle_anchor", created);
        write_anchor(json, chance.permille(50));
        write_billing_mode(json, created, chance.permille(350));
        json.array("billing_schedules", |_| ());
        json.null("billing_thresholds");
        write_cancellation(json, subscription, chance);
        json.put("collection_method", if is_invoiced { "send_invoice" } else { "charge_automatically" });
        json.put("created", created);
        json.put("currency", prices[0].currency.code());
        json.put("customer", self.customer_id(subscription.customer));
        json.null("customer_account");
        json.put("days_until_due", is_invoiced.then_some(30));
        self.write_default_payment_method(json, subscription, chance);
        json.null("default_source");
        json.array("default_tax_rates", |_| ());
        json.put("description", words::description(chance));
        let has_discount = chance.permille(100);
        json.array("discounts", |w| {
            if has_discount {
                w.item(self.ids.timed("di_1", Kind::Discount, (1 << 38) + subscription.index, created));
            }
        });
        json.put("ended_at", subscription.ended_at);
        json.object("invoice_settings", |w| {
            w.null("account_tax_ids");
            w.object("issuer", |w| w.put("type", "self"));
        });
        self.write_embedded_items(json, subscription, &prices);
        self.write_from_latest_invoice(json, subscription, &prices, chance);
    }

    fn write_default_payment_method(
        &self,
        json: &mut Json,
        subscription: &Subscription,
        chance: &mut Chance,
    ) {
        let has_one = !subscription.is_billed_by_invoice && chance.permille(800);
        let customer = self.customer(subscription.customer);
        json.put("default_payment_method", has_one.then(|| self.customer_payment_method(&customer, 0)));
    }

    fn write_from_latest_invoice(
        &self,
        json: &mut Json,
        subscription: &Subscription,
        prices: &[Price],
        chance: &mut Chance,
    ) {
        let created = subscription.created;
        let is_trial = subscription.status == "trialing" || chance.permille(200);
        json.put(
            "latest_invoice",
            self.ids.timed("in_1", Kind::Invoice, subscription.index, subscription.period.0),
        );
        json.put("livemode", self.spec.livemode);
        write_managed_payments(json, chance.permille(150));
        words::metadata(json, chance);
        json.null("next_pending_invoice_item_invoice");
        json.null("on_behalf_of");
        write_pause(json, subscription, self.spec.now, chance);
        write_payment_settings(json, chance);
        json.null("pending_invoice_item_interval");
        json.null("pending_setup_intent");
        json.null("pending_update");
        match (prices, prices[0].recurring) {
            ([price], Some(recurring)) => self.write_plan(json, price, recurring),
            _ => json.null("plan"),
        }
        let quantity = self.quantity(subscription, 0, &prices[0]);
        json.put("quantity", quantity.filter(|_| prices.len() == 1));
        let has_schedule = chance.permille(30);
        json.put(
            "schedule",
            has_schedule.then(|| self.ids.timed("sub_sched_1", Kind::Schedule, subscription.index, created)),
        );
        json.put("start_date", created);
        json.put("status", subscription.status);
        json.null("test_clock");
        json.null("transfer_data");
        json.put("trial_end", is_trial.then_some(created + DAYS_OF_TRIAL * DAY));
        let at_end = chance.pick(&["create_invoice", "cancel", "pause"]);
        json.object("trial_settings", |w| {
            w.object("end_behavior", |w| w.put("missing_payment_method", at_end));
        });
        json.put("trial_start", is_trial.then_some(created));
    }
}

fn draw_status(age: i64, chance: &mut Chance) -> &'static str {
    let statuses = ["active", "canceled", "past_due", "unpaid", "incomplete_expired", "paused"];
    let drawn = statuses[chance.weighted(&[62, 28, 4, 2, 3, 1])];
    let is_new = chance.permille(500);
    if age < DAY && is_new {
        "incomplete"
    } else if age < DAYS_OF_TRIAL * DAY && is_new {
        "trialing"
    } else if drawn != "active" && age < DAY {
        "active"
    } else {
        drawn
    }
}

fn write_automatic_tax(json: &mut Json, is_enabled: bool) {
    json.object("automatic_tax", |w| {
        w.null("disabled_reason");
        w.put("enabled", is_enabled);
        if is_enabled {
            w.object("liability", |w| w.put("type", "self"));
        } else {
            w.null("liability");
        }
    });
}

fn write_anchor(json: &mut Json, is_configured: bool) {
    if !is_configured {
        return json.null("billing_cycle_anchor_config");
    }
    json.object("billing_cycle_anchor_config", |w| {
        w.put("day_of_month", 1);
        for part in ["hour", "minute", "month", "second"] {
            w.null(part);
        }
    });
}

fn write_billing_mode(json: &mut Json, created: i64, is_flexible: bool) {
    json.object("billing_mode", |w| {
        if is_flexible {
            w.object("flexible", |w| w.put("proration_discounts", "included"));
            w.put("type", "flexible");
            w.put("updated_at", created);
        } else {
            w.null("flexible");
            w.put("type", "classic");
        }
    });
}

fn write_managed_payments(json: &mut Json, has_setting: bool) {
    if !has_setting {
        return json.null("managed_payments");
    }
    json.object("managed_payments", |w| w.put("enabled", false));
}

fn write_pause(json: &mut Json, subscription: &Subscription, now: i64, chance: &mut Chance) {
    if subscription.status != "active" || !chance.permille(30) {
        return json.null("pause_collection");
    }
    json.object("pause_collection", |w| {
        w.put("behavior", chance.pick(&["void", "keep_as_draft", "mark_uncollectible"]));
        w.put("resumes_at", chance.pick(&[None, Some(now + 30 * DAY)]));
    });
}

fn write_payment_settings(json: &mut Json, chance: &mut Chance) {
    json.object("payment_settings", |w| {
        w.null("payment_method_options");
        if chance.permille(200) {
            w.array("payment_method_types", |w| {
                w.item("card");
                w.item("link");
            });
        } else {
            w.null("payment_method_types");
        }
        w.put("save_default_payment_method", chance.pick(&["off", "on_subscription"]));
    });
}

fn write_cancellation(json: &mut Json, subscription: &Subscription, chance: &mut Chance) {
    let is_leaving = subscription.status == "active" && chance.permille(50);
    let end = subscription.period.1;
    json.put("cancel_at", is_leaving.then_some(end));
    json.put("cancel_at_period_end", is_leaving);
    json.put("canceled_at", if is_leaving { Some(subscription.period.0 + 5) } else { subscription.ended_at });
    let has_ended = subscription.ended_at.is_some();
    json.object("cancellation_details", |w| {
        w.put("comment", (has_ended && chance.permille(60)).then_some("Found something \"better\",\nsorry"));
        let feedback = chance.pick(&[None, Some("too_expensive"), Some("unused"), Some("switched_service")]);
        w.put("feedback", feedback.filter(|_| has_ended));
        let reason = if chance.permille(250) { "payment_failed" } else { "cancellation_requested" };
        w.put("reason", (has_ended || is_leaving).then_some(reason));
    });
}
