//! `portcullis explain`.

use std::net::IpAddr;
use std::process::ExitCode;

use super::source::Source;
use super::{Failure, output};
use crate::admin::explain::{Explanation, Question, explain};

/// Options of `portcullis explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The request's URL
    url: String,
    /// The request's method
    #[arg(long, short = 'X', value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A header of the request; `Host` takes the place of the URL's host
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The client's address, which `client_ip` goes by
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// Explains the request by files or a running proxy.
pub fn run(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let question = Question::new(&args.url, &args.method, &args.headers).map_err(Failure::usage)?;
    let question = question.from(args.from);
    let explanation = match args.source.snapshot() {
        None => {
            let admin = args.source.running.admin();
            admin.get_json::<Explanation>(&query(args)).map_err(Failure::runtime)?
        }
        Some(snapshot) => explain(&snapshot?, &question),
    };
    match args.json {
        true => output::print_json(&explanation)?,
        false => output::print(&explanation.to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn query(args: &ExplainArgs) -> String {
    let mut query = form_urlencoded::Serializer::new("/api/explain?".to_owned());
    query.append_pair("url", &args.url).append_pair("method", &args.method);
    if let Some(from) = args.from {
        query.append_pair("from", &from.to_string());
    }
    query.extend_pairs(args.headers.iter().map(|header| ("header", header)));
    query.finish()
}
