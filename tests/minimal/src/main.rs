//! One token of a service account: `minimal KEY_FILE SCOPE`. It follows whatever server the file names.

use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::Error;
use grantflow_ureq::grantflow::google::ServiceAccount;
use grantflow_ureq::grantflow::source::{TokenSource as _, Want};

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, scope] = &args[..] else { panic!("usage: minimal KEY_FILE SCOPE") };
    let transport = Transport::new()?;
    let account = transport.run(ServiceAccount::read(file).with_any_server())?;
    let minted = transport.run(account.mint(&Want::access_token(scope.as_str()), &account.first_state()))?;
    println!("{} bytes", minted.access_token().len());
    Ok(())
}
