//! `stripelake demo`: a fake account on loopback into a lake, and a first query to paste.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use stripelake::catalog::Catalog;
use stripelake::commit::Lake;
use stripelake::encode;
use stripelake::error::{Error, Kind, Result};
use stripelake::fake;
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::http::Http;
use stripelake::fetch::limit::Rate;
use stripelake::run::owner::read_lake;
use stripelake::run::sync::{Options, sync};
use stripelake::run::{Setup, location};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::cli::{Demo, Global};
use crate::progress::receiver;
use crate::{fake_stripe, limits, output, setup, signals};

/// The demo's present: the same account every day, so that a second demo changes nothing.
const NOW: i64 = 1_795_392_000;

pub fn run(global: &Global, flags: Demo) -> Result<Option<Kind>> {
    let Demo { dir, account, progress } = flags;
    let catalog = Arc::new(Catalog::embedded()?);
    let resources: Vec<_> = catalog.listed().cloned().collect();
    // Demo and account share their present, so the clocks agree on any day.
    let started_at = Timestamp::from_second(NOW).expect("a constant time");
    let location = dir.display().to_string();
    let lake = Lake::open(&location, &[])?;
    location::check(&lake, &catalog)?;
    let setup = Setup {
        lake: Arc::new(lake),
        owner: None,
        run_id: setup::run_id(Timestamp::now()),
        started_at,
        encode: encode::Options::default(),
        memory: 64 << 20,
        temporary: std::env::temp_dir(),
        grains: Default::default(),
        wait_lock: Duration::ZERO,
        on_event: receiver(progress, false, global),
        catalog: catalog.clone(),
    };
    let report = setup::block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(|e| limits::failed("loopback", e))?;
        let address = listener.local_addr().map_err(|e| Error::bug(e.to_string()))?;
        let spec = fake_stripe::spec(&account, false, NOW);
        let account = Arc::new(fake::Account::new(spec));
        setup.lake.check_writable().await.map_err(|e| e.lake("untouched"))?;
        check_lake(&setup.lake, &account.id()).await?;
        if !global.quiet {
            output::show(&format!(
                "Fake Stripe account \"{}\" on {address} (seed {}) -> {location}\n",
                account.id(),
                account.spec.seed
            ));
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let server = tokio::spawn(fake::serve(listener, account, shutdown));
        let key = SecretString::from(fake_stripe::key(false));
        let http = Http::new(&format!("http://{address}"), &key, &catalog.stripe_version)?;
        let options = Options {
            resources,
            livemode: false,
            since: None,
            until: None,
            rate: Rate::Unlimited,
            budgets: Budgets::default(),
            starts_over: false,
            stripe_version: catalog.stripe_version.clone(),
            concurrency: 8,
            jitter_seed: 0,
            interrupted: signals::interruption(Some(signals::KEEPING))?,
        };
        let report = sync(&setup, options, Arc::new(http)).await;
        let _ = stop.send(());
        server.abort();
        report
    })?;
    let kind = output::report(&report, false, global.quiet);
    if kind.is_none() && !global.quiet {
        output::show(&next_steps(&location));
    }
    Ok(kind)
}

/// A lake whose account is not known yet would take the demo's for its own.
async fn check_lake(lake: &Lake, account: &str) -> Result<()> {
    let Some((info, _)) = read_lake(lake).await? else { return Ok(()) };
    if info.account.as_deref() == Some(account) {
        return Ok(());
    }
    let whose = info.account.as_deref().unwrap_or("an account that is not known");
    Err(Error::new(
        Kind::Auth,
        format!("the lake {} holds objects of {whose}, and this demo is {account}", lake.location()),
    )
    .lake("unchanged")
    .hint("name another folder: stripelake demo FOLDER"))
}

fn next_steps(location: &str) -> String {
    let views = for_shell(&format!("{location}/_stripelake/views.sql"));
    format!(
        "Try:
  duckdb -init {views}
  select payment_method_details_type as method, currency, count(*) as charges
    from charges where status = 'succeeded'
    group by all order by charges desc;      -- how do customers pay?
"
    )
}

/// As one word of a shell.
fn for_shell(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,".contains(c);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(for_shell("./demo-lake/views.sql"), "./demo-lake/views.sql");
        assert_eq!(for_shell("my lake"), "'my lake'");
        assert_eq!(for_shell("it's $HOME"), r"'it'\''s $HOME'");
    }
}
