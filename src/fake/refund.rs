//! Turns an index into a refund of a charge.

use super::account::{Account, Series};
use super::chance::{Chance, mix, topic};
use super::charge::Charge;
use super::id::{Id, Kind};
use super::json::Json;
use super::method::Method;
use super::timeline::DAY;
use super::words;

#[derive(Debug)]
pub(super) struct Refund {
    pub index: u64,
    pub created: i64,
    pub charge: Charge,
    pub amount: i64,
    pub status: RefundStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefundStatus {
    Succeeded,
    Pending,
    /// The money came back: it no longer counts as refunded.
    Failed,
}

impl Account {
    pub(super) fn refund(&self, index: u64) -> Refund {
        let stratum = self.refunds.stratum(index);
        let owner =
            if stratum % 2 == 1 && self.is_refunded_twice(stratum - 1) { stratum - 1 } else { stratum };
        let charge = self.charge(self.refunds.charge(owner));
        let part = (stratum - owner) as usize;
        let (amount, status) = self.refund_part(&charge, part, index);
        Refund { index, created: self.created(Series::Refunds, index), charge, amount, status }
    }

    pub(super) fn refunds_of_charge(&self, charge: u64) -> [Option<u64>; 2] {
        let Some(stratum) = self.refunds.stratum_of_charge(charge) else {
            return [None, None];
        };
        let is_second_half = stratum % 2 == 1 && self.is_refunded_twice(stratum - 1);
        if is_second_half || self.refunds.charge(stratum) != charge {
            return [None, None];
        }
        let second = self.is_refunded_twice(stratum).then(|| self.refunds.of_stratum(stratum + 1));
        [Some(self.refunds.of_stratum(stratum)), second]
    }

    /// What was paid back and did not fail.
    pub(super) fn amount_refunded(&self, charge: &Charge) -> i64 {
        let mut sum = 0;
        for (part, refund) in charge.refunds.iter().enumerate() {
            if let Some(index) = refund {
                let (amount, status) = self.refund_part(charge, part, *index);
                sum += if status == RefundStatus::Failed { 0 } else { amount };
            }
        }
        sum
    }

    pub(super) fn is_failed_refund(&self, index: u64) -> bool {
        self.refund(index).status == RefundStatus::Failed
    }

    /// Cards have `re_` ids, all other methods `pyr_`; a card's carries the time of its charge.
    pub(super) fn refund_id(&self, refund: &Refund) -> Id {
        if refund.charge.method == Method::Card {
            return self.ids.timed("re_3", Kind::Refund, refund.index, refund.charge.created);
        }
        self.ids.timed("pyr_1", Kind::Refund, refund.index, refund.created)
    }

    /// The refunds of an even stratum and the next one are two parts of one charge's refund.
    fn is_refunded_twice(&self, stratum: u64) -> bool {
        let has_next = stratum + 1 < self.refunds.len;
        stratum.is_multiple_of(2) && has_next && mix(self.refunds.key ^ 2, stratum).is_multiple_of(8)
    }

    fn refund_part(&self, charge: &Charge, part: usize, index: u64) -> (i64, RefundStatus) {
        let mut chance = self.chance(topic("refund amounts"), charge.index);
        let first = 1 + chance.below(charge.amount as u64 / 2) as i64;
        let rest = charge.amount - first;
        let takes_all = chance.permille(700);
        let amount = match (part, charge.refunds[1], takes_all) {
            (0, None, true) => charge.amount,
            (0, _, _) => first,
            (_, _, true) => rest,
            (_, _, false) => rest / 2 + 1,
        };
        (amount, self.refund_status(charge, index))
    }

    fn refund_status(&self, charge: &Charge, index: u64) -> RefundStatus {
        let mut chance = self.chance(topic("refund status"), index);
        let age = self.age(self.created(Series::Refunds, index));
        if age > 5 * DAY && chance.permille(20) {
            RefundStatus::Failed
        } else if age < 4 * DAY && charge.method != Method::Card {
            RefundStatus::Pending
        } else {
            RefundStatus::Succeeded
        }
    }

    pub(super) fn write_refund(&self, json: &mut Json, refund: &Refund) {
        let mut chance = self.chance(topic("refund body"), refund.index);
        let chance = &mut chance;
        let has_failed = refund.status == RefundStatus::Failed;
        json.put("id", self.refund_id(refund));
        json.put("object", "refund");
        json.put("amount", refund.amount);
        json.put("balance_transaction", self.refund_transaction_id(refund));
        json.put("charge", self.charge_id(&refund.charge));
        json.put("created", refund.created);
        json.put("currency", refund.charge.currency.code());
        write_destination(json, refund, chance);
        if has_failed {
            json.put("failure_balance_transaction", self.refund_failure_transaction_id(refund));
            json.put(
                "failure_reason",
                chance.pick(&["expired_or_canceled_card", "lost_or_stolen_card", "unknown"]),
            );
        }
        words::metadata(json, chance);
        json.put("payment_intent", self.payment_intent_id(&refund.charge));
        if refund.status == RefundStatus::Pending {
            json.put("pending_reason", "processing");
        }
        let reasons = [
            None,
            None,
            Some("requested_by_customer"),
            Some("requested_by_customer"),
            Some("duplicate"),
            Some("fraudulent"),
        ];
        json.put("reason", chance.pick(&reasons));
        json.put("receipt_number", chance.permille(250).then(|| words::receipt_number(chance)));
        json.null("source_transfer_reversal");
        json.put("status", refund.status.name());
        json.null("transfer_reversal");
    }
}

impl RefundStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

fn write_destination(json: &mut Json, refund: &Refund, chance: &mut Chance) {
    let name = match refund.charge.method {
        Method::UsBankAccount => "us_bank_transfer",
        Method::SepaDebit | Method::Ideal => "eu_bank_transfer",
        // A Link payment goes back to the card behind it.
        Method::Link => "card",
        other => other.name(),
    };
    json.object("destination_details", |w| {
        if name > "type" {
            w.put("type", name);
        }
        w.object(name, |w| match name {
            "card" => {
                let is_known = chance.permille(700);
                if is_known {
                    w.put("reference", chance.digits(23));
                }
                w.put("reference_status", if is_known { "available" } else { "pending" });
                w.put("reference_type", "acquirer_reference_number");
                w.put("type", if chance.permille(100) { "reversal" } else { "refund" });
            }
            "paypal" => w.null("network_decline_code"),
            "us_bank_transfer" | "eu_bank_transfer" => {
                w.put("reference", chance.permille(500).then(|| chance.digits(12)));
                w.put("reference_status", "available");
            }
            _ => {}
        });
        if name < "type" {
            w.put("type", name);
        }
    });
}
