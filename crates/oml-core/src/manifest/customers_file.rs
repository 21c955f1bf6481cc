//! Who may ask an issuer for permissions.
//!
//! ```text
//! {"format":"oml-customers","version":1,
//!  "customers":[{"name":text,"key_hash":SHA-256 of the key, hex,"licensee":"0x…","calls_per_day":n?,"credit":decimal text?},…]}
//! ```

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::word::Account;
use super::{FileError, Kind};
use crate::permission::{Customer, MAX_CUSTOMERS};

/// Most bytes of a file.
pub const MAX_BYTES: usize = 8 << 20;
const MAX_NAME: usize = 128;
const KIND: Kind = Kind {
    format: "oml-customers",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomersFile {
    format: Text<64>,
    version: u32,
    customers: List<CustomerFile, MAX_CUSTOMERS>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomerFile {
    name: Text<MAX_NAME>,
    key_hash: Hex<32>,
    licensee: Account,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls_per_day: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credit: Option<Text<40>>,
}

/// The bytes of a file.
///
/// # Errors
/// When it would be too large to be read.
pub fn render(customers: &[Customer]) -> Result<Vec<u8>, FileError> {
    let customer = |customer: &Customer| CustomerFile {
        name: Text(customer.name.clone()),
        key_hash: Hex(customer.key_hash),
        licensee: Account(customer.licensee),
        calls_per_day: customer.calls_per_day,
        credit: (customer.credit > 0).then(|| Text(customer.credit.to_string())),
    };
    let file = CustomersFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        customers: List(customers.iter().map(customer).collect()),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(json)?;
    bytes.push(b'\n');
    // What is written must be read again.
    parse(&bytes)?;
    Ok(bytes)
}

/// Reads a file.
///
/// # Errors
/// Any fault of the file, two customers of one name or key among them.
pub fn parse(bytes: &[u8]) -> Result<Vec<Customer>, FileError> {
    let file: CustomersFile = KIND.parse(bytes)?;
    let field = |field, expected: &str, got: String| FileError::Field {
        file: KIND.format,
        field,
        expected: expected.to_owned(),
        got,
    };
    let mut customers: Vec<Customer> = Vec::with_capacity(file.customers.0.len());
    for customer in file.customers.0 {
        let credit = match customer.credit {
            None => 0,
            Some(Text(text)) => text
                .parse()
                .ok()
                .filter(|credit: &u128| credit.to_string() == text)
                .ok_or_else(|| field("credit", "a whole number", text))?,
        };
        customers.push(Customer {
            name: customer.name.0,
            key_hash: customer.key_hash.0,
            licensee: customer.licensee.0,
            calls_per_day: customer.calls_per_day,
            credit,
        });
    }
    let mut names: Vec<&str> = customers.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(field("name", "each customer once", pair[0].to_owned()));
    }
    let mut keys: Vec<_> = customers.iter().map(|c| c.key_hash).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(field("key_hash", "each key once", "one twice".to_owned()));
    }
    Ok(customers)
}
