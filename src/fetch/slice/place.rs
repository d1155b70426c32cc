//! Turns a page and what was asked for into whether one answers the other.
//!
//! A broken proxy may mix answers up, and a cache may keep old ones: a page that is taken for another one loses rows.

use std::ops::Range;

use super::SliceReader;
use crate::error::{Error, Kind};
use crate::fetch::Fetcher;
use crate::fetch::envelope::{Envelope, is_jump};
use crate::fetch::trail::End;

/// What a page is worth as the answer to the present request.
pub enum Verdict {
    Fits,
    /// Ask for it once more.
    Doubtful,
    /// The same, but nothing is wrong if it comes again.
    Unlikely,
}

/// What was odd about the answers at the present place of the list. Each is asked about once: two of a kind are no accident.
#[derive(Default)]
pub struct Doubts {
    was_of_other_pass: bool,
    was_odd_end: bool,
    was_outside: bool,
    was_jump: bool,
    was_before: bool,
    was_stuck: bool,
    /// The ids of a page that would mean another order of the list.
    newer: Option<Vec<String>>,
}

impl SliceReader {
    /// Whether a page answers the present request, by all that is known of the list.
    pub(super) fn judge(
        &mut self,
        envelope: &Envelope,
        is_of_pass: bool,
        doubts: &mut Doubts,
    ) -> Result<Verdict, Error> {
        let foreign = |what: String| Error::new(Kind::Partial, what).foreign();
        // An object may have changed between its being found and being shown.
        if !is_of_pass && !std::mem::replace(&mut doubts.was_of_other_pass, true) {
            return Ok(Verdict::Doubtful);
        }
        let is_outside = self.check_place(envelope, is_of_pass).map_err(foreign)?;
        // Filters are exact, so it is rather another's end.
        if is_outside && !envelope.has_more && !std::mem::replace(&mut doubts.was_outside, true) {
            return Ok(Verdict::Doubtful);
        }
        self.is_outside |= is_outside;
        if let Verdict::Doubtful = self.order_of(envelope, doubts)? {
            return Ok(Verdict::Doubtful);
        }
        match self.judge_end(envelope, doubts)? {
            Verdict::Fits => {}
            doubt => return Ok(doubt),
        }
        if let Err(what) = self.check_progress(envelope) {
            return match std::mem::replace(&mut doubts.was_stuck, true) {
                false => Ok(Verdict::Doubtful),
                true => Err(Error::new(Kind::Partial, what)
                    .hint("nothing of the page was taken; run the same command again")),
            };
        }
        Ok(Verdict::Fits)
    }

    /// Whether some objects are outside of the window, which are taken all the same. Where all are, the page is that of another
    /// request: a broken proxy may mix answers up.
    fn check_place(&self, envelope: &Envelope, is_of_pass: bool) -> Result<bool, String> {
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
            return Ok(false);
        };
        if oldest >= window.end || newest < window.start {
            let what = format!("expected objects created in {}..{}", window.start, window.end);
            return Err(format!("{what}, got none of them but others"));
        }
        Ok(newest >= window.end || oldest < window.start)
    }

    /// What the end of a pass is worth, or its beginning without what the lake has.
    fn judge_end(&mut self, envelope: &Envelope, doubts: &mut Doubts) -> Result<Verdict, Error> {
        if envelope.has_more && !(self.begins() && self.lacks_newest(envelope)) {
            return Ok(Verdict::Fits);
        }
        match self.end_of(envelope) {
            End::Plausible => Ok(Verdict::Fits),
            // Some of many slices that the lake has objects about may well be empty.
            End::Odd if self.expected == Some(i64::MIN) && self.asks_elsewhere() => {
                doubts.was_odd_end = true;
                Ok(Verdict::Unlikely)
            }
            End::Odd if !std::mem::replace(&mut doubts.was_odd_end, true) => {
                // What the lake knows may be of another pass.
                let is_known = self.expects_more() || self.has_one_pass();
                Ok(if is_known { Verdict::Doubtful } else { Verdict::Unlikely })
            }
            End::Odd if self.asks_elsewhere() => Ok(Verdict::Unlikely),
            End::Odd if !self.expects_more() || self.trail.has_lost_all() => Ok(Verdict::Fits),
            End::Odd => self.look_back(doubts),
            End::Before if !std::mem::replace(&mut doubts.was_before, true) => Ok(Verdict::Doubtful),
            End::Before => {
                let what = "expected objects behind the last one, got those before it";
                Err(Error::new(Kind::Partial, what).foreign())
            }
        }
    }

    /// What the page is worth as the last one, by what the lake knows and by the trail; the first that applies counts.
    fn end_of(&self, envelope: &Envelope) -> End {
        let Envelope { ids, n_objects, .. } = envelope;
        let has_some = if *n_objects > 0 { End::Plausible } else { End::Odd };
        let is_on_its_way = self.trail.is_on_its_way();
        match self.trail.cursor() {
            None if is_on_its_way && self.expected.is_none() => End::Plausible,
            None if is_on_its_way && self.lacks_newest(envelope) => End::Odd,
            // Below the second that it is begun again at, nothing is known.
            None if is_on_its_way || self.restart_below.is_some() => has_some,
            // From so far up that nobody remembers.
            Some(_) if !is_on_its_way && self.is_newer(envelope) && !self.trail.shows_beyond(ids) => {
                End::Before
            }
            _ => self.trail.may_end(ids, *n_objects),
        }
    }

    /// Asks for another size of page, once: that is another address, where a list of which the lake has objects seems to begin and
    /// end with nothing. Of several passes one may well be empty.
    fn asks_elsewhere(&mut self) -> bool {
        let is_known = self.expected.is_some() && self.has_one_pass();
        self.begins() && is_known && !std::mem::replace(&mut self.is_elsewhere, true)
    }

    fn begins(&self) -> bool {
        self.trail.cursor().is_none() && self.trail.is_on_its_way()
    }

    /// Whether all of a list is older than an object that the lake has.
    fn lacks_newest(&self, envelope: &Envelope) -> bool {
        let expected = self.expected.filter(|_| self.has_one_pass());
        expected.zip(envelope.newest).is_some_and(|(expected, newest)| newest < expected)
    }

    /// Whether there is more by what came before.
    fn expects_more(&self) -> bool {
        self.is_promised || !self.trail.is_on_its_way()
    }

    /// Steps back from an end. Objects vanish, so the list may have come to it; then what stands before it is shown. An answer
    /// that is another's, or of a server that ends each list there, does not show it.
    fn look_back(&mut self, doubts: &mut Doubts) -> Result<Verdict, Error> {
        *doubts = Doubts::default();
        let has_gone_back = self.trail.look_back();
        if self.trail.has_begun_again() {
            self.restart_below = None;
        }
        match has_gone_back {
            true => Ok(Verdict::Doubtful),
            false => {
                let what = "expected more of the list, or what was listed before its end, got neither";
                Err(Error::new(Kind::Partial, what).foreign())
            }
        }
    }

    /// Whether all objects are newer than some before, where the list came newest first so far.
    fn is_newer(&self, envelope: &Envelope) -> bool {
        !self.is_other_order
            && self.reached.zip(envelope.oldest).is_some_and(|(before, oldest)| oldest > before)
    }

    /// All objects newer than some before, in a list that came newest first so far, may be the answer to another request.
    /// If they come twice, the list has another order, or has come to another end.
    fn order_of(&mut self, envelope: &Envelope, doubts: &mut Doubts) -> Result<Verdict, Error> {
        let is_newer = self.is_newer(envelope);
        if let Some(first) = doubts.newer.take() {
            // The second page may be a smaller one.
            let is_same = is_newer && first.iter().zip(&envelope.ids).all(|(a, b)| a == b);
            return match (is_same, envelope.has_more) {
                (true, true) => {
                    self.is_other_order = true;
                    Ok(Verdict::Fits)
                }
                (true, false) => self.look_back(doubts),
                (false, _) => {
                    let what = "expected objects older than those before, got newer ones, and others when asked again";
                    Err(Error::new(Kind::Partial, what).foreign())
                }
            };
        }
        if !is_newer || !self.trail.is_on_its_way() {
            return Ok(Verdict::Fits);
        }
        doubts.newer = Some(envelope.ids.clone());
        Ok(Verdict::Doubtful)
    }

    /// What no list of Stripe's does: going on without getting on.
    fn check_progress(&mut self, envelope: &Envelope) -> Result<(), String> {
        match envelope.ids.last() {
            _ if !envelope.has_more => Ok(()),
            None => Err("expected objects with an id on a page that has more, got none".to_owned()),
            Some(last) if self.trail.gets_on(last) => Ok(()),
            Some(last) => Err(format!("expected new objects, got a page that ends at {last} again")),
        }
    }

    /// Objects that pages have gone beyond, and that came when asked for by their seconds, come behind. A last page far from those
    /// before it may be that of a part further down: its jump is asked for.
    pub(super) async fn judge_jump(
        &mut self,
        fetcher: &Fetcher,
        envelope: &Envelope,
        doubts: &mut Doubts,
    ) -> Result<Verdict, Error> {
        if let Some(jump) = self.jump_to_end(envelope).filter(|_| !self.none_came) {
            self.has_passed_over(fetcher, &jump).await?;
        }
        self.none_came &= !envelope.ids.iter().any(|id| self.passed_over.contains(id));
        if !self.none_came || envelope.has_more {
            return Ok(Verdict::Fits);
        }
        match std::mem::replace(&mut doubts.was_jump, true) {
            false => Ok(Verdict::Doubtful),
            true => {
                let what =
                    "expected objects behind those before that came when asked for, got the end of the list";
                Err(Error::new(Kind::Partial, what).foreign())
            }
        }
    }

    /// The seconds between the objects before and those of a last page, where they are many times as many as there usually are.
    fn jump_to_end(&self, envelope: &Envelope) -> Option<Range<i64>> {
        let is_plain = self.has_one_pass() && self.window.is_some() && !self.is_other_order;
        let jump = envelope.newest?.saturating_add(1)..self.reached?;
        let usual = self.newest?.saturating_sub(jump.end) / i64::from(self.trail.n_shown().max(1));
        (is_plain && !envelope.has_more && self.trail.is_on_its_way() && is_jump(&jump, usual))
            .then_some(jump)
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
