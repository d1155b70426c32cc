//! Turns an index into a charge, and its outcome, refunds and dispute.

use super::account::{Account, Series};
use super::chance::{Chance, topic};
use super::id::{Id, Kind};
use super::json::Json;
use super::method::Method;
use super::money::{self, Currency};
use super::outcome::{self, Failure};
use super::timeline::DAY;
use super::words::{self, PEOPLE, PLACES, Place};

/// What other objects need to know of a charge.
#[derive(Debug, Clone)]
pub(super) struct Charge {
    pub index: u64,
    pub created: i64,
    pub customer: Option<u64>,
    pub place: Place,
    pub currency: Currency,
    pub amount: i64,
    pub method: Method,
    pub status: Status,
    pub is_captured: bool,
    /// A subscription's payment: the customer was not there.
    pub is_recurring: bool,
    /// Paid on behalf of another account, with a fee for this one.
    pub is_for_other_account: bool,
    pub failure: Option<&'static Failure>,
    pub is_blocked: bool,
    /// Its refunds, at most two.
    pub refunds: [Option<u64>; 2],
    pub dispute: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Succeeded,
    Pending,
    Failed,
}

/// Days after which a bank debit has arrived, and until which a card payment may be held.
const PENDING_DAYS: i64 = 5;
pub(super) const HOLD_DAYS: i64 = 7;

impl Account {
    pub(super) fn charge(&self, index: u64) -> Charge {
        let mut chance = self.chance(topic("charge"), index);
        let timeline = self.timeline(Series::Charges);
        let created = timeline.created(index);
        let n_customers = self.series_len(Series::Customers);
        let is_guest = n_customers == 0 || chance.permille(80);
        // Customers of the first hours come back most.
        let draw = chance.below(1 << 20);
        let older = timeline.older_of(index, n_customers);
        let customer = (!is_guest).then(|| (older * ((draw * draw) >> 20)) >> 20);
        let drawn_place = words::place_index(&mut chance);
        let place = customer.map_or(PLACES[drawn_place], |index| self.customer(index).place);
        let currency = if chance.permille(30) { Currency::Usd } else { place.currency };
        let method = Method::draw(currency, self.progress(created), &mut chance);
        let cents = money::usd_cents(&mut chance);
        let amount = currency.amount(if method.is_pay_later() { 3_500 + 2 * cents } else { cents });
        let mut charge = Charge {
            index,
            created,
            customer,
            place,
            currency,
            amount,
            method,
            status: Status::Succeeded,
            is_captured: true,
            is_recurring: customer.is_some() && !method.is_pay_later() && chance.permille(450),
            is_for_other_account: chance.permille(12),
            failure: None,
            is_blocked: false,
            refunds: self.refunds_of_charge(index),
            dispute: self.dispute_of_charge(index),
        };
        // Money that went back had arrived.
        if charge.refunds[0].is_none() && charge.dispute.is_none() {
            self.draw_fate(&mut charge, &mut chance);
        }
        charge
    }

    fn draw_fate(&self, charge: &mut Charge, chance: &mut Chance) {
        let is_card = charge.method == Method::Card;
        let age = self.age(charge.created);
        if chance.permille(45) {
            charge.status = Status::Failed;
            charge.is_captured = false;
            charge.is_blocked = is_card && chance.permille(200);
            charge.failure = Some(outcome::failure_of(is_card, charge.is_blocked, chance));
        } else if charge.method.is_delayed() && age < PENDING_DAYS * DAY {
            charge.status = Status::Pending;
        } else if is_card && !charge.is_recurring && age < HOLD_DAYS * DAY && chance.permille(120) {
            charge.is_captured = false;
        }
    }

    /// Cards have `ch_` ids, all other methods `py_`.
    pub(super) fn charge_id(&self, charge: &Charge) -> Id {
        let prefix = if charge.method == Method::Card { "ch_3" } else { "py_3" };
        self.ids.timed(prefix, Kind::Charge, charge.index, charge.created)
    }

    pub(super) fn payment_intent_id(&self, charge: &Charge) -> Id {
        self.ids.timed("pi_3", Kind::PaymentIntent, charge.index, charge.created)
    }

    pub(super) fn dispute_of_charge(&self, charge: u64) -> Option<u64> {
        let stratum = self.disputes.stratum_of_charge(charge)?;
        (self.disputes.charge(stratum) == charge).then(|| self.disputes.of_stratum(stratum))
    }

    pub(super) fn charge_of_dispute(&self, dispute: u64) -> Charge {
        self.charge(self.disputes.charge(self.disputes.stratum(dispute)))
    }

    pub(super) fn dispute_id(&self, dispute: u64) -> Id {
        self.ids.timed("du_1", Kind::Dispute, dispute, self.created(Series::Disputes, dispute))
    }

    pub(super) fn charge_description(&self, charge: &Charge) -> Option<&'static str> {
        if charge.is_recurring {
            return Some("Subscription update");
        }
        words::description(&mut self.chance(topic("charge description"), charge.index))
    }

    pub(super) fn write_charge(&self, json: &mut Json, charge: &Charge) {
        let mut chance = self.chance(topic("charge body"), charge.index);
        let chance = &mut chance;
        let is_paid = charge.status != Status::Failed;
        json.put("id", self.charge_id(charge));
        json.put("object", "charge");
        json.put("amount", charge.amount);
        json.put("amount_captured", if charge.is_captured { charge.amount } else { 0 });
        json.put("amount_refunded", self.amount_refunded(charge));
        self.write_application(json, charge);
        json.put("balance_transaction", charge.is_captured.then(|| self.charge_transaction_id(charge)));
        self.write_billing_details(json, charge, chance);
        let descriptor = if charge.is_recurring { "FAKE SHOP* MEMBERSHIP" } else { "FAKE SHOP" };
        json.put("calculated_statement_descriptor", is_paid.then_some(descriptor));
        json.put("captured", charge.is_captured);
        json.put("created", charge.created);
        json.put("currency", charge.currency.code());
        json.put("customer", charge.customer.map(|index| self.customer_id(index)));
        json.put("description", self.charge_description(charge));
        json.put("destination", charge.is_for_other_account.then(|| self.other_account(charge)));
        json.put("dispute", charge.dispute.map(|index| self.dispute_id(index)));
        json.put("disputed", charge.dispute.is_some());
        json.null("failure_balance_transaction");
        json.put("failure_code", charge.failure.map(|failure| failure.code));
        json.put("failure_message", charge.failure.map(|failure| failure.message));
        outcome::write_fraud_details(json, charge, chance);
        self.write_charge_from_livemode(json, charge, chance);
    }

    fn write_charge_from_livemode(&self, json: &mut Json, charge: &Charge, chance: &mut Chance) {
        let is_paid = charge.status != Status::Failed;
        json.put("livemode", self.spec.livemode);
        words::metadata(json, chance);
        json.put("on_behalf_of", charge.is_for_other_account.then(|| self.other_account(charge)));
        json.null("order");
        outcome::write_outcome(json, charge, chance);
        json.put("paid", is_paid);
        json.put("payment_intent", self.payment_intent_id(charge));
        json.put("payment_method", self.payment_method_id(charge));
        self.write_payment_method_details(json, charge, chance);
        if chance.permille(15) {
            json.object("presentment_details", |w| {
                w.put("presentment_amount", charge.amount * 9 / 10);
                w.put("presentment_currency", "eur");
            });
        }
        json.object("radar_options", |_| ());
        let wants_receipt = chance.permille(300);
        json.put("receipt_email", self.payer_email(charge).filter(|_| wants_receipt));
        json.put("receipt_number", chance.permille(250).then(|| words::receipt_number(chance)));
        json.put("receipt_url", is_paid.then(|| receipt_url(chance)));
        json.put("refunded", self.amount_refunded(charge) == charge.amount);
        let is_reviewed = chance.permille(5);
        json.put(
            "review",
            is_reviewed.then(|| self.ids.timed("prv_1", Kind::Review, charge.index, charge.created)),
        );
        self.write_shipping(json, charge, chance);
        json.null("source");
        json.null("source_transfer");
        json.null("statement_descriptor");
        json.put("statement_descriptor_suffix", charge.is_recurring.then_some("MEMBERSHIP"));
        json.put("status", charge.status.name());
        self.write_transfer(json, charge);
    }

    fn payer_email(&self, charge: &Charge) -> Option<String> {
        match charge.customer {
            Some(index) => self.customer_email(index),
            None => Some(words::email(&mut self.chance(topic("guest email"), charge.index))),
        }
    }

    fn payer_name(&self, charge: &Charge) -> &'static str {
        match charge.customer {
            Some(index) => self.customer(index).name,
            None => self.chance(topic("guest name"), charge.index).pick(PEOPLE),
        }
    }

    fn write_billing_details(&self, json: &mut Json, charge: &Charge, chance: &mut Chance) {
        json.object("billing_details", |w| {
            let is_full = charge.method.is_pay_later() || chance.permille(500);
            w.object("address", |w| words::address(w, charge.place, is_full, chance));
            w.put("email", self.payer_email(charge));
            w.put("name", chance.permille(850).then(|| self.payer_name(charge)));
            w.put("phone", chance.permille(150).then(|| words::phone(chance)));
            w.null("tax_id");
        });
    }

    fn write_shipping(&self, json: &mut Json, charge: &Charge, chance: &mut Chance) {
        if charge.is_recurring || !chance.permille(180) {
            return json.null("shipping");
        }
        json.object("shipping", |w| {
            w.object("address", |w| words::address(w, charge.place, true, chance));
            w.put("carrier", chance.pick(&[None, Some("DHL"), Some("Fast & Careful")]));
            w.put("name", self.payer_name(charge));
            w.null("phone");
            w.put("tracking_number", chance.permille(500).then(|| chance.digits(12)));
        });
    }

    fn other_account(&self, charge: &Charge) -> Id {
        // A handful of accounts, so that they come again.
        self.ids.timed("acct_1", Kind::ConnectedAccount, charge.index % 7, self.start)
    }

    pub(super) fn write_application(&self, json: &mut Json, charge: &Charge) {
        if !charge.is_for_other_account {
            json.null("application");
            json.null("application_fee");
            return json.null("application_fee_amount");
        }
        json.put("application", APPLICATION);
        json.put(
            "application_fee",
            self.ids.timed("fee_1", Kind::ApplicationFee, charge.index, charge.created),
        );
        json.put("application_fee_amount", charge.amount / 25);
    }

    fn write_transfer(&self, json: &mut Json, charge: &Charge) {
        if !charge.is_for_other_account {
            json.null("transfer_data");
            return json.null("transfer_group");
        }
        if charge.is_captured {
            json.put("transfer", self.ids.timed("tr_3", Kind::Transfer, charge.index, charge.created));
        }
        json.object("transfer_data", |w| {
            w.null("amount");
            w.put("destination", self.other_account(charge));
        });
        json.put("transfer_group", format!("group_{}", self.payment_intent_id(charge)));
    }
}

pub(super) const APPLICATION: &str = "ca_FakeShopConnectorApplication01";

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

fn receipt_url(chance: &mut Chance) -> String {
    format!("https://pay.stripe.com/receipts/payment/CAcQ{}", chance.letters(90))
}
