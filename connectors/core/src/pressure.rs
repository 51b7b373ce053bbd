//! How busy a server is with what is not the bridge's: how far its replicas are behind it, and how many statements it carries out.

use std::{fmt, time::Duration};

/// From when on a server is left alone. What has no limit is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PressureLimits {
    /// Its replicas may be behind it by this.
    pub replica_lag: Option<Duration>,
    /// It may carry out so many statements at a time.
    pub load: Option<u64>,
    /// Host and port of each replica, where the server does not know them itself. They are logged in to as the server is.
    pub replicas: Vec<(String, u16)>,
}

/// What a server says, as far as it was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// How far the last of its replicas is behind it; `None` without any, and where all of them have everything.
    pub replica_lag: Option<Duration>,
    /// Statements that it carries out now.
    pub load: Option<u64>,
}

/// A limit that is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// The lag of the replicas, and its limit.
    ReplicaLag(Duration, Duration),
    /// The statements, and their limit.
    Load(u64, u64),
}

impl PressureLimits {
    /// Whether there is nothing to ask for.
    pub fn is_none(&self) -> bool {
        self.replica_lag.is_none() && self.load.is_none()
    }

    /// The first limit that is exceeded.
    pub fn exceeded(&self, pressure: &Pressure) -> Option<Exceeded> {
        let lag = self.replica_lag.zip(pressure.replica_lag).filter(|(limit, lag)| lag > limit);
        let load = self.load.zip(pressure.load).filter(|(limit, load)| load > limit);
        lag.map(|(limit, lag)| Exceeded::ReplicaLag(lag, limit))
            .or_else(|| load.map(|(limit, load)| Exceeded::Load(load, limit)))
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exceeded::ReplicaLag(lag, limit) => {
                write!(f, "its replicas are {:.0} s behind, more than {} s", lag.as_secs_f64(), limit.as_secs_f64())
            }
            Exceeded::Load(load, limit) => write!(f, "it carries out {load} statements, more than {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_exceeded_by_more_than_it() {
        let seconds = Duration::from_secs;
        let limits = PressureLimits { replica_lag: Some(seconds(10)), load: Some(25), replicas: Vec::new() };
        let words = |limits: &PressureLimits, replica_lag: Option<u64>, load| {
            let pressure = Pressure { replica_lag: replica_lag.map(seconds), load };
            limits.exceeded(&pressure).map(|exceeded| exceeded.to_string())
        };
        assert_eq!(words(&limits, Some(10), Some(25)), None);
        assert_eq!(words(&limits, None, None), None);
        assert_eq!(words(&limits, Some(11), Some(26)).unwrap(), "its replicas are 11 s behind, more than 10 s");
        assert_eq!(words(&limits, Some(1), Some(26)).unwrap(), "it carries out 26 statements, more than 25");
        let limits = PressureLimits { replica_lag: None, ..limits };
        assert_eq!(words(&limits, Some(11), Some(1)), None);
        assert!(!limits.is_none() && PressureLimits::default().is_none());
    }
}
