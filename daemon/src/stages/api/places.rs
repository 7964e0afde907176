//! Places of connections whose caller has no certificate: bounded for each address, and in all.
//!
//! A browser opens connections before it has anything to ask, and many browsers may have one address. So beyond a bound
//! the oldest connection without a request gives way. A new connection is turned away only if each of the others has
//! a request in progress.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The places of one listener.
#[derive(Clone)]
pub(super) struct Places {
    of_address: usize,
    in_all: usize,
    taken: Arc<Mutex<Taken>>,
}

/// The places that are taken, in the order of their connections.
#[derive(Default)]
struct Taken {
    next: u64,
    all: BTreeMap<u64, Connection>,
}

/// A connection with a place.
struct Connection {
    address: IpAddr,
    has_request: bool,
    gives_way: CancellationToken,
}

/// The place of one connection. It is free again when this value is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
    gives_way: CancellationToken,
}

impl Places {
    /// At most `of_address` places for each address, and `in_all` for all of them.
    pub(super) fn new(of_address: usize, in_all: usize) -> Self {
        Self { of_address, in_all, taken: Arc::default() }
    }

    /// Takes a place. None if a bound is reached, and no connection within that bound gives way.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock();
        let Taken { next, all } = &mut *taken;
        if all.values().filter(|one| one.address == address).count() >= self.of_address {
            give_way(all, |one| one.address == address)?;
        } else if all.len() >= self.in_all {
            give_way(all, |_| true)?;
        }
        let (number, gives_way) = (*next, CancellationToken::new());
        *next += 1;
        all.insert(number, Connection { address, has_request: false, gives_way: gives_way.clone() });
        Some(Place { places: self.clone(), number, gives_way })
    }
}

/// Ends the oldest connection without a request among some. None if each of them has one.
fn give_way(all: &mut BTreeMap<u64, Connection>, among: impl Fn(&Connection) -> bool) -> Option<()> {
    let oldest = all.iter().find(|(_, one)| !one.has_request && among(one)).map(|(number, _)| *number)?;
    all.remove(&oldest)?.gives_way.cancel();
    Some(())
}

impl Place {
    /// Notes that the head of a request has arrived. False if the connection has given way before: then nothing may be
    /// done for the request.
    pub(super) fn begins(&self) -> bool {
        match self.places.taken.lock().all.get_mut(&self.number) {
            Some(connection) => {
                connection.has_request = true;
                true
            }
            None => false,
        }
    }

    /// Cancelled when the connection has to give way.
    pub(super) fn gives_way(&self) -> CancellationToken {
        self.gives_way.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    /// Three browsers behind one address, each with its six connections.
    #[test]
    fn connections_that_browsers_keep_in_reserve_give_way_to_those_that_ask() {
        let places = Places::new(16, 64);
        let reserve: Vec<Place> = (0..18).filter_map(|_| places.enter(address(1))).collect();
        assert_eq!(reserve.len(), 18);
        let is_cut = |place: &Place| place.gives_way().is_cancelled();
        assert_eq!(reserve.iter().map(is_cut).collect::<Vec<_>>(), [vec![true; 2], vec![false; 16]].concat());
        assert!(!reserve[0].begins(), "nothing is done at a connection that gave way");
        assert!(reserve[2..].iter().all(Place::begins));
        assert!(places.enter(address(1)).is_none(), "each has a request in progress");
        assert!(places.enter(address(2)).is_some(), "another address has its own places");
        drop(reserve);
        assert!(places.taken.lock().all.is_empty());
    }

    #[test]
    fn the_bound_of_all_addresses_holds_too() {
        let places = Places::new(16, 64);
        let fill = |number| (0..16).filter_map(|_| places.enter(address(number))).collect::<Vec<_>>();
        let mut held: Vec<Vec<Place>> = (0..4).map(fill).collect();
        let last = places.enter(address(9)).unwrap();
        assert!(held[0][0].gives_way().is_cancelled() && last.begins());
        for place in held.iter().flatten().skip(1) {
            assert!(place.begins());
        }
        assert!(places.enter(address(8)).is_none());
        drop(held.pop());
        assert!(places.enter(address(8)).is_some());
    }
}
