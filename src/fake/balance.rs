//! Turns charges, refunds, disputes, payouts and fees into balance transactions.

use super::account::{Account, FAILURE_DELAY, Series};
use super::chance::topic;
use super::charge::{Charge, Status};
use super::id::{Id, Kind};
use super::json::Json;
use super::method::Method;
use super::money::{self, Currency, Rate};
use super::refund::Refund;
use super::timeline::DAY;

/// One movement of the account's balance.
#[derive(Debug)]
pub(super) struct Transaction {
    pub id: Id,
    pub kind: &'static str,
    category: &'static str,
    pub source: Option<Id>,
    /// In the currency of the balance, before fees.
    amount: i64,
    pub currency: Currency,
    rate: Option<Rate>,
    fees: Vec<Fee>,
    created: i64,
    available_on: i64,
    description: Option<String>,
}

#[derive(Debug)]
struct Fee {
    amount: i64,
    kind: &'static str,
    description: &'static str,
    application: Option<&'static str>,
}

/// Series that are told apart in the id of a transaction.
const MEMBERS: [Series; 6] = [
    Series::Charges,
    Series::Refunds,
    Series::RefundFailures,
    Series::Disputes,
    Series::Payouts,
    Series::StripeFees,
];

/// Days until a charge's money is available.
const SETTLEMENT_DAYS: i64 = 2;

impl Account {
    /// The transaction that something of `series` caused.
    pub(super) fn transaction(&self, series: Series, index: u64) -> Transaction {
        match series {
            Series::Charges => self.charge_transaction(&self.charge(index)),
            Series::Refunds => self.refund_transaction(&self.refund(index)),
            Series::RefundFailures => self.refund_failure_transaction(&self.refund(index)),
            Series::Disputes => self.dispute_transaction(index),
            Series::Payouts => self.payout_transaction(index),
            _ => self.stripe_fee_transaction(index),
        }
    }

    /// The series and index that a transaction's id may belong to.
    pub(super) fn transaction_row(&self, id: &str) -> Option<(Series, u64)> {
        let code = self.ids.index_of(Kind::BalanceTransaction, id)?;
        Some((*MEMBERS.get((code % 8) as usize)?, code / 8))
    }

    pub(super) fn charge_transaction_id(&self, charge: &Charge) -> Id {
        self.transaction_id("txn_3", Series::Charges, charge.index, charge.created)
    }

    pub(super) fn refund_transaction_id(&self, refund: &Refund) -> Id {
        self.transaction_id("txn_3", Series::Refunds, refund.index, refund.charge.created)
    }

    pub(super) fn refund_failure_transaction_id(&self, refund: &Refund) -> Id {
        self.transaction_id("txn_1", Series::RefundFailures, refund.index, refund.created + FAILURE_DELAY)
    }

    fn transaction_id(&self, prefix: &str, series: Series, index: u64, created: i64) -> Id {
        let member =
            MEMBERS.iter().position(|member| *member == series).expect("only members have transactions");
        self.ids.timed(prefix, Kind::BalanceTransaction, index * 8 + member as u64, created)
    }

    fn charge_transaction(&self, charge: &Charge) -> Transaction {
        let rate = money::settlement_rate(self.spec.seed, charge.currency, charge.created);
        let amount = rate.map_or(charge.amount, |rate| rate.convert(charge.amount));
        let wait = if charge.status == Status::Pending { 2 * SETTLEMENT_DAYS } else { SETTLEMENT_DAYS };
        let is_card = charge.method == Method::Card;
        Transaction {
            id: self.charge_transaction_id(charge),
            kind: if is_card { "charge" } else { "payment" },
            category: "charge",
            source: Some(self.charge_id(charge)),
            amount,
            currency: charge.currency.settlement(),
            rate,
            fees: fees(charge, amount),
            created: charge.created,
            available_on: day_of(charge.created) + wait * DAY,
            description: self.charge_description(charge).map(str::to_owned),
        }
    }

    fn refund_transaction(&self, refund: &Refund) -> Transaction {
        let rate = money::settlement_rate(self.spec.seed, refund.charge.currency, refund.created);
        let is_card = refund.charge.method == Method::Card;
        let description = match self.charge_description(&refund.charge) {
            Some(text) => format!("REFUND FOR CHARGE ({text})"),
            None => "REFUND FOR CHARGE".to_owned(),
        };
        Transaction {
            id: self.refund_transaction_id(refund),
            kind: if is_card { "refund" } else { "payment_refund" },
            category: "refund",
            source: Some(self.refund_id(refund)),
            amount: -rate.map_or(refund.amount, |rate| rate.convert(refund.amount)),
            currency: refund.charge.currency.settlement(),
            rate,
            fees: Vec::new(),
            created: refund.created,
            available_on: day_of(refund.created) + SETTLEMENT_DAYS * DAY,
            description: Some(description),
        }
    }

    fn refund_failure_transaction(&self, refund: &Refund) -> Transaction {
        let back = self.refund_transaction(refund);
        let created = refund.created + FAILURE_DELAY;
        Transaction {
            id: self.refund_failure_transaction_id(refund),
            kind: "refund_failure",
            category: "refund_failure",
            amount: -back.amount,
            created,
            available_on: created,
            description: Some("REFUND FAILURE".to_owned()),
            ..back
        }
    }

    fn dispute_transaction(&self, index: u64) -> Transaction {
        let charge = self.charge_of_dispute(index);
        let created = self.created(Series::Disputes, index);
        let rate = money::settlement_rate(self.spec.seed, charge.currency, created);
        Transaction {
            id: self.transaction_id("txn_1", Series::Disputes, index, created),
            kind: "adjustment",
            category: "dispute",
            source: Some(self.dispute_id(index)),
            amount: -rate.map_or(charge.amount, |rate| rate.convert(charge.amount)),
            currency: charge.currency.settlement(),
            rate,
            fees: vec![Fee {
                amount: 1_500,
                kind: "stripe_fee",
                description: "Dispute fee",
                application: None,
            }],
            created,
            available_on: created,
            description: Some(format!("Chargeback withdrawal for {}", self.charge_id(&charge))),
        }
    }

    fn payout_transaction(&self, index: u64) -> Transaction {
        let created = self.created(Series::Payouts, index);
        let amount = 10_000 + self.chance(topic("payout"), index).below(5_000_000) as i64;
        Transaction {
            id: self.transaction_id("txn_1", Series::Payouts, index, created),
            kind: "payout",
            category: "payout",
            source: Some(self.ids.timed("po_1", Kind::Payout, index, created)),
            amount: -amount,
            currency: Currency::Usd,
            rate: None,
            fees: Vec::new(),
            created,
            available_on: created,
            description: Some("STRIPE PAYOUT".to_owned()),
        }
    }

    fn stripe_fee_transaction(&self, index: u64) -> Transaction {
        let created = self.created(Series::StripeFees, index);
        let amount = 50 + self.chance(topic("stripe fee"), index).below(20_000) as i64;
        Transaction {
            id: self.transaction_id("txn_1", Series::StripeFees, index, created),
            kind: "stripe_fee",
            category: "fee",
            source: None,
            amount: -amount,
            currency: Currency::Usd,
            rate: None,
            fees: Vec::new(),
            created,
            available_on: created,
            description: Some("Billing - Usage Fee".to_owned()),
        }
    }

    pub(super) fn write_transaction(&self, json: &mut Json, transaction: &Transaction) {
        let fee = transaction.fees.iter().map(|fee| fee.amount).sum::<i64>();
        let currency = transaction.currency.code();
        json.put("id", transaction.id);
        json.put("object", "balance_transaction");
        json.put("amount", transaction.amount);
        json.put("available_on", transaction.available_on);
        json.put("balance_type", "payments");
        json.put("created", transaction.created);
        json.put("currency", currency);
        json.put("description", transaction.description.as_deref());
        json.put("exchange_rate", transaction.rate.map(Rate::number));
        json.put("fee", fee);
        json.array("fee_details", |w| {
            for fee in &transaction.fees {
                w.element(|w| {
                    w.put("amount", fee.amount);
                    w.put("application", fee.application);
                    w.put("currency", currency);
                    w.put("description", fee.description);
                    w.put("type", fee.kind);
                });
            }
        });
        json.put("net", transaction.amount - fee);
        json.put("reporting_category", transaction.category);
        json.put("source", transaction.source);
        let is_pending = transaction.available_on > self.spec.now;
        json.put("status", if is_pending { "pending" } else { "available" });
        json.put("type", transaction.kind);
    }
}

/// The fees of a charge whose settled amount is `amount`.
fn fees(charge: &Charge, amount: i64) -> Vec<Fee> {
    let stripe = match charge.method {
        Method::UsBankAccount => (amount * 8 / 1000).min(500),
        Method::SepaDebit | Method::Ideal => 35,
        method if method.is_pay_later() => amount * 599 / 10_000 + 30,
        _ => amount * 29 / 1000 + 30,
    };
    let fee = |amount, kind, description, application| Fee { amount, kind, description, application };
    let mut fees = vec![fee(stripe, "stripe_fee", "Stripe processing fees", None)];
    if charge.place.country == "AU" {
        fees.push(fee(stripe / 10, "tax", "GST", None));
    }
    if charge.is_for_other_account {
        let application = Some(super::charge::APPLICATION);
        fees.push(fee(amount / 25, "application_fee", "Fake shop connector application fee", application));
    }
    fees
}

fn day_of(second: i64) -> i64 {
    second.div_euclid(DAY) * DAY
}
