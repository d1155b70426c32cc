//! Turns chance into the texts of an account: people, addresses, descriptions, metadata.

use super::chance::Chance;
use super::json::Json;
use super::money::Currency::{self, Aud, Cad, Eur, Gbp, Jpy, Kwd, Usd};

pub(super) const PEOPLE: &[&str] = &[
    "Ada Okafor",
    "Noah Weber",
    "Émilie Gauthier",
    "Søren Kjær",
    "Zoë van Dijk",
    "Łukasz Nowak",
    "Chloe O'Neill",
    "José \"Pepe\" Núñez",
    "佐藤 美咲",
    "王小明",
    "김서연",
    "Иван Соколов",
    "محمد العلي",
    "Mary-Jane Whitfield",
    "Björn Þórsson",
    "Priya Raghavan",
    "Sam \\ Dana Kowalczyk",
    "Ngọc Trần",
    "Olu Adébáyò",
    "Lena 🌻 Fischer",
];

pub(super) const COMPANIES: &[&str] =
    &["Northwind Tools", "Čapek & Sons", "Blau GmbH", "Kiosk 24/7", "株式会社みどり"];

const DESCRIPTIONS: &[Option<&str>] = &[
    None,
    Some("Order shipped in 2 parcels"),
    Some("Gift card 🎁"),
    Some("Workshop – zwei Plätze"),
    Some("Line one\nline two"),
    Some("5\" display, \\black\\"),
    Some(""),
    Some("年間プラン"),
];

const DOMAINS: &[&str] = &["example.com", "example.org", "mail.example.net", "shop.example"];

/// A place where customers live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub country: &'static str,
    pub currency: Currency,
    pub locale: &'static str,
    weight: u64,
    cities: &'static [City],
}

/// City, state, postal code, street.
type City = (&'static str, Option<&'static str>, &'static str, &'static str);

pub(super) const PLACES: [Place; 10] = [
    place(
        "US",
        Usd,
        "en-US",
        600,
        &[("Portland", Some("OR"), "97205", "SW Alder St"), ("Austin", Some("TX"), "78704", "Bouldin Ave")],
    ),
    place(
        "DE",
        Eur,
        "de-DE",
        80,
        &[("München", None, "80331", "Sendlinger Straße"), ("Köln", None, "50667", "Hohe Straße")],
    ),
    place("FR", Eur, "fr-FR", 50, &[("Orléans", None, "45000", "Rue de la République")]),
    place("NL", Eur, "nl-NL", 45, &[("Utrecht", None, "3511 AB", "Oudegracht")]),
    place(
        "GB",
        Gbp,
        "en-GB",
        90,
        &[("Bristol", None, "BS1 4DJ", "Corn Street"), ("Leeds", Some(""), "LS1 4DY", "Park Row")],
    ),
    place("AU", Aud, "en-AU", 50, &[("Hobart", Some("TAS"), "7000", "Salamanca Pl")]),
    place("CA", Cad, "fr-CA", 40, &[("Montréal", Some("QC"), "H2Y 1C6", "Rue Saint-Paul")]),
    place("JP", Jpy, "ja-JP", 25, &[("京都市", Some("京都府"), "600-8001", "四条通")]),
    place("KW", Kwd, "ar", 10, &[("Kuwait City", None, "13001", "Fahad Al-Salem St")]),
    place("BR", Usd, "pt-BR", 10, &[("São Paulo", Some("SP"), "01310-100", "Av. Paulista")]),
];

const fn place(
    country: &'static str,
    currency: Currency,
    locale: &'static str,
    weight: u64,
    cities: &'static [City],
) -> Place {
    Place { country, currency, locale, weight, cities }
}

/// The index of a place in [`PLACES`], drawn by how many customers live there.
pub(super) fn place_index(chance: &mut Chance) -> usize {
    chance.weighted(&PLACES.map(|place| place.weight))
}

pub(super) fn email(chance: &mut Chance) -> String {
    let number = chance.below(1_000_000);
    format!("buyer.{number}@{}", chance.pick(DOMAINS))
}

pub(super) fn phone(chance: &mut Chance) -> String {
    format!("+1555{}", chance.digits(7))
}

pub(super) fn description(chance: &mut Chance) -> Option<&'static str> {
    chance.pick(DESCRIPTIONS)
}

/// A receipt's number: `1234-5678`.
pub(super) fn receipt_number(chance: &mut Chance) -> String {
    format!("{}-{}", chance.digits(4), chance.digits(4))
}

/// The six members of an address; `is_full` or with the country and the postal code at most.
pub(super) fn address(json: &mut Json, place: Place, is_full: bool, chance: &mut Chance) {
    let (city, state, postal_code, street) = chance.pick(place.cities);
    if is_full {
        json.put("city", city);
        json.put("country", place.country);
        json.put("line1", format!("{} {street}", 1 + chance.below(400)));
        json.put("line2", chance.pick(&[None, None, None, Some("Apt 7"), Some("")]));
        json.put("postal_code", postal_code);
        json.put("state", state);
        return;
    }
    let has_country = chance.permille(600);
    json.null("city");
    json.put("country", has_country.then_some(place.country));
    json.null("line1");
    json.null("line2");
    json.put("postal_code", has_country.then_some(postal_code));
    json.null("state");
}

const METADATA_KEYS: [&str; 9] =
    ["campaign", "cart_id", "internal ref", "note", "order_id", "plan", "région", "tenant", "user_id"];

/// A `metadata` member of up to six keys, often none.
pub(super) fn metadata(json: &mut Json, chance: &mut Chance) {
    let wanted = chance.pick(&[0, 0, 0, 1, 1, 2, 2, 3, 4, 6]);
    json.object("metadata", |w| {
        let mut left = wanted;
        for (at, key) in METADATA_KEYS.iter().enumerate() {
            let keys_left = (METADATA_KEYS.len() - at) as u64;
            if left == 0 || chance.below(keys_left) >= left {
                continue;
            }
            left -= 1;
            w.put(key, metadata_value(chance));
        }
    });
}

fn metadata_value(chance: &mut Chance) -> String {
    match chance.below(8) {
        0 => chance.below(1_000_000).to_string(),
        1 => "true".to_owned(),
        2 => "naïve \"quoted\" \\ 値\n🙂".to_owned(),
        3 => "{\"a\":1}".to_owned(),
        _ => chance.letters(12),
    }
}
