//! Subject tokens that a program prints (AIP-4117): permitted by a variable, and by the driver besides.
//!
//! ```text
//! Begin ─▶ Permission ─▶ OutputFile (if there is one) ─▶ Exec ─▶ done: the token
//!                               └───────────────────────────▲ (one that is still good)
//! ```

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::subject::{SubjectToken, SubjectTokenContext, SubjectTokenMachine, SubjectTokens};
use crate::google::file::{self, File};
use crate::machine::{Exited, Program};
use crate::shown::printable;
use crate::source::{Report, without_tokens};
use crate::{Cx, Effect, Error, Machine, Reply, Secret, Shown, Step, Timestamp, json, token_type};

const DOING: &str = "asking a program for the subject token";
/// Without this variable no program is run.
const ALLOW: &str = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES";
const TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUTS: std::ops::RangeInclusive<u64> = 5_000..=120_000;
/// The most characters of what a program says.
const MAX_SHOWN: usize = 300;

/// A program that prints subject tokens.
#[derive(Clone, Debug)]
pub(super) struct Executable {
    command: Vec<String>,
    timeout: Duration,
    output_file: Option<PathBuf>,
}

impl Executable {
    pub(super) fn parse(source: &File<'_>) -> Result<Self, Error> {
        let command = source.need("command")?;
        // Without its quotes it would not be known for what it is.
        if Shown::is_content(command) {
            return Err(source.wrong("command", "is the content of a file, and no command"));
        }
        let command = split(command).ok_or_else(|| source.wrong("command", "has a quote without its end"))?;
        if command.first().is_none_or(String::is_empty) {
            return Err(source.wrong("command", "names no program"));
        }
        let timeout = match source.get("timeout_millis") {
            None => TIMEOUT,
            Some(millis) => match millis.as_u64().filter(|millis| TIMEOUTS.contains(millis)) {
                Some(millis) => Duration::from_millis(millis),
                None => return Err(source.wrong("timeout_millis", "is no number from 5000 to 120000")),
            },
        };
        Ok(Self { command, timeout, output_file: source.text("output_file")?.map(PathBuf::from) })
    }

    fn program(&self, context: &SubjectTokenContext<'_>) -> Program {
        let mut words = self.command.iter();
        let mut program = Program::new(words.next().cloned().unwrap_or_default())
            .args(words)
            .timeout(self.timeout)
            .env("GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE", context.audience)
            .env("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", context.subject_token_type)
            .env("GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE", "0");
        if let Some(email) = context.impersonated {
            program = program.env("GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL", email);
        }
        if let Some(path) = &self.output_file {
            program = program.env("GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE", path);
        }
        program
    }
}

/// The words of a command line: blanks part them, quotes of either kind hold them together, and a backslash before a
/// blank or a quote makes that one a part of the word. Nothing else means anything: no shell reads it.
fn split(command: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, '\\') if quote != Some('\'') => {
                let escaped = chars.next_if(|next| match quote {
                    Some(open) => *next == open,
                    None => matches!(next, '"' | '\'' | ' '),
                });
                word.get_or_insert_default().push(escaped.unwrap_or('\\'));
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

impl SubjectTokens for Executable {
    fn subject_token(&self, context: &SubjectTokenContext<'_>) -> SubjectTokenMachine {
        let (program, output_file) = (self.program(context), self.output_file.clone());
        Box::new(Running { program, output_file, stage: Stage::Begin })
    }
}

struct Running {
    program: Program,
    output_file: Option<PathBuf>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Begin,
    Permission,
    OutputFile,
    Exec,
    Ended,
}

impl Machine for Running {
    type Output = SubjectToken;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<SubjectToken> {
        let now = cx.now().wall;
        let result = match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Begin, Reply::Start) => {
                self.stage = Stage::Permission;
                return Step::Do(Effect::Env(ALLOW));
            }
            (Stage::Permission, Reply::Env(Some(value))) if value == "1" => match self.output_file.clone() {
                Some(path) => {
                    self.stage = Stage::OutputFile;
                    return Step::Do(Effect::ReadFile { path, max: file::MAX });
                }
                None => return self.exec(),
            },
            (Stage::Permission, Reply::Env(_) | Reply::Refused) => {
                let name = Shown::path(self.program.path());
                Err(Error::config(format!("no program is run unless {ALLOW} is 1; the file names {name}")))
            }
            (Stage::OutputFile, Reply::File(content)) => {
                let content = zeroize::Zeroizing::new(content);
                match self.kept(&content, now) {
                    Some(token) => Ok(token),
                    None => return self.exec(),
                }
            }
            (Stage::OutputFile, Reply::Missing | Reply::Failed(_) | Reply::Refused) => return self.exec(),
            (Stage::Exec, Reply::Exec(exited)) => self.printed(&exited, now),
            (Stage::Exec, Reply::Failed(failure)) => Err(Report(&self.program).failed(&failure)),
            (Stage::Exec, Reply::Refused) => Err(Error::refused("Exec")),
            _ => return Step::Done(Err(Error::misuse("a program's subject token"))),
        };
        Step::Done(result.map_err(|error| error.during(DOING, None)))
    }
}

impl Running {
    fn exec(&mut self) -> Step<SubjectToken> {
        self.stage = Stage::Exec;
        Step::Do(Effect::Exec(self.program.clone()))
    }

    fn wrong(&self, what: &str) -> Error {
        Report(&self.program).error(what)
    }

    /// The token that the program left behind for others, if it is one that is still good.
    fn kept(&self, content: &[u8], now: Timestamp) -> Option<SubjectToken> {
        match read(content) {
            Ok(Printed::Token { token, end: Some(end) }) if end > now => Some(SubjectToken::new(token)),
            _ => None,
        }
    }

    fn printed(&self, exited: &Exited, now: Timestamp) -> Result<SubjectToken, Error> {
        Report(&self.program).check(exited)?;
        match read(exited.stdout()).map_err(|why| self.wrong(&format!("printed {why}")))? {
            Printed::Refused { code, message } => {
                let told = format!("{}: {}", printable(&code, 100), printable(&message, MAX_SHOWN));
                Err(self.wrong(&format!("says that it has no token: {}", without_tokens(&told))))
            }
            Printed::Token { end: Some(end), .. } if end <= now => Err(self.wrong("printed a token that has expired")),
            Printed::Token { end: None, .. } if self.output_file.is_some() => {
                Err(self.wrong("printed no expiration_time, which is needed since there is an output_file"))
            }
            Printed::Token { token, .. } => Ok(SubjectToken::new(token)),
        }
    }
}

/// What a program prints, by the first version of what Google's libraries read.
enum Printed {
    Token { token: Secret, end: Option<Timestamp> },
    Refused { code: String, message: String },
}

fn read(content: &[u8]) -> Result<Printed, &'static str> {
    let mut members = json::object(content.trim_ascii()).map_err(|_| "what is no JSON object, logs perhaps")?.members;
    let text = |name: &str| members.get(name).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
    let read = || {
        match members.get("version").and_then(|version| version.as_u64()) {
            Some(1) => {}
            Some(_) => return Err("a version of its answer that this library does not know"),
            None => return Err("an answer without its version"),
        }
        match members.get("success").and_then(|success| success.as_bool()) {
            Some(true) => {}
            Some(false) => {
                // One of them tells something.
                let (code, message) = (text("code"), text("message"));
                if code.or(message).is_none() {
                    return Err("a failure without code and message");
                }
                let (code, message) = (code.unwrap_or("no code"), message.unwrap_or("no message"));
                return Ok(Printed::Refused { code: code.to_owned(), message: message.to_owned() });
            }
            None => return Err("an answer that does not say whether it is a success"),
        }
        let member = match text("token_type") {
            Some(token_type::JWT | token_type::ID_TOKEN | token_type::ACCESS_TOKEN) => "id_token",
            Some(token_type::SAML2) => "saml_response",
            Some(_) => return Err("a token of a type that is not known"),
            None => return Err("a token without its token_type"),
        };
        let token = text(member).ok_or("an answer without id_token, or saml_response, as its token_type demands")?;
        let is_empty = |value: &Value| value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        let end = match members.get("expiration_time").filter(|value| !is_empty(value)) {
            None => None,
            Some(end) => {
                let number = end.as_f64().or_else(|| end.as_str()?.trim().parse().ok());
                let seconds = number.filter(|seconds| seconds.abs() < 1e15).map(|seconds| seconds as i64);
                Some(Timestamp::from_unix(seconds.ok_or("an expiration_time that is no number of seconds")?))
            }
        };
        Ok(Printed::Token { token: token.into(), end })
    };
    let printed = read();
    members.values_mut().for_each(crate::secret::wipe_json);
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_parted_at_blanks_outside_of_quotes() {
        for (command, words) in [
            ("/opt/bin/get-token --arg v", &["/opt/bin/get-token", "--arg", "v"][..]),
            (r#""C:\Program Files\x.exe" --a "b c""#, &[r"C:\Program Files\x.exe", "--a", "b c"]),
            (r"\\server\share\x.exe", &[r"\\server\share\x.exe"]),
            (r"/opt/my\ token '--a b' c''d", &["/opt/my token", "--a b", "cd"]),
            (r#"x "say \"a\"" ''"#, &["x", r#"say "a""#, ""]),
            ("x $(rm) `y` | z", &["x", "$(rm)", "`y`", "|", "z"]),
            ("  ", &[]),
        ] {
            assert_eq!(
                split(command).as_deref(),
                Some(words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>().as_slice()),
                "{command}"
            );
        }
        assert_eq!(split("x 'y"), None);
    }
}
