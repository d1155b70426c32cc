//! Turns the fate of a charge into its outcome: accepted, declined or blocked, and why.

use super::chance::Chance;
use super::charge::Charge;
use super::json::Json;
use super::method::Method;

/// Why a payment was declined.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: &'static str,
    pub message: &'static str,
    reason: &'static str,
    network_code: Option<&'static str>,
    advice: Option<&'static str>,
}

const fn failure(
    code: &'static str,
    message: &'static str,
    reason: &'static str,
    network_code: Option<&'static str>,
    advice: Option<&'static str>,
) -> Failure {
    Failure { code, message, reason, network_code, advice }
}

static CARD_FAILURES: [Failure; 5] = [
    failure(
        "card_declined",
        "Your card was declined.",
        "generic_decline",
        Some("05"),
        Some("try_again_later"),
    ),
    failure(
        "card_declined",
        "Your card has insufficient funds.",
        "insufficient_funds",
        Some("51"),
        Some("try_again_later"),
    ),
    failure("expired_card", "Your card has expired.", "expired_card", Some("54"), Some("confirm_card_data")),
    failure(
        "incorrect_cvc",
        "Your card's security code is incorrect.",
        "incorrect_cvc",
        Some("82"),
        Some("confirm_card_data"),
    ),
    failure("card_declined", "Your card was declined.", "stolen_card", Some("43"), Some("do_not_try_again")),
];
static OTHER_FAILURE: Failure = failure(
    "payment_method_provider_decline",
    "The payment was declined by its provider.",
    "generic_decline",
    None,
    None,
);
static BLOCKED: Failure =
    failure("card_declined", "Your card was declined.", "highest_risk_level", None, None);

pub(super) fn failure_of(is_card: bool, is_blocked: bool, chance: &mut Chance) -> &'static Failure {
    match (is_card, is_blocked) {
        (_, true) => &BLOCKED,
        (true, false) => &CARD_FAILURES[chance.weighted(&[50, 25, 10, 10, 5])],
        (false, false) => &OTHER_FAILURE,
    }
}

pub(super) fn write_fraud_details(json: &mut Json, charge: &Charge, chance: &mut Chance) {
    json.object("fraud_details", |w| {
        if charge.dispute.is_some() && chance.permille(300) {
            w.put("user_report", "fraudulent");
        } else if charge.is_blocked {
            w.put("stripe_report", "fraudulent");
        }
    });
}

pub(super) fn write_outcome(json: &mut Json, charge: &Charge, chance: &mut Chance) {
    let failure = charge.failure;
    let has_score = charge.method == Method::Card;
    let (network_status, level, seller_message, kind) = match failure {
        None => ("approved_by_network", "normal", "Payment complete.", "authorized"),
        Some(_) if charge.is_blocked => {
            ("not_sent_to_network", "highest", "Stripe blocked this payment as too risky.", "blocked")
        }
        Some(_) => {
            let level = if chance.permille(200) { "elevated" } else { "normal" };
            ("declined_by_network", level, "The bank did not say why it declined.", "issuer_declined")
        }
    };
    let score = match level {
        "normal" => chance.below(65),
        "elevated" => 65 + chance.below(10),
        _ => 75 + chance.below(25),
    };
    json.object("outcome", |w| {
        w.put("advice_code", failure.and_then(|failure| failure.advice));
        let network_advice =
            failure.and_then(|failure| failure.network_code).filter(|_| chance.permille(300));
        w.put("network_advice_code", network_advice.map(|_| "02"));
        w.put("network_decline_code", failure.and_then(|failure| failure.network_code));
        w.put("network_status", network_status);
        w.put("reason", failure.map(|failure| failure.reason));
        w.put("risk_level", if has_score { level } else { "not_assessed" });
        if has_score {
            w.put("risk_score", score as i64);
        }
        if charge.is_blocked {
            w.put("rule", "block_if_high_risk");
        }
        w.put("seller_message", seller_message);
        w.put("type", kind);
    });
}
