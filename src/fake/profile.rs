//! Turns the account itself into the object of `/v1/account`.

use super::account::Account;
use super::json::Json;

const CAPABILITIES: [&str; 11] = [
    "affirm_payments",
    "afterpay_clearpay_payments",
    "card_payments",
    "cashapp_payments",
    "ideal_payments",
    "klarna_payments",
    "link_payments",
    "sepa_debit_payments",
    "transfers",
    "us_bank_account_ach_payments",
    "zip_payments",
];

impl Account {
    pub(super) fn write_profile(&self, json: &mut Json) {
        json.put("id", self.account_id());
        json.put("object", "account");
        write_business(json);
        json.object("capabilities", |w| {
            for capability in CAPABILITIES {
                w.put(capability, "active");
            }
        });
        json.put("charges_enabled", true);
        json.object("controller", |w| w.put("type", "account"));
        json.put("country", "US");
        json.put("created", self.start);
        json.put("default_currency", "usd");
        json.put("details_submitted", true);
        json.put("email", "owner@shop.example");
        json.object("external_accounts", |w| {
            w.put("object", "list");
            w.array("data", |_| ());
            w.put("has_more", false);
            w.put("url", format!("/v1/accounts/{}/external_accounts", self.account_id()));
        });
        json.object("metadata", |_| ());
        json.put("payouts_enabled", true);
        self.write_settings(json);
        json.object("tos_acceptance", |w| {
            w.put("date", self.start);
            w.null("ip");
            w.null("user_agent");
        });
        json.put("type", "standard");
    }

    fn write_settings(&self, json: &mut Json) {
        json.object("settings", |w| {
            w.object("branding", |w| nulls(w, &["icon", "logo", "primary_color", "secondary_color"]));
            w.object("card_payments", |w| {
                w.object("decline_on", |w| {
                    w.put("avs_failure", false);
                    w.put("cvc_failure", true);
                });
                w.put("statement_descriptor_prefix", "FAKE SHOP");
                nulls(w, &["statement_descriptor_prefix_kana", "statement_descriptor_prefix_kanji"]);
            });
            w.object("dashboard", |w| {
                w.put("display_name", "Fake Shop");
                w.put("timezone", "Etc/UTC");
            });
            w.object("payments", |w| {
                w.put("statement_descriptor", "FAKE SHOP");
                nulls(w, &["statement_descriptor_kana", "statement_descriptor_kanji"]);
            });
            w.object("payouts", |w| {
                w.put("debit_negative_balances", true);
                w.object("schedule", |w| {
                    w.put("delay_days", 2);
                    w.put("interval", "daily");
                });
                w.null("statement_descriptor");
            });
        });
    }
}

fn write_business(json: &mut Json) {
    json.object("business_profile", |w| {
        nulls(w, &["annual_revenue", "estimated_worker_count"]);
        w.put("mcc", "5734");
        w.null("minority_owned_business_designation");
        w.put("name", "Fake Shop");
        w.put("product_description", "Made-up goods");
        nulls(w, &["support_address", "support_email", "support_phone", "support_url"]);
        w.put("url", "https://shop.example");
    });
    json.put("business_type", "company");
}

fn nulls(json: &mut Json, keys: &[&str]) {
    for key in keys {
        json.null(key);
    }
}
