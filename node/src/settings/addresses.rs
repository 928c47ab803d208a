//! Addresses of peers, in the forms in which people write lists of them.

use std::str::FromStr;

use libp2p::Multiaddr;

/// Addresses from a flag or a variable, separated by commas, spaces or lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<Multiaddr>);

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(|c: char| c == ',' || c.is_whitespace());
        let words = words.filter(|word| !word.is_empty());
        let addresses = words.map(|word| {
            word.parse()
                .map_err(|error| format!("{word} is not an address: {error}"))
        });
        addresses.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_have_spaces_and_ends_without_addresses() {
        let two: Addresses = "/ip4/10.0.0.1/tcp/1, /ip4/10.0.0.2/tcp/2,".parse().unwrap();
        assert_eq!(two.0.len(), 2);
        assert_eq!(" , ".parse(), Ok(Addresses(Vec::new())));
        let error = "/ip4/10.0.0.1/tcp/1,home:7700"
            .parse::<Addresses>()
            .unwrap_err();
        assert!(error.contains("home:7700"), "{error}");
    }
}
