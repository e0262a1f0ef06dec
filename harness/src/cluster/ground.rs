//! The ground of a run: a loopback /24 of its own, so that parallel harnesses never meet.
//!
//! In: a number to start the search from. Out: a [`Claim`], and the addresses on it. Never: an address
//! outside of 127.16.0.0 to 127.250.255.255, where nobody else is likely to listen.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

use serde::{Deserialize, Serialize};

/// Node `i` is host `i`, the source of its links is host `100 + i`.
pub const NODES_MAX: u32 = 99;

const SECOND: std::ops::RangeInclusive<u32> = 16..=250;
const GROUNDS: u32 = 256 * (*SECOND.end() - *SECOND.start() + 1);
/// Harnesses on one machine are few; this many taken grounds in a row are a fault of another kind.
const TRIES_MAX: u32 = 4096;
const PORT: u16 = 7000;
const CLIENTS: u32 = 200;
const CLAIM: u32 = 254;

/// 127.a.b.0/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ground {
    a: u8,
    b: u8,
}

impl Ground {
    /// Where node `node` (from 1) listens.
    pub fn node(self, node: u32) -> SocketAddr {
        self.address(node, 0)
    }

    /// Where the link listens over which `from` speaks to `to`.
    pub fn link(self, from: u32, to: u32) -> SocketAddr {
        self.address(100 + from, to)
    }

    /// Where the link listens over which clients speak to `to`.
    pub fn client_link(self, to: u32) -> SocketAddr {
        self.address(CLIENTS, to)
    }

    fn nth(n: u32) -> Ground {
        let n = n % GROUNDS;
        Ground { a: (SECOND.start() + n / 256) as u8, b: (n % 256) as u8 }
    }

    fn address(self, host: u32, port: u32) -> SocketAddr {
        assert!(host <= 254 && port <= NODES_MAX, "no host {host} with port {PORT}+{port} on a ground");
        SocketAddrV4::new(Ipv4Addr::new(127, self.a, self.b, host as u8), PORT + port as u16).into()
    }
}

/// A ground is ours for as long as this lives: it holds a listener on the ground's last host.
pub(super) struct Claim {
    pub ground: Ground,
    _listener: TcpListener,
}

/// Claims the first free ground from the one that `start` leads to.
pub(super) fn claim(start: impl Hash) -> io::Result<Claim> {
    let mut hash = DefaultHasher::new();
    start.hash(&mut hash);
    let start = (hash.finish() % u64::from(GROUNDS)) as u32;
    for n in start..start + TRIES_MAX {
        let ground = Ground::nth(n);
        match TcpListener::bind(ground.address(CLAIM, 0)) {
            Ok(listener) => return Ok(Claim { ground, _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{TRIES_MAX} loopback networks in a row are taken")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_claimed_ground_is_not_given_again_until_its_claim_is_dropped() {
        let first = claim("a place in the search").unwrap();
        let second = claim("a place in the search").unwrap();
        assert_ne!(first.ground, second.ground);
        let ground = first.ground;
        drop(first);
        assert_eq!(claim("a place in the search").unwrap().ground, ground);
    }

    #[test]
    fn no_two_parties_of_a_run_share_an_address() {
        let ground = Ground::nth(70_000);
        let mut addresses = BTreeSet::from([ground.address(CLAIM, 0)]);
        for node in 1..=NODES_MAX {
            assert!(addresses.insert(ground.node(node)));
            assert!(addresses.insert(ground.client_link(node)));
            for peer in 1..=NODES_MAX {
                assert!(addresses.insert(ground.link(node, peer)));
            }
        }
    }
}
