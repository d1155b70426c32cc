//! Turns the settings and the environment into the key, wherever the user keeps it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use secrecy::SecretString;

use crate::config::Settings;
use crate::error::{Error, MORE_THREADS, Result};

/// The key and the mode that it is of.
#[derive(Debug)]
pub struct Key {
    pub secret: SecretString,
    pub livemode: bool,
    /// Whether it may do everything in an account with real money.
    pub is_all_powerful: bool,
}

/// The environment variables that can supply a key.
#[derive(Debug, Default)]
pub struct KeyEnvironment {
    pub stripe_api_key: Option<String>,
    /// systemd's `$CREDENTIALS_DIRECTORY`, where `LoadCredential=stripe_key:...` puts the key.
    pub credentials_directory: Option<PathBuf>,
}

/// Finds the key: `--api-key-file`, `STRIPE_API_KEY`, then the file's `api_key_file` and
/// `key_command`, then a systemd credential.
///
/// `flag` is the flag's file. Fails with [`crate::error::Kind::Usage`] and never shows the key.
pub fn find_key(flag: Option<&Path>, environment: &KeyEnvironment, settings: &Settings) -> Result<Key> {
    let credential = environment.credentials_directory.as_ref().map(|dir| dir.join("stripe_key"));
    let in_environment = environment.stripe_api_key.as_deref().map(alone).filter(|key| !key.is_empty());
    let (text, source) = if let Some(path) = flag {
        (read_key_file(path)?, path.display().to_string())
    } else if let Some(key) = in_environment {
        (key, "STRIPE_API_KEY".to_owned())
    } else if let Some(path) = &settings.api_key_file {
        (read_key_file(path)?, path.display().to_string())
    } else if let Some(command) = &settings.key_command {
        (run_key_command(command, LONGEST_KEY_COMMAND)?, "key_command".to_owned())
    } else if let Some(path) = credential.filter(|path| path.exists()) {
        (read_key_file(&path)?, "systemd credential stripe_key".to_owned())
    } else {
        return Err(Error::usage("expected a Stripe API key, found none")
            .hint("export STRIPE_API_KEY=rk_..., or pass --api-key-file PATH, or set key_command in stripelake.toml"));
    };
    let livemode = check_key(&text).map_err(|e| e.context(source))?;
    let is_all_powerful = text.starts_with("sk_live_");
    Ok(Key { secret: SecretString::from(text), livemode, is_all_powerful })
}

/// The key in a text: a secret that was made with `echo` ends with a line break, and some editors begin a file with a mark.
fn alone(text: &str) -> String {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii().to_owned()
}

/// Whether the key is of live mode. Refuses everything that cannot be a secret or restricted key.
fn check_key(key: &str) -> Result<bool> {
    let refuse = |what: &str, hint: &str| Err(Error::usage(what).hint(hint));
    if key.trim().is_empty() {
        return refuse(
            "expected a key, got an empty one",
            "set it to a restricted key, rk_live_... or rk_test_...",
        );
    }
    if key.starts_with(['"', '\'']) || key.ends_with(['"', '\'']) {
        return refuse("expected a key, got one in quotes", "leave the quotes out");
    }
    if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("expected a key, got one with white space", "remove blanks and line breaks");
    }
    if key.starts_with("pk_") {
        return refuse(
            "expected a secret or restricted key, got a publishable key (pk_)",
            "make a restricted key (rk_) with read permissions in the dashboard",
        );
    }
    for (prefix, livemode) in
        [("sk_live_", true), ("rk_live_", true), ("sk_test_", false), ("rk_test_", false)]
    {
        if key.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.is_ascii()) {
            return Ok(livemode);
        }
    }
    refuse(
        "expected a key that starts with rk_live_, rk_test_, sk_live_ or sk_test_, got another form",
        "copy the whole key from the dashboard",
    )
}

const KEY_FILE: &str =
    "write the key alone into a file that only you can read (chmod 600), and name that file";

fn read_key_file(path: &Path) -> Result<String> {
    let failed = |what: String| Error::usage(format!("key file {}: {what}", path.display())).hint(KEY_FILE);
    let mut text = String::new();
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    file.take(MOST_SAID + 1).read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    if text.len() as u64 > MOST_SAID {
        return Err(failed(format!("expected a key, got more than {} KiB", MOST_SAID >> 10)));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What is read from a pipe, as of a shell's <(...), is gone from it.
        let about = std::fs::metadata(path).ok().filter(|about| about.is_file());
        if about.is_some_and(|about| about.permissions().mode() & 0o007 != 0) {
            return Err(Error::usage(format!(
                "key file {}: everyone on this machine can read it",
                path.display()
            ))
            .hint(format!(
                "chmod 600 {}; where it is a mounted secret, mount it so (Kubernetes: defaultMode: 0400)",
                path.display()
            )));
        }
    }
    Ok(alone(&text))
}

const KEY_COMMAND: &str =
    "run it by hand: it must print the key alone and end with 0; key_command = [\"program\", \"argument\"]";

/// A vault that asks a person first needs some time; one that never answers must not hold a scheduled run for ever.
const LONGEST_KEY_COMMAND: Duration = Duration::from_secs(60);
const MOST_SAID: u64 = 64 << 10;
/// How often a key command is looked at, which has no notice of its end that could be waited for with a limit.
const POLL: Duration = Duration::from_millis(10);

fn run_key_command(command: &[String], limit: Duration) -> Result<String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::usage("key_command: expected a program, got an empty list").hint(KEY_COMMAND));
    };
    let failed = |what: String| Error::usage(format!("key_command {program}: {what}")).hint(KEY_COMMAND);
    let io_failed = |e: std::io::Error| match e.kind() {
        ErrorKind::WouldBlock => {
            Error::destination(format!("key_command {program}: {e}")).hint(MORE_THREADS).lake("untouched")
        }
        _ => failed(e.to_string()),
    };
    let late = || failed(format!("expected an end within {} s, got none", limit.as_secs_f64()));
    let deadline = Instant::now() + limit;
    let time_left = || deadline.saturating_duration_since(Instant::now());

    let mut command = Command::new(program);
    command.args(arguments).env_remove("STRIPE_API_KEY").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io_failed)?;
    let stdout = read_aside(child.stdout.take().expect("stdout is a pipe")).map_err(io_failed)?;
    let stderr = read_aside(child.stderr.take().expect("stderr is a pipe")).map_err(io_failed)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io_failed)? {
            break status;
        }
        if time_left().is_zero() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(late());
        }
        std::thread::sleep(POLL);
    };
    // What the command has started may hold the pipes for longer than the command is there.
    let said = stdout.recv_timeout(time_left()).map_err(|_| late())?;
    if said.len() as u64 > MOST_SAID {
        return Err(failed(format!("expected a key, got more than {} KiB", MOST_SAID >> 10)));
    }
    if !status.success() {
        let complaint = stderr.recv_timeout(time_left()).unwrap_or_default();
        let complaint = crate::redact::shown(String::from_utf8_lossy(&complaint).trim(), 200);
        return Err(failed(match complaint.is_empty() {
            true => status.to_string(),
            false => format!("{status}: {complaint}"),
        }));
    }
    let text = String::from_utf8(said).map_err(|_| failed("expected text".to_owned()))?;
    Ok(alone(&text))
}

/// Reads to the end, or a byte more than is taken, and then closes the pipe, which ends who prints without end.
fn read_aside(pipe: impl Read + Send + 'static) -> std::io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        // What came before a failed read is judged like any other answer.
        let _ = pipe.take(MOST_SAID + 1).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    })?;
    Ok(receiver)
}

/// Refuses arguments that hold a key: other users can read them in `ps`.
pub fn refuse_keys_in_arguments<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<()> {
    for argument in arguments {
        if crate::redact::without_keys(argument) != argument {
            return Err(Error::usage(
                "API keys are not accepted on the command line: other users can read them in `ps`, and they stay in your shell history",
            )
            .hint("STRIPE_API_KEY=...  |  --api-key-file PATH  |  key_command in stripelake.toml"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_only_secret_and_restricted_keys_pass() {
        assert!(check_key("rk_live_abcdefgh").unwrap());
        assert!(!check_key("sk_test_abcdefgh").unwrap());
        for key in [
            "",
            " ",
            "rk_test_ü",
            "\"rk_test_a\"",
            "'rk_test_a'",
            "rk_test_a\n",
            "pk_test_abcdefgh",
            "rk_test_",
            "hello",
        ] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_key_among_the_arguments_is_refused_and_not_repeated() {
        let error = refuse_keys_in_arguments(["sync", "--x=sk_live_abcdefghijkl"].into_iter()).unwrap_err();
        assert!(!error.to_string().contains("abcdefgh"));
        assert!(refuse_keys_in_arguments(["sync", "task_list", "sk_live_"].into_iter()).is_ok());
    }

    #[test]
    fn a_key_command_that_fails_is_quoted_without_the_key() {
        let script = "echo 'no vault, last was rk_live_abcdefghijkl' >&2; exit 3";
        let command = ["sh", "-c", script].map(str::to_owned);
        let error = run_key_command(&command, LONGEST_KEY_COMMAND).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no vault") && text.contains('3') && !text.contains("abcdefgh"), "{text}");
        assert!(error.hint_text().is_some());
    }

    #[test]
    fn a_key_command_that_does_not_end_is_ended() {
        // The second one leaves somebody behind who holds the pipe.
        for script in ["exec sleep 30", "sleep 30 & echo rk_test_a"] {
            let started = Instant::now();
            let error = run_key_command(&["sh", "-c", script].map(str::to_owned), Duration::from_millis(300))
                .unwrap_err();
            assert!(error.to_string().contains("within 0.3 s"), "{error}");
            assert!(started.elapsed() < Duration::from_secs(20), "{script}");
        }
    }

    #[test]
    fn a_key_command_may_say_64_kib_and_no_more() {
        let run = |script: String| {
            run_key_command(&["sh".to_owned(), "-c".to_owned(), script], LONGEST_KEY_COMMAND)
        };
        assert_eq!(run(format!("printf %0{MOST_SAID}d 0")).unwrap().len() as u64, MOST_SAID);
        let error = run("yes".to_owned()).unwrap_err();
        assert!(error.to_string().contains("more than 64 KiB"), "{error}");
    }
}
