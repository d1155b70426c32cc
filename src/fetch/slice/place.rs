//! Turns a page and what was asked for into whether one answers the other.
//!
//! A broken proxy may mix answers up, and a cache may keep old ones: a page that is taken for another one loses rows.

use super::SliceReader;
use crate::fetch::envelope::Envelope;

/// What a page says of the order of its list.
pub enum Order {
    Kept,
    /// Ask for it once more.
    Doubtful,
    /// It, or the one before, answers another request.
    Mixed,
}

impl SliceReader {
    /// Whether a page is that of another request: a broken proxy may mix answers up, and the filters of a list are exact. Some
    /// objects outside of the window are taken all the same.
    pub(super) fn check_place(&mut self, envelope: &Envelope, is_of_pass: bool) -> Result<(), String> {
        if !is_of_pass {
            let pass: Vec<String> = self.resource.passes[self.pass]
                .iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            return Err(format!("expected objects with {}, got none of them but others", pass.join(", ")));
        }
        let Envelope { newest, oldest, n_objects, url, .. } = envelope;
        if let (0, Some(url)) = (n_objects, url)
            && !is_url_of(url, &self.resource.path)
        {
            return Err(format!("expected a page of this list, got an empty one of {url}"));
        }
        let (Some(window), Some(newest), Some(oldest)) = (self.asked_window(), *newest, *oldest) else {
            return Ok(());
        };
        if oldest >= window.end || newest < window.start {
            let what = format!("expected objects created in {}..{}", window.start, window.end);
            return Err(format!("{what}, got none of them but others"));
        }
        self.is_outside |= newest >= window.end || oldest < window.start;
        Ok(())
    }

    /// Whether a page is the end of a list that has more by what came before, or by what the lake knows.
    pub(super) fn is_odd_end(&self, envelope: &Envelope) -> bool {
        envelope.n_objects == 0 && !envelope.has_more && (self.cursor.is_some() || self.expects_objects)
    }

    /// All objects newer than some before, in a list that came newest first so far, may be the answer to another request.
    /// If they come twice, the list has another order. `jump` is what came the first time.
    pub(super) fn order_of(&mut self, envelope: &Envelope, jump: &mut Option<Vec<String>>) -> Order {
        let is_newer = self.reached.zip(envelope.oldest).is_some_and(|(before, oldest)| oldest > before);
        if let Some(first) = jump.take() {
            // The second page may be a smaller one.
            let is_same = first.iter().zip(&envelope.ids).all(|(a, b)| a == b);
            self.is_other_order = is_newer && is_same;
            return if self.is_other_order { Order::Kept } else { Order::Mixed };
        }
        if !is_newer || self.is_other_order || !self.is_on_its_way() {
            return Order::Kept;
        }
        *jump = Some(envelope.ids.clone());
        Order::Doubtful
    }

    /// What no list of Stripe's does: going on without getting on. After a step back, or a restart, a
    /// page may end where one has ended before, as often as there are such ends.
    pub(super) fn check(&mut self, envelope: &Envelope) -> Result<(), String> {
        match envelope.ids.last() {
            _ if !envelope.has_more => Ok(()),
            None => Err("expected objects with an id on a page that has more, got none".to_owned()),
            Some(last) if self.ends.contains(last) => {
                self.n_known += 1;
                match self.is_on_its_way() || self.n_known > self.ends.len() + 1 {
                    true => Err(format!("expected new objects, got a page that ends at {last} again")),
                    false => Ok(()),
                }
            }
            Some(_) => {
                self.n_known = 0;
                Ok(())
            }
        }
    }
}

/// Whether no object contradicts what a pass asks for, or some do what it asks: names may stand in what is nested, too.
pub(super) fn keeps_to(body: &[u8], pass: &[(String, String)]) -> bool {
    pass.iter().filter(|(_, value)| matches!(value.as_str(), "true" | "false")).all(|(name, value)| {
        let quoted = format!("\"{name}\"");
        let text = std::str::from_utf8(body).unwrap_or_default();
        let values = || {
            let behind =
                text.match_indices(&quoted).map(|(at, _)| text[at + quoted.len()..].trim_ascii_start());
            behind.filter_map(|text| text.strip_prefix(':')).map(str::trim_ascii_start)
        };
        let other = if value == "true" { "false" } else { "true" };
        values().any(|text| text.starts_with(value.as_str())) || !values().any(|text| text.starts_with(other))
    })
}

/// Whether a list that says to be at `url` is the one at `path`; in front of its name there may be a host, or an account.
pub(crate) fn is_url_of(url: &str, path: &str) -> bool {
    let name = |url: &str| {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    };
    url.is_empty() || name(url) == name(path)
}
