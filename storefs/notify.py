"""Tell systemd how the service does: ready, status, stopping, alive.

Used by `mount`. One datagram to $NOTIFY_SOCKET, as sd_notify(3) describes; without that variable
nothing happens. It never blocks and never fails the caller: a manager that does not listen is no
reason to lose a mount.
"""

from __future__ import annotations

import os
import socket


def _send(message: str) -> bool:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "/@":
        return False
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.connect(address)
            sender.send(message.encode("utf-8", "surrogateescape"))
    except OSError:
        return False
    return True


def _one_line(text: str) -> str:
    return " ".join(text.split())


def ready(text: str = "") -> bool:
    """Started: what waits for this unit may go on. True if a manager was told."""
    return _send("READY=1" + (f"\nSTATUS={_one_line(text)}" if text else ""))


def status(text: str) -> bool:
    """The line that `systemctl status` shows."""
    return _send(f"STATUS={_one_line(text)}")


def stopping(text: str = "") -> bool:
    """The drain has begun."""
    return _send("STOPPING=1" + (f"\nSTATUS={_one_line(text)}" if text else ""))


def extend_timeout(seconds: float) -> bool:
    """Ask for so much more time to start or stop, counted from now."""
    return _send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")


def alive() -> bool:
    """Feed the watchdog; call it from the loop that must be running."""
    return _send("WATCHDOG=1")


def watchdog_seconds() -> float | None:
    """How often to call `alive`: half of what the manager allows; None if it does not watch us."""
    try:
        allowed = int(os.environ.get("WATCHDOG_USEC", ""))
        watched = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    if allowed <= 0 or watched != os.getpid():
        return None
    return allowed / 2_000_000
