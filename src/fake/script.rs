//! Turns rules into faults: some requests are answered by the script, the others by what stands behind it.
//!
//! A rule names requests by path and, if need be, by query; it lets some of them pass and then acts a
//! number of times. The first rule that has something to do for a request does it. [`Rules`] only
//! decides and knows no transport, so a server can ask it as well as [`Scripted`] does.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::chance::{Chance, topic};
use crate::fetch::{Headers, Request, Response, Transport, TransportError};

/// Sees a request before it is answered, and may change the world behind it.
pub type Hook = Arc<dyn Fn(&Request) + Send + Sync>;
/// Changes the answer to a request.
pub type Rewrite = Arc<dyn Fn(&Request, Response) -> Response + Send + Sync>;

/// What happens to a request.
#[derive(Clone)]
pub enum Action {
    /// It is answered with this.
    Answer(Response),
    /// It gets no answer.
    Fail(TransportError),
    /// Something happens first; then it is answered as ever.
    Hook(Hook),
    /// It is answered as ever, and the answer is changed on its way.
    Rewrite(Rewrite),
    /// It is answered as ever, this much later.
    Delay(Duration),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Answer(response) => write!(f, "Answer({})", response.status),
            Action::Fail(error) => write!(f, "Fail({error:?})"),
            Action::Hook(_) => f.write_str("Hook"),
            Action::Rewrite(_) => f.write_str("Rewrite"),
            Action::Delay(time) => write!(f, "Delay({time:?})"),
        }
    }
}

/// Which requests, and what happens to them: an [`Action`], or a fault of the server.
#[derive(Debug, Clone)]
pub struct Rule<A = Action> {
    /// The whole path, or with `*` at its end its beginning.
    path: String,
    /// Parameters that the request must have; `*` stands for any value.
    query: Vec<(String, String)>,
    /// Matching requests to let pass first.
    skip: u64,
    /// How many to act on after that; `None` for all.
    times: Option<u64>,
    /// How many of a million that it would act on.
    chance: u64,
    /// Requests that it would have acted on.
    n_drawn: u64,
    action: A,
}

impl<A: Clone> Rule<A> {
    /// Acts on every request to `path`.
    pub fn new(path: &str, action: A) -> Rule<A> {
        let (query, path) = (Vec::new(), path.to_owned());
        Rule { path, query, skip: 0, times: None, chance: 1_000_000, n_drawn: 0, action }
    }

    /// Only on requests with this parameter; `*` stands for any value.
    pub fn with(mut self, name: &str, value: &str) -> Rule<A> {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only from the `n`-th matching request on, counted from 1.
    pub fn from_nth(mut self, n: u64) -> Rule<A> {
        self.skip = n - 1;
        self
    }

    /// Only so many times.
    pub fn times(mut self, n: u64) -> Rule<A> {
        self.times = Some(n);
        self
    }

    /// Only on this share of them, 0 to 1; the seed of the rules decides which.
    pub fn chance(mut self, share: f64) -> Rule<A> {
        self.chance = (share * 1e6) as u64;
        self
    }

    fn matches(&self, request: &Request) -> bool {
        let is_path = match self.path.strip_suffix('*') {
            Some(start) => request.path.starts_with(start),
            None => request.path == self.path,
        };
        let has = |(name, value): &(String, String)| {
            request.query.iter().any(|(key, got)| key == name && (value == "*" || got == value))
        };
        is_path && self.query.iter().all(has)
    }
}

/// Rules in the order in which they are asked.
#[derive(Debug)]
pub struct Rules<A = Action> {
    seed: u64,
    rules: Mutex<Vec<Rule<A>>>,
}

impl<A> Default for Rules<A> {
    fn default() -> Rules<A> {
        Rules { seed: 0, rules: Mutex::default() }
    }
}

impl<A: Clone> Rules<A> {
    /// Rules whose chances are those of `seed`.
    pub fn seeded(seed: u64) -> Rules<A> {
        Rules { seed, ..Rules::default() }
    }

    /// Adds a rule behind those that are there.
    pub fn add(&self, rule: Rule<A>) {
        self.rules.lock().expect("no one panics while asking").push(rule);
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.rules.lock().expect("no one panics while asking").clear();
    }

    /// What happens to this request, and one fewer left of it. Every rule that the request matches
    /// counts it, up to the one that acts.
    pub fn take(&self, request: &Request) -> Option<A> {
        let mut rules = self.rules.lock().expect("no one panics while asking");
        for (number, rule) in rules.iter_mut().enumerate() {
            if !rule.matches(request) || rule.times == Some(0) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.n_drawn += 1;
            let draw = Chance::of(self.seed, topic("fault") + number as u64, rule.n_drawn).below(1_000_000);
            if draw >= rule.chance {
                continue;
            }
            rule.times = rule.times.map(|left| left - 1);
            return Some(rule.action.clone());
        }
        None
    }
}

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    pub request: Request,
    /// Since the script was made, on tokio's clock, which a test may have paused.
    pub at: Duration,
    /// The status that was answered; `None` while, and if, there is none.
    pub status: Option<u16>,
}

/// A transport with a script in front of it, and a log.
#[derive(Debug)]
pub struct Scripted {
    pub rules: Rules,
    inner: Arc<dyn Transport>,
    started: Instant,
    log: Mutex<Vec<Asked>>,
}

impl Scripted {
    pub fn new(inner: Arc<dyn Transport>) -> Scripted {
        Scripted { rules: Rules::default(), inner, started: Instant::now(), log: Mutex::default() }
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().expect("no one panics while noting").clone()
    }

    /// The requests to exactly this path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.log().into_iter().filter(|asked| asked.request.path == path).collect()
    }

    async fn answer(&self, request: &Request) -> Result<Response, TransportError> {
        match self.rules.take(request) {
            None => self.inner.get(request).await,
            Some(Action::Answer(response)) => Ok(response),
            Some(Action::Fail(error)) => Err(error),
            Some(Action::Hook(hook)) => {
                hook(request);
                self.inner.get(request).await
            }
            Some(Action::Rewrite(rewrite)) => Ok(rewrite(request, self.inner.get(request).await?)),
            Some(Action::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.inner.get(request).await
            }
        }
    }
}

impl Transport for Scripted {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            let number = {
                let mut log = self.log.lock().expect("no one panics while noting");
                log.push(Asked { request: request.clone(), at: self.started.elapsed(), status: None });
                log.len() - 1
            };
            let answer = self.answer(request).await;
            let status = answer.as_ref().ok().map(|response| response.status);
            self.log.lock().expect("no one panics while noting")[number].status = status;
            answer
        })
    }
}

/// A response of this status with this body and no headers but the content type.
pub fn answer(status: u16, body: impl Into<String>) -> Response {
    let headers = Headers { content_type: Some("application/json".to_owned()), ..Headers::default() };
    Response { status, headers, body: Bytes::from(body.into()) }
}

/// A response in the shape of Stripe's errors.
pub fn refusal(status: u16, code: &str, param: Option<&str>, message: &str) -> Response {
    let mut error = serde_json::json!({"code": code, "message": message, "type": "invalid_request_error"});
    if let Some(param) = param {
        error["param"] = param.into();
    }
    answer(status, serde_json::json!({ "error": error }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lets_some_requests_pass_and_then_acts_so_often() {
        let rules = Rules::default();
        rules.add(
            Rule::new("/v1/charges", Action::Fail(TransportError::Network("gone".to_owned())))
                .from_nth(2)
                .times(2),
        );
        let request = Request::new("/v1/charges");
        let acts: Vec<bool> = (0..5).map(|_| rules.take(&request).is_some()).collect();
        assert_eq!(acts, [false, true, true, false, false]);
        assert!(rules.take(&Request::new("/v1/charges/ch_1")).is_none());
    }

    #[test]
    fn a_chance_is_a_share_and_the_same_for_the_same_seed() {
        let drawn = |seed| {
            let rules = Rules::seeded(seed);
            rules.add(Rule::new("/v1/*", ()).chance(0.1));
            (0..1_000).map(|_| rules.take(&Request::new("/v1/x")).is_some()).collect::<Vec<_>>()
        };
        let n = drawn(3).iter().filter(|acts| **acts).count();
        assert!((60..150).contains(&n), "{n}");
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
    }

    #[test]
    fn a_rule_may_ask_for_parameters_and_for_a_beginning() {
        let rules = Rules::default();
        rules.add(
            Rule::new("/v1/*", Action::Answer(answer(500, "")))
                .with("starting_after", "*")
                .with("limit", "100"),
        );
        let request = Request::new("/v1/charges").with("limit", "100");
        assert!(rules.take(&request).is_none());
        assert!(rules.take(&request.with("starting_after", "ch_1")).is_some());
    }
}
