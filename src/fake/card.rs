//! Turns a charge into the details of the card that paid it.

use super::account::Account;
use super::chance::{Chance, topic};
use super::charge::{Charge, HOLD_DAYS, Status};
use super::json::Json;
use super::timeline::DAY;

/// Cards that a payer keeps using.
struct PayerCard {
    brand: &'static str,
    country: &'static str,
    exp_month: i64,
    exp_year: i64,
    fingerprint: String,
    funding: &'static str,
    last4: String,
}

impl Account {
    pub(super) fn write_card(&self, w: &mut Json, charge: &Charge, chance: &mut Chance) {
        let card = self.payer_card(charge);
        let is_authorized = charge.status != Status::Failed;
        let is_held = is_authorized && !charge.is_captured;
        let by_customer = !charge.is_recurring;
        w.put("amount_authorized", is_authorized.then_some(charge.amount));
        w.put("authorization_code", is_authorized.then(|| chance.digits(6)));
        w.put("brand", card.brand);
        if is_held {
            w.put("capture_before", charge.created + HOLD_DAYS * DAY);
        }
        write_checks(w, by_customer, chance);
        w.put("country", card.country);
        w.put("exp_month", card.exp_month);
        w.put("exp_year", card.exp_year);
        w.object("extended_authorization", |w| w.put("status", "disabled"));
        w.put("fingerprint", card.fingerprint);
        w.put("funding", card.funding);
        w.object("incremental_authorization", |w| w.put("status", "unavailable"));
        write_installments(w, charge, chance);
        w.put("last4", card.last4);
        w.null("mandate");
        w.object("multicapture", |w| w.put("status", if is_held { "available" } else { "unavailable" }));
        w.put("network", card.brand);
        write_network_token(w, chance);
        let has_network_id = is_authorized && chance.permille(850);
        w.put("network_transaction_id", has_network_id.then(|| chance.digits(15)));
        w.object("overcapture", |w| {
            w.put("maximum_amount_capturable", charge.amount);
            w.put("status", "unavailable");
        });
        w.put(
            "regulated_status",
            chance.pick(&[Some("regulated"), Some("unregulated"), Some("unregulated"), None]),
        );
        write_three_d_secure(w, by_customer && charge.place.country != "US", chance);
        write_wallet(w, by_customer, chance);
    }

    fn payer_card(&self, charge: &Charge) -> PayerCard {
        let mut chance = match charge.customer {
            Some(index) => self.chance(topic("customer card"), index),
            None => self.chance(topic("guest card"), charge.index),
        };
        // Good enough for an expiry date that lies ahead.
        let year = 1970 + self.spec.now / (365 * DAY + DAY / 4);
        PayerCard {
            brand: ["visa", "mastercard", "amex", "discover", "jcb", "unionpay"]
                [chance.weighted(&[52, 31, 10, 4, 2, 1])],
            country: charge.place.country,
            exp_month: 1 + chance.below(12) as i64,
            exp_year: year + chance.below(6) as i64,
            fingerprint: chance.letters(16),
            funding: ["credit", "debit", "prepaid", "unknown"][chance.weighted(&[50, 42, 6, 2])],
            last4: chance.digits(4),
        }
    }
}

fn write_checks(w: &mut Json, by_customer: bool, chance: &mut Chance) {
    w.object("checks", |w| {
        w.put(
            "address_line1_check",
            chance.pick(&[Some("pass"), Some("unchecked"), Some("unavailable"), None]),
        );
        w.put("address_postal_code_check", chance.pick(&[Some("pass"), Some("pass"), Some("fail"), None]));
        let cvc = if chance.permille(30) { "fail" } else { "pass" };
        w.put("cvc_check", by_customer.then_some(cvc));
    });
}

fn write_network_token(w: &mut Json, chance: &mut Chance) {
    if !chance.permille(850) {
        return w.null("network_token");
    }
    w.object("network_token", |w| w.put("used", chance.permille(400)));
}

fn write_installments(w: &mut Json, charge: &Charge, chance: &mut Chance) {
    let is_offered = matches!(charge.place.country, "JP" | "BR") && chance.permille(300);
    if !is_offered {
        return w.null("installments");
    }
    w.object("installments", |w| {
        w.object("plan", |w| {
            w.put("count", chance.pick(&[3, 6, 12]));
            w.put("interval", "month");
            w.put("type", "fixed_count");
        });
    });
}

fn write_three_d_secure(w: &mut Json, is_likely: bool, chance: &mut Chance) {
    if !chance.permille(if is_likely { 450 } else { 20 }) {
        return w.null("three_d_secure");
    }
    let is_exempt = chance.permille(100);
    w.object("three_d_secure", |w| {
        w.put("authentication_flow", (!is_exempt).then(|| chance.pick(&["frictionless", "challenge"])));
        w.put("electronic_commerce_indicator", chance.pick(&["05", "02", "06"]));
        w.put("exemption_indicator", is_exempt.then_some("low_risk"));
        if is_exempt {
            w.put("exemption_indicator_applied", true);
        }
        w.put("result", if is_exempt { "exempted" } else { "authenticated" });
        w.null("result_reason");
        w.put("transaction_id", (!is_exempt).then(|| chance.hex(32)));
        w.put("version", chance.pick(&["2.2.0", "2.2.0", "2.1.0"]));
    });
}

fn write_wallet(w: &mut Json, is_possible: bool, chance: &mut Chance) {
    let wallet = ["", "apple_pay", "google_pay", "link"][chance.weighted(&[60, 22, 12, 6])];
    if !is_possible || wallet.is_empty() {
        return w.null("wallet");
    }
    let last4 = (wallet != "link").then(|| chance.digits(4));
    w.object("wallet", |w| {
        if wallet == "apple_pay" {
            w.object(wallet, |_| ());
        }
        w.put("dynamic_last4", last4);
        if wallet != "apple_pay" {
            w.object(wallet, |_| ());
        }
        w.put("type", wallet);
    });
}
