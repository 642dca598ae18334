//! The socket's keepalive follows the session's settings `tcp_keepalives_idle`, `_interval` and `_count`: seconds, seconds and
//! a number, 0 being the system's own.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use engine::Session;
use socket2::{SockRef, TcpKeepalive};

/// What the socket was told last.
pub(crate) struct Keepalive {
    socket: RawFd,
    /// The settings that were looked at.
    version: u64,
    told: [u64; 3],
}

impl Keepalive {
    /// Of a socket that is open for as long as this is used.
    pub(crate) fn of(socket: RawFd) -> Keepalive {
        let keepalive = Keepalive { socket, version: 0, told: [0; 3] };
        keepalive.tell(&TcpKeepalive::new());
        keepalive
    }

    /// Tells the socket, if the settings have changed.
    pub(crate) fn follow(&mut self, session: &Session) {
        let version = session.settings_version();
        if self.version == version {
            return;
        }
        self.version = version;
        let names = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"];
        let wanted = names.map(|name| session.setting(name).and_then(|value| value.parse().ok()).unwrap_or(0));
        if wanted == self.told {
            return;
        }
        self.told = wanted;
        let [idle_s, interval_s, count] = wanted;
        let mut keepalive = TcpKeepalive::new();
        if idle_s > 0 {
            keepalive = keepalive.with_time(Duration::from_secs(idle_s));
        }
        if interval_s > 0 {
            keepalive = keepalive.with_interval(Duration::from_secs(interval_s));
        }
        if count > 0 {
            keepalive = keepalive.with_retries(count as u32);
        }
        self.tell(&keepalive);
    }

    fn tell(&self, keepalive: &TcpKeepalive) {
        // SAFETY: the connection that owns this owns the socket's halves too, and closes them after its last use of this.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket) };
        if let Err(error) = SockRef::from(&socket).set_tcp_keepalive(keepalive) {
            tracing::debug!("cannot set the keepalive: {error}");
        }
    }
}
