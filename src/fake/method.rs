//! Turns a charge's currency and time into the payment method that pays it, and writes its details.

use super::account::Account;
use super::chance::Chance;
use super::charge::Charge;
use super::id::{Id, Kind};
use super::json::Json;
use super::money::Currency::{self, Aud, Cad, Eur, Gbp, Jpy, Kwd, Usd};
use super::words::PEOPLE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Card,
    Affirm,
    AfterpayClearpay,
    Cashapp,
    Ideal,
    Klarna,
    Link,
    Paypal,
    SepaDebit,
    UsBankAccount,
    Zip,
}

use Method::{
    Affirm, AfterpayClearpay, Card, Cashapp, Ideal, Klarna, Link, Paypal, SepaDebit, UsBankAccount, Zip,
};

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Card => "card",
            Affirm => "affirm",
            AfterpayClearpay => "afterpay_clearpay",
            Cashapp => "cashapp",
            Ideal => "ideal",
            Klarna => "klarna",
            Link => "link",
            Paypal => "paypal",
            SepaDebit => "sepa_debit",
            UsBankAccount => "us_bank_account",
            Zip => "zip",
        }
    }

    pub fn is_pay_later(self) -> bool {
        matches!(self, Affirm | AfterpayClearpay | Klarna | Zip)
    }

    /// A bank debit stays pending for days.
    pub fn is_delayed(self) -> bool {
        matches!(self, SepaDebit | UsBankAccount)
    }

    /// Draws a method. Pay-later methods start small and overtake others; which ones depends on the currency.
    pub fn draw(currency: Currency, progress: u64, chance: &mut Chance) -> Self {
        let shares = shares(currency);
        let weights = shares.iter().map(|(method, share)| {
            let growth = match method {
                Klarna | AfterpayClearpay | Affirm => 250 + 15 * progress / 10,
                // Falls behind while the others grow.
                Zip => 1100 - progress / 2,
                _ => 1000,
            };
            share * growth
        });
        let weights: Vec<u64> = weights.collect();
        shares[chance.weighted(&weights)].0
    }
}

/// Shares of a currency's charges in a thousand, in the middle of the span.
fn shares(currency: Currency) -> &'static [(Method, u64)] {
    match currency {
        Usd => &[
            (Card, 780),
            (Link, 50),
            (UsBankAccount, 35),
            (Cashapp, 25),
            (Paypal, 10),
            (Affirm, 45),
            (Klarna, 30),
            (AfterpayClearpay, 25),
            (Zip, 8),
        ],
        Eur => &[(Card, 560), (SepaDebit, 90), (Ideal, 90), (Paypal, 80), (Klarna, 180)],
        Gbp => &[(Card, 760), (Paypal, 50), (Link, 20), (Klarna, 120), (AfterpayClearpay, 50)],
        Aud => &[(Card, 670), (Paypal, 20), (AfterpayClearpay, 190), (Zip, 90), (Klarna, 30)],
        Cad => &[(Card, 850), (AfterpayClearpay, 60), (Affirm, 50), (Klarna, 40)],
        Jpy | Kwd => &[(Card, 1)],
    }
}

impl Account {
    /// The id of the saved (or single-use) payment method.
    pub(super) fn payment_method_id(&self, charge: &Charge) -> Id {
        match charge.customer {
            Some(index) => self.customer_payment_method(&self.customer(index), charge.method as u64),
            None => self.ids.timed("pm_1", Kind::PaymentMethod, (1 << 38) + charge.index, charge.created),
        }
    }

    pub(super) fn write_payment_method_details(&self, json: &mut Json, charge: &Charge, chance: &mut Chance) {
        let name = charge.method.name();
        json.object("payment_method_details", |w| {
            // Keys are sorted, and the union's name can stand on either side of `type`.
            if name > "type" {
                w.put("type", name);
                w.object(name, |w| self.write_method(w, charge, chance));
            } else {
                w.object(name, |w| self.write_method(w, charge, chance));
                w.put("type", name);
            }
        });
    }

    fn write_method(&self, w: &mut Json, charge: &Charge, chance: &mut Chance) {
        match charge.method {
            Card => self.write_card(w, charge, chance),
            Affirm => w.put("transaction_id", chance.letters(10)),
            AfterpayClearpay => {
                w.put("order_id", chance.permille(700).then(|| chance.digits(12)));
                w.put("reference", chance.letters(16));
            }
            Cashapp => {
                w.put("buyer_id", format!("CST_{}", chance.letters(24)));
                w.put("cashtag", format!("$buyer{}", chance.below(10_000)));
                w.put("transaction_id", chance.permille(800).then(|| chance.letters(20)));
            }
            Ideal => write_ideal(w, chance),
            Klarna => {
                w.object("payer_details", |w| {
                    w.object("address", |w| w.put("country", charge.place.country));
                });
                w.put(
                    "payment_method_category",
                    chance.pick(&["pay_later", "pay_in_installments", "pay_with_financing", "pay_now"]),
                );
                w.put("preferred_locale", charge.place.locale);
            }
            Link => w.put("country", chance.permille(800).then_some(charge.place.country)),
            Paypal => write_paypal(w, charge, chance),
            SepaDebit => self.write_sepa_debit(w, charge, chance),
            UsBankAccount => self.write_us_bank_account(w, charge, chance),
            Zip => {}
        }
    }

    fn write_sepa_debit(&self, w: &mut Json, charge: &Charge, chance: &mut Chance) {
        w.put("bank_code", chance.digits(8));
        w.put("branch_code", chance.pick(&[None, Some("")]));
        w.put("country", charge.place.country);
        w.put("fingerprint", chance.letters(16));
        w.put("last4", chance.digits(4));
        w.put("mandate", self.mandate_id(charge));
    }

    fn write_us_bank_account(&self, w: &mut Json, charge: &Charge, chance: &mut Chance) {
        w.put("account_holder_type", chance.pick(&["individual", "company"]));
        w.put("account_type", chance.pick(&["checking", "checking", "savings"]));
        w.put("bank_name", chance.pick(&["STRIPE TEST BANK", "First Test Bank, N.A.", "Crédit Union"]));
        w.put("fingerprint", chance.letters(16));
        w.put("last4", chance.digits(4));
        if chance.permille(300) {
            w.put("mandate", self.mandate_id(charge));
        }
        w.put("payment_reference", chance.permille(500).then(|| chance.digits(15)));
        w.put("routing_number", chance.digits(9));
    }

    fn mandate_id(&self, charge: &Charge) -> Id {
        self.ids.timed("mandate_1", Kind::Mandate, charge.index, charge.created)
    }
}

fn write_ideal(w: &mut Json, chance: &mut Chance) {
    let (bank, bic) = chance.pick(&[
        ("abn_amro", "ABNANL2A"),
        ("ing", "INGBNL2A"),
        ("rabobank", "RABONL2U"),
        ("bunq", "BUNQNL2A"),
    ]);
    w.put("bank", bank);
    w.put("bic", bic);
    w.null("generated_sepa_debit");
    w.null("generated_sepa_debit_mandate");
    w.put("iban_last4", chance.digits(4));
    w.put("transaction_id", chance.permille(600).then(|| chance.digits(16)));
    w.put("verified_name", chance.pick(PEOPLE));
}

fn write_paypal(w: &mut Json, charge: &Charge, chance: &mut Chance) {
    w.put("country", charge.place.country);
    w.put("payer_email", super::words::email(chance));
    w.put("payer_id", chance.letters(13).to_uppercase());
    w.put("payer_name", chance.pick(PEOPLE));
    if chance.permille(700) {
        w.object("seller_protection", |w| {
            w.array("dispute_categories", |w| {
                w.item("fraudulent");
                w.item("product_not_received");
            });
            w.put("status", "eligible");
        });
    } else {
        w.null("seller_protection");
    }
    w.put("transaction_id", chance.letters(17).to_uppercase());
}
