//! Turns a subscription into its items, each with a price and a plan.

use super::account::{Account, Series};
use super::chance::topic;
use super::id::{Id, Kind};
use super::json::Json;
use super::price::Price;
use super::subscription::Subscription;
use super::words;

/// Items that a subscription carries with it; the rest is listed apart.
pub(super) const EMBEDDED_ITEMS: u64 = 10;

/// Places that the id of an item keeps for the items of one subscription.
const ITEM_PLACES: u64 = 64;

impl Account {
    pub(super) fn item_id(&self, subscription: &Subscription, item: u64) -> Id {
        self.ids.plain("si_", Kind::SubscriptionItem, subscription.index * ITEM_PLACES + item)
    }

    /// The place of an item in its subscription.
    pub(super) fn find_item(&self, subscription: &Subscription, id: &str) -> Option<u64> {
        let code = self.ids.index_of(Kind::SubscriptionItem, id)?;
        let item = code % ITEM_PLACES;
        let is_known = item < subscription.n_items && self.item_id(subscription, item).as_str() == id;
        is_known.then_some(item)
    }

    /// The subscription and item that an id belongs to.
    pub(super) fn find_any_item(&self, id: &str) -> Option<(Subscription, u64)> {
        let index = self.ids.index_of(Kind::SubscriptionItem, id)? / ITEM_PLACES;
        if index >= self.series_len(Series::Subscriptions) {
            return None;
        }
        let subscription = self.subscription(index);
        let item = self.find_item(&subscription, id)?;
        Some((subscription, item))
    }

    pub(super) fn has_price(&self, subscription: &Subscription, price: u64) -> bool {
        self.item_prices(subscription, subscription.n_items).iter().any(|known| known.index == price)
    }

    /// The prices of the first `n_items` items; each once as long as there are enough.
    pub(super) fn item_prices(&self, subscription: &Subscription, n_items: u64) -> Vec<Price> {
        let n_prices = self
            .timeline(Series::Subscriptions)
            .older_of(subscription.index, self.series_len(Series::Prices));
        let mut prices = vec![self.price(subscription.first_price)];
        for at in 1..n_items as usize {
            let from = prices[at - 1].index + 1;
            let next = self.recurring_price(from, n_prices, Some(&prices[0]));
            prices.push(self.price(next));
        }
        prices
    }

    pub(super) fn write_item(&self, json: &mut Json, subscription: &Subscription, item: u64, price: &Price) {
        let mut chance = self.chance(topic("item"), subscription.index * ITEM_PLACES + item);
        let recurring = price.recurring.expect("items have recurring prices");
        json.put("id", self.item_id(subscription, item));
        json.put("object", "subscription_item");
        json.null("billing_thresholds");
        json.put("created", subscription.created + 1);
        json.put("current_period_end", subscription.period.1);
        json.put("current_period_start", subscription.period.0);
        json.array("discounts", |_| ());
        words::metadata(json, &mut chance);
        self.write_plan(json, price, recurring);
        json.object("price", |w| self.write_price(w, price));
        if let Some(quantity) = self.quantity(subscription, item, price) {
            json.put("quantity", quantity);
        }
        json.put("subscription", self.subscription_id(subscription));
        json.array("tax_rates", |_| ());
    }

    /// Metered items have none.
    pub(super) fn quantity(&self, subscription: &Subscription, item: u64, price: &Price) -> Option<i64> {
        let is_metered = price.recurring.is_some_and(|recurring| recurring.is_metered);
        let mut chance = self.chance(topic("quantity"), subscription.index * ITEM_PLACES + item);
        (!is_metered).then(|| chance.pick(&[1, 1, 1, 5, 25]))
    }

    pub(super) fn write_embedded_items(
        &self,
        json: &mut Json,
        subscription: &Subscription,
        prices: &[Price],
    ) {
        json.object("items", |w| {
            w.put("object", "list");
            w.array("data", |w| {
                for (item, price) in prices.iter().enumerate() {
                    w.element(|w| self.write_item(w, subscription, item as u64, price));
                }
            });
            w.put("has_more", subscription.n_items > EMBEDDED_ITEMS);
            w.put("total_count", subscription.n_items as i64);
            w.put(
                "url",
                format!("/v1/subscription_items?subscription={}", self.subscription_id(subscription)),
            );
        });
    }

    /// The first price at or after `from` that recurs and, if wanted, looks like `model`; the first of all at last.
    pub(super) fn recurring_price(&self, from: u64, n_prices: u64, model: Option<&Price>) -> u64 {
        for step in 0..n_prices {
            let candidate = self.price((from + step) % n_prices);
            let is_alike = model.is_none_or(|model| model.currency == candidate.currency);
            if candidate.recurring.is_some() && is_alike {
                return candidate.index;
            }
        }
        0
    }
}
