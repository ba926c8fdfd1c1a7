//! Prints a token that another program prints, such as gcloud's:
//!
//! ```sh
//! cargo run -p grantflow-ureq --example program_token -- gcloud auth print-access-token
//! ```

use grantflow_ureq::grantflow::machine::Program;
use grantflow_ureq::grantflow::source::{ProgramToken, Want};
use grantflow_ureq::{TokenManager, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let program = Program::new(args.next().unwrap_or_else(|| "gcloud".into()));
    // Only what this program itself names is run: a program may do whatever this one may.
    let transport = Transport::builder().allow_programs().build()?;
    let source = ProgramToken::new(program.args(args));
    let tokens = TokenManager::new(&transport, source, Want::default());
    let token = tokens.token()?;
    println!("a token of {} characters, until {:?}", token.access_token().len(), token.expires_at());
    Ok(())
}
