//! Turns arguments and `STRIPELAKE_*` into one typed command.

use std::path::PathBuf;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use stripelake::config::Settings;
#[cfg(feature = "fake")]
use stripelake::fake::Density;

/// Keeps a Parquet lake equal to a Stripe account.
#[derive(Debug, Parser)]
#[command(name = "stripelake", version, about, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Those of this process. What is wrong about them is shown, and ends it; so do `--help` and `--version`.
    pub fn of_process() -> Cli {
        let mut command = with_negative_numbers(without_empty_variables(Cli::command()));
        let matches = command.try_get_matches_from_mut(std::env::args_os());
        let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
        cli.unwrap_or_else(|error| named_as_given(error).format(&mut command).exit())
    }
}

/// The command that explains the one of this process.
pub fn help_of_process() -> String {
    let command = Cli::command();
    let mut names = std::env::args().skip(1).filter(|arg| command.find_subcommand(arg).is_some());
    names.next().map_or("stripelake --help".to_owned(), |name| format!("stripelake {name} --help"))
}

/// What a value is called where it was set: by its flag, or by the variable in its place.
pub fn given(flag: &str) -> String {
    let is_it = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy();
        arg == flag || arg.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    };
    let name = format!("STRIPELAKE_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
    let is_set = std::env::var_os(&name).is_some_and(|value| !value.is_empty());
    match !is_set || std::env::args_os().any(is_it) {
        true => flag.to_owned(),
        false => name,
    }
}

fn named_as_given(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return error };
    let Some((flag, _)) = arg.split_once(' ').or(Some((arg, ""))).filter(|(flag, _)| flag.starts_with("--"))
    else {
        return error;
    };
    // A flag that may be given several times has dots behind it.
    let flag = flag.trim_end_matches('.');
    let name = given(flag);
    if name != flag {
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
    }
    error
}

/// An empty variable counts as none: where variables are made from a template, that is how one is left out.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::<OsStr>::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Variables that are no setting, but nearly: what whoever has set them wanted would not happen.
pub fn mistyped_variables() -> Vec<String> {
    let mut known = variables_of(&Cli::command());
    known.push("STRIPE_API_KEY".to_owned());
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mistyped =
        set.filter(|name| name.starts_with("STRIPE") && !known.contains(name)).filter_map(|name| {
            let nearest = known.iter().min_by_key(|known| strsim::osa_distance(&name, known))?;
            let is_near = strsim::osa_distance(&name, nearest) <= MOST_TYPOS;
            is_near.then(|| format!("{name} is no setting; did you mean {nearest}?"))
        });
    mistyped.collect()
}

/// With more, it is another word: Kubernetes sets STRIPELAKE_SERVICE_HOST where a service is called so.
const MOST_TYPOS: usize = 1;

fn variables_of(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()));
    own.chain(command.get_subcommands().flat_map(variables_of)).collect()
}

/// What is negative is refused as a value of its flag, and not as a flag that nobody knows.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let has_value = |arg: &clap::Arg| !arg.is_positional() && arg.get_action().takes_values();
    command
        .mut_args(|arg| if has_value(&arg) { arg.allow_negative_numbers(true) } else { arg })
        .mut_subcommands(with_negative_numbers)
}

const EXIT_CODES: &str = "Exit codes: 0 complete, 1 bug, 2 usage or config, 3 partial (the rest is committed), 4 auth, \
5 Stripe or network, 6 destination, 7 schema contract, 8 integrity, 9 a budget was reached, 11 locked, \
129/130/143 signals. Any other code is a failure too.";

#[derive(Debug, Args)]
pub struct Global {
    /// Read settings from this file instead of ./stripelake.toml
    #[arg(short = 'C', long, value_name = "FILE", global = true, env = "STRIPELAKE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Use [profile.NAME] of the settings file
    #[arg(long, value_name = "NAME", global = true, env = "STRIPELAKE_PROFILE")]
    pub profile: Option<String>,
    /// Talk to this server: https, or http on a loopback address
    #[arg(long, value_name = "URL", global = true, env = "STRIPELAKE_API_BASE", hide_env_values = true)]
    pub api_base: Option<String>,
    /// Read the API key from this file instead of STRIPE_API_KEY
    #[arg(long, value_name = "PATH", global = true, env = "STRIPELAKE_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Print no progress and no table of results, only warnings and errors
    #[arg(short, long, global = true, env = "STRIPELAKE_QUIET", value_parser = clap::builder::BoolishValueParser::new())]
    pub quiet: bool,
    /// Also show retries and every file written, where progress is shown; the variable holds a number
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "STRIPELAKE_VERBOSE")]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fill a lake from a fake account on this machine; needs no Stripe account
    #[cfg(feature = "fake")]
    Demo(Demo),
    /// Bring the lake up to date with the account
    Sync(Sync),
    /// Read list pages or objects from disk into the lake
    Import(Import),
    /// List the resources, their tables and the permissions they need
    Resources(Resources),
    /// Show the columns of a table
    Schema(Schema),
    /// Print DuckDB views over the lake
    Sql(Sql),
    /// Serve a fake Stripe account on a loopback address, for tests
    #[cfg(feature = "fake")]
    FakeStripe(FakeStripe),
    /// Write the columns of a resource file from an OpenAPI document
    #[command(hide = true)]
    Catalog(Catalog),
}

/// Flags of every command that writes a lake.
#[derive(Debug, Args)]
pub struct Writing {
    #[command(flatten)]
    pub lake: LakeFlag,
    /// How long to wait for another run to end, like 10m [default: not at all]
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_WAIT_LOCK")]
    pub wait_lock: Option<String>,
    /// zstd level of the Parquet files, 1 to 22
    #[arg(long, value_name = "LEVEL", default_value_t = 1, env = "STRIPELAKE_ZSTD_LEVEL", value_parser = clap::value_parser!(i32).range(1..=22))]
    pub zstd_level: i32,
    /// Megabytes of rows to gather in memory, 8 at least; the rest waits in TMPDIR
    #[arg(long, value_name = "MB", default_value_t = 64, env = "STRIPELAKE_MEMORY", value_parser = megabytes)]
    pub memory: u32,
    /// Print events as NDJSON on stdout instead of a table
    #[arg(long, env = "STRIPELAKE_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub json: bool,
    /// How to show progress on stderr
    #[arg(long, value_name = "HOW", default_value = "auto", env = "STRIPELAKE_PROGRESS")]
    pub progress: Progress,
}

fn megabytes(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number >= LEAST_MEMORY);
    number.ok_or_else(|| format!("expected a whole number of megabytes, {LEAST_MEMORY} at least, like 64"))
}

const LEAST_MEMORY: u32 = 8;

#[derive(Debug, Args)]
pub struct LakeFlag {
    /// A folder, or s3://bucket/prefix with AWS_* [default: ./lake]
    #[arg(long, value_name = "URL", env = "STRIPELAKE_LAKE")]
    pub lake: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Bars on a terminal, plain lines otherwise
    Auto,
    Bars,
    Plain,
    None,
}

#[derive(Debug, Args)]
pub struct Sync {
    /// Only these resources [default: all]
    #[arg(value_name = "RESOURCE", value_delimiter = ',')]
    pub resources: Vec<String>,
    /// Leave these out
    #[arg(long, value_name = "RESOURCE", value_delimiter = ',', env = "STRIPELAKE_EXCLUDE")]
    pub exclude: Vec<String>,
    /// List everything, also what a run that ended early has read
    #[arg(long, env = "STRIPELAKE_FULL", value_parser = clap::builder::BoolishValueParser::new())]
    pub full: bool,
    /// Write nothing: check the permissions, and estimate requests, time and bytes from a few pages
    #[arg(long, env = "STRIPELAKE_DRY_RUN", value_parser = clap::builder::BoolishValueParser::new())]
    pub dry_run: bool,
    /// Only objects created at or after this time (2026-11-23, 2026-11-23T02:00:00Z, unix seconds)
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_SINCE")]
    pub since: Option<String>,
    /// Only objects created before this time
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_UNTIL")]
    pub until: Option<String>,
    /// Share of Stripe's documented limits (80%), requests per second, or unlimited [default: 80%]
    #[arg(long, value_name = "RATE", env = "STRIPELAKE_RATE")]
    pub rate: Option<String>,
    /// Parts of lists to read at once, 1 to 1000 [default: 16]
    #[arg(long, value_name = "N", env = "STRIPELAKE_CONCURRENCY")]
    pub concurrency: Option<usize>,
    /// End cleanly after this many requests, exit 9; the next run continues
    #[arg(long, value_name = "N", env = "STRIPELAKE_MAX_REQUESTS")]
    pub max_requests: Option<u64>,
    /// End cleanly after this time and the answers that are on their way then, like 90s, 10m or 1h, exit 9; the next run continues
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_MAX_DURATION")]
    pub max_duration: Option<String>,
    /// Give a request up after this time, and a silent connection after three eighths of it [default: 80s]
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_TIMEOUT")]
    pub timeout: Option<String>,
    /// Also trust the certificates in this PEM file, such as a proxy's
    #[arg(long, value_name = "FILE", env = "STRIPELAKE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub writing: Writing,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The resource that the files hold
    pub resource: String,
    /// Files of list pages or objects: NDJSON or a JSON array, plain or gzip; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// When the objects were read from Stripe [default: when each file was last changed; now for a pipe]
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_OBSERVED_AT")]
    pub observed_at: Option<String>,
    #[command(flatten)]
    pub writing: Writing,
}

#[derive(Debug, Args)]
pub struct Resources {
    /// As JSON
    #[arg(long, env = "STRIPELAKE_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Schema {
    /// The table [default: all]
    pub resource: Option<String>,
    /// As JSON, with the path of every column
    #[arg(long, env = "STRIPELAKE_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Sql {
    #[command(flatten)]
    pub lake: LakeFlag,
}

#[cfg(feature = "fake")]
#[derive(Debug, Args)]
pub struct Account {
    /// Charges of the account; other objects follow from them
    #[arg(long, value_name = "N", default_value_t = 12_400, env = "STRIPELAKE_CHARGES")]
    pub charges: u64,
    /// The same seed makes the same objects, dated back from the present; the demo's is 2026-11-23
    #[arg(long, value_name = "N", default_value_t = 7, env = "STRIPELAKE_SEED")]
    pub seed: u64,
}

#[cfg(feature = "fake")]
#[derive(Debug, Args)]
pub struct Demo {
    /// Where to put the lake
    #[arg(default_value = "./demo-lake")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub account: Account,
    /// How to show progress on stderr
    #[arg(long, value_name = "HOW", default_value = "auto", env = "STRIPELAKE_PROGRESS")]
    pub progress: Progress,
}

#[cfg(feature = "fake")]
#[derive(Debug, Args)]
#[command(after_help = "--faults FILE: see --help", after_long_help = stripelake::fake::FAULTS_HELP)]
pub struct FakeStripe {
    #[command(flatten)]
    pub account: Account,
    /// The account's present at the start, like 2026-11-23; with the same --seed it is the same account [default: this machine's]
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_NOW")]
    pub now: Option<String>,
    /// Loopback port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0, env = "STRIPELAKE_PORT")]
    pub port: u16,
    /// An account of live mode
    #[arg(long, env = "STRIPELAKE_LIVEMODE", value_parser = clap::builder::BoolishValueParser::new())]
    pub livemode: bool,
    /// Accept only this key, named by a file that holds it
    #[arg(long, value_name = "PATH", env = "STRIPELAKE_ACCEPT_KEY_FILE")]
    pub accept_key_file: Option<PathBuf>,
    /// Answer 403 for these resources
    #[arg(long, value_name = "RESOURCE", value_delimiter = ',', env = "STRIPELAKE_DENY")]
    pub deny: Vec<String>,
    /// Spread the objects in time: growing, even, month (80 % in one) or bursts (thousands in a second)
    #[arg(long, value_name = "HOW", default_value = "growing", env = "STRIPELAKE_DENSITY")]
    pub density: Density,
    /// Answer this much later, like 150ms
    #[arg(long, value_name = "TIME", env = "STRIPELAKE_LATENCY")]
    pub latency: Option<String>,
    /// Answer 429 above so many requests per second of an endpoint and of the account, like 25/100
    #[arg(long, value_name = "N/N", env = "STRIPELAKE_RATE_LIMIT")]
    pub rate_limit: Option<String>,
    /// Misbehave as this TOML file says; see below
    #[arg(long, value_name = "FILE", env = "STRIPELAKE_FAULTS")]
    pub faults: Option<PathBuf>,
    /// Print url, key and account as one line of JSON
    #[arg(long, env = "STRIPELAKE_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub json: bool,
    /// End when stdin is closed, so that the server never outlives its parent
    #[arg(long, env = "STRIPELAKE_UNTIL_STDIN_CLOSES", value_parser = clap::builder::BoolishValueParser::new())]
    pub until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub struct Catalog {
    /// An OpenAPI document of Stripe's (spec3.json)
    #[arg(long, value_name = "FILE")]
    pub spec: PathBuf,
    /// The table's name
    pub resource: String,
    /// The resource file to keep the facts of [default: data/resources/RESOURCE.toml]
    #[arg(long, value_name = "FILE")]
    pub existing: Option<PathBuf>,
}

impl Command {
    /// The name of the last line on stdout, where those are events.
    pub fn closing_event(&self) -> Option<&'static str> {
        match self {
            Command::Sync(Sync { writing, dry_run: true, .. }) if writing.json => Some("estimate_end"),
            Command::Sync(Sync { writing, .. }) | Command::Import(Import { writing, .. }) if writing.json => {
                Some("end")
            }
            _ => None,
        }
    }
}

impl Global {
    /// Flags and environment over profile and file.
    pub fn settings(&self, over: Settings) -> stripelake::error::Result<Settings> {
        let below = Settings::read(self.config.as_deref(), self.profile.as_deref())?;
        let flags = Settings { api_base: self.api_base.clone(), ..over };
        Ok(flags.over(below))
    }
}
