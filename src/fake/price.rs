//! Turns an index into a price, and a price into the plan that older clients expect.

use super::account::{Account, Series};
use super::chance::{Chance, topic};
use super::id::{Id, Kind};
use super::json::Json;
use super::money::{self, CURRENCIES, Currency};
use super::words;

#[derive(Debug, Clone)]
pub(super) struct Price {
    pub index: u64,
    pub created: i64,
    pub is_active: bool,
    pub currency: Currency,
    pub amount: Amount,
    pub recurring: Option<Recurring>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    /// Minor units.
    Whole(i64),
    /// A millionth of a millionth of a minor unit.
    Fraction(i64),
    Tiered(&'static str),
    /// The customer decides.
    Custom,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Recurring {
    pub interval: &'static str,
    pub interval_count: i64,
    pub is_metered: bool,
}

impl Account {
    pub(super) fn price(&self, index: u64) -> Price {
        let mut chance = self.chance(topic("price"), index);
        // The first one can stand in every subscription.
        let is_first = index == 0;
        let is_recurring = is_first || chance.permille(750);
        let recurring = is_recurring.then(|| Recurring {
            interval: if is_first {
                "month"
            } else {
                ["month", "year", "week", "day"][chance.weighted(&[65, 25, 7, 3])]
            },
            interval_count: if is_first || chance.permille(850) { 1 } else { chance.pick(&[2, 3, 6]) },
            is_metered: !is_first && chance.permille(150),
        });
        let currency = CURRENCIES[chance.weighted(&[60, 14, 9, 6, 5, 4, 2])];
        let cents = money::usd_cents(&mut chance);
        let kind = if is_first { 0 } else { chance.below(100) };
        let amount = match (kind, is_recurring) {
            (80..92, true) => Amount::Tiered(chance.pick(&["graduated", "volume"])),
            (80..92, false) => Amount::Custom,
            (92.., _) => Amount::Fraction(1 + chance.below(40_000_000_000_000) as i64),
            _ => Amount::Whole(currency.amount(cents)),
        };
        let currency = if is_first { Currency::Usd } else { currency };
        let is_active = is_first || chance.permille(700);
        Price { index, created: self.created(Series::Prices, index), is_active, currency, amount, recurring }
    }

    pub(super) fn price_id(&self, price: &Price) -> Id {
        self.ids.timed("price_1", Kind::Price, price.index, price.created)
    }

    /// About three prices belong to a product.
    pub(super) fn product_id(&self, price: &Price) -> Id {
        self.ids.plain("prod_", Kind::Product, price.index / 3)
    }

    pub(super) fn write_price(&self, json: &mut Json, price: &Price) {
        let mut chance = self.chance(topic("price body"), price.index);
        let chance = &mut chance;
        json.put("id", self.price_id(price));
        json.put("object", "price");
        json.put("active", price.is_active);
        json.put("billing_scheme", price.amount.scheme());
        json.put("created", price.created);
        json.put("currency", price.currency.code());
        write_custom_amount(json, price, chance);
        json.put("livemode", self.spec.livemode);
        json.put("lookup_key", chance.permille(250).then(|| format!("plan_{}", price.index)));
        self.write_price_metadata(json, price);
        json.put("nickname", nickname(price));
        json.put("product", self.product_id(price));
        self.write_recurring(json, price);
        json.put("tax_behavior", chance.pick(&["unspecified", "exclusive", "inclusive"]));
        json.put("tiers_mode", price.amount.tiers_mode());
        write_transform(json, chance.permille(40));
        json.put("type", if price.recurring.is_some() { "recurring" } else { "one_time" });
        json.put("unit_amount", price.amount.whole());
        json.put("unit_amount_decimal", price.amount.decimal());
    }

    fn write_recurring(&self, json: &mut Json, price: &Price) {
        let Some(recurring) = price.recurring else {
            return json.null("recurring");
        };
        json.object("recurring", |w| {
            w.put("interval", recurring.interval);
            w.put("interval_count", recurring.interval_count);
            w.put("meter", self.meter(price));
            w.null("trial_period_days");
            w.put("usage_type", recurring.usage_type());
        });
    }

    /// The legacy view of a recurring price, under a key of its own.
    pub(super) fn write_plan(&self, json: &mut Json, price: &Price, recurring: Recurring) {
        json.object("plan", |w| {
            w.put("id", self.price_id(price));
            w.put("object", "plan");
            w.put("active", price.is_active);
            w.put("amount", price.amount.whole());
            w.put("amount_decimal", price.amount.decimal());
            w.put("billing_scheme", price.amount.scheme());
            w.put("created", price.created);
            w.put("currency", price.currency.code());
            w.put("interval", recurring.interval);
            w.put("interval_count", recurring.interval_count);
            w.put("livemode", self.spec.livemode);
            self.write_price_metadata(w, price);
            w.put("meter", self.meter(price));
            w.put("nickname", nickname(price));
            w.put("product", self.product_id(price));
            w.put("tiers_mode", price.amount.tiers_mode());
            w.null("transform_usage");
            w.null("trial_period_days");
            w.put("usage_type", recurring.usage_type());
        });
    }

    fn write_price_metadata(&self, json: &mut Json, price: &Price) {
        words::metadata(json, &mut self.chance(topic("price metadata"), price.index));
    }

    fn meter(&self, price: &Price) -> Option<Id> {
        let is_metered = price.recurring.is_some_and(|recurring| recurring.is_metered);
        is_metered.then(|| self.ids.timed("mtr_1", Kind::Meter, price.index, price.created))
    }
}

impl Recurring {
    fn usage_type(self) -> &'static str {
        if self.is_metered { "metered" } else { "licensed" }
    }
}

impl Amount {
    fn scheme(self) -> &'static str {
        if let Self::Tiered(_) = self { "tiered" } else { "per_unit" }
    }

    fn tiers_mode(self) -> Option<&'static str> {
        if let Self::Tiered(mode) = self { Some(mode) } else { None }
    }

    fn whole(self) -> Option<i64> {
        if let Self::Whole(amount) = self { Some(amount) } else { None }
    }

    fn decimal(self) -> Option<String> {
        match self {
            Self::Whole(amount) => Some(amount.to_string()),
            Self::Fraction(amount) => Some(money::decimal(amount, 12)),
            Self::Tiered(_) | Self::Custom => None,
        }
    }
}

fn write_custom_amount(json: &mut Json, price: &Price, chance: &mut Chance) {
    let Amount::Custom = price.amount else {
        return json.null("custom_unit_amount");
    };
    json.object("custom_unit_amount", |w| {
        w.put("maximum", chance.pick(&[None, Some(100_000)]));
        w.put("minimum", chance.pick(&[None, Some(100)]));
        w.put("preset", chance.pick(&[None, Some(1_000)]));
    });
}

fn write_transform(json: &mut Json, has_one: bool) {
    if !has_one {
        return json.null("transform_quantity");
    }
    json.object("transform_quantity", |w| {
        w.put("divide_by", 1_000);
        w.put("round", "up");
    });
}

fn nickname(price: &Price) -> Option<&'static str> {
    let names = [None, None, Some("Standard"), Some("Équipe – annuel"), Some("Pro \"plus\"")];
    Chance::of(0, topic("nickname"), price.index).pick(&names)
}
