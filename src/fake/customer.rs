//! Turns an index into a customer.

use super::account::{Account, Series};
use super::chance::{Chance, topic};
use super::id::{Id, Kind};
use super::json::Json;
use super::timeline::DAY;
use super::words::{self, COMPANIES, PEOPLE, PLACES, Place};

/// What other objects need to know of a customer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Customer {
    pub index: u64,
    pub created: i64,
    pub place: Place,
    pub name: &'static str,
}

impl Account {
    pub(super) fn customer(&self, index: u64) -> Customer {
        let mut chance = self.chance(topic("customer"), index);
        let place = PLACES[words::place_index(&mut chance)];
        Customer { index, created: self.created(Series::Customers, index), place, name: chance.pick(PEOPLE) }
    }

    pub(super) fn customer_id(&self, index: u64) -> Id {
        self.ids.plain("cus_", Kind::Customer, index)
    }

    pub(super) fn customer_email(&self, index: u64) -> Option<String> {
        let mut chance = self.chance(topic("customer email"), index);
        (!chance.permille(40)).then(|| words::email(&mut chance))
    }

    /// The card of a customer, which pays the charges and subscriptions too.
    pub(super) fn customer_payment_method(&self, customer: &Customer, method: u64) -> Id {
        self.ids.timed("pm_1", Kind::PaymentMethod, customer.index * 16 + method, customer.created)
    }

    pub(super) fn write_customer(&self, json: &mut Json, customer: &Customer) {
        let Customer { index, created, place, name } = *customer;
        let mut chance = self.chance(topic("customer body"), index);
        let chance = &mut chance;
        let is_company = chance.permille(80);
        json.put("id", self.customer_id(index));
        json.put("object", "customer");
        if chance.permille(550) {
            let is_full = chance.permille(850);
            json.object("address", |w| words::address(w, place, is_full, chance));
        } else {
            json.null("address");
        }
        let balance = if chance.permille(80) { 500 - chance.below(5_000) as i64 } else { 0 };
        json.put("balance", balance);
        if is_company {
            json.put("business_name", chance.pick(COMPANIES));
        }
        json.put("created", created);
        json.put("currency", chance.permille(800).then_some(place.currency.code()));
        json.null("customer_account");
        let has_card = chance.permille(60);
        json.put("default_source", has_card.then(|| self.ids.timed("card_1", Kind::Card, index, created)));
        json.put("delinquent", chance.permille(50));
        json.put("description", words::description(chance));
        self.write_discount(json, customer, chance.permille(30));
        json.put("email", self.customer_email(index));
        if is_company {
            json.put("individual_name", name);
        }
        json.put("invoice_prefix", chance.hex(8).to_uppercase());
        self.write_invoice_settings(json, customer, chance);
        json.put("livemode", self.spec.livemode);
        words::metadata(json, chance);
        json.put("name", chance.permille(920).then_some(name));
        json.put("next_invoice_sequence", 1 + chance.below(40) as i64);
        json.put("phone", chance.permille(200).then(|| words::phone(chance)));
        write_locales(json, place, chance);
        write_shipping(json, customer, chance);
        let exemption = chance.weighted(&[80, 10, 10]);
        json.put("tax_exempt", ["none", "exempt", "reverse"][exemption]);
        json.null("test_clock");
    }

    fn write_invoice_settings(&self, json: &mut Json, customer: &Customer, chance: &mut Chance) {
        json.object("invoice_settings", |w| {
            if chance.permille(30) {
                w.array("custom_fields", |w| {
                    w.element(|w| {
                        w.put("name", "PO");
                        w.put("value", chance.digits(6));
                    });
                });
            } else {
                w.null("custom_fields");
            }
            let has_default = chance.permille(700);
            let default = has_default.then(|| self.customer_payment_method(customer, 0));
            w.put("default_payment_method", default);
            w.put("footer", chance.permille(20).then_some("Danke!\nBis bald"));
            w.null("rendering_options");
        });
    }

    fn write_discount(&self, json: &mut Json, customer: &Customer, has_one: bool) {
        if !has_one {
            return json.null("discount");
        }
        json.object("discount", |w| {
            w.put("id", self.ids.timed("di_1", Kind::Discount, customer.index, customer.created));
            w.put("object", "discount");
            w.null("checkout_session");
            w.put("customer", self.customer_id(customer.index));
            w.null("customer_account");
            w.put("end", customer.created + 90 * DAY);
            w.null("invoice");
            w.null("invoice_item");
            w.null("promotion_code");
            w.object("source", |w| {
                w.put("coupon", "WELCOME10");
                w.put("type", "coupon");
            });
            w.put("start", customer.created);
            w.null("subscription");
            w.null("subscription_item");
        });
    }
}

fn write_locales(json: &mut Json, place: Place, chance: &mut Chance) {
    let wanted = chance.below(3);
    json.array("preferred_locales", |w| {
        if wanted > 0 {
            w.item(place.locale);
        }
        if wanted > 1 && place.locale != "en-US" {
            w.item("en-US");
        }
    });
}

fn write_shipping(json: &mut Json, customer: &Customer, chance: &mut Chance) {
    if !chance.permille(100) {
        return json.null("shipping");
    }
    json.object("shipping", |w| {
        w.object("address", |w| words::address(w, customer.place, true, chance));
        w.put("name", customer.name);
        w.put("phone", chance.pick(&[None, Some("")]));
    });
}
