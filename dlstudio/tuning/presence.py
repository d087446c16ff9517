"""Which machines still work on a study that several of them share."""

from __future__ import annotations

import secrets
import socket
import time

import optuna

__all__ = ["GONE_S", "Presence"]

BEAT_S = 30.0
GONE_S = 600.0
"""A machine that has shown no sign for so long is gone, and its trials with it."""
_SIGN = "there/"


class Presence:
    """Shows that this machine is there, and watches the others.

    A sign is an attribute of the study that changes. Each machine measures by its own clock for how long it has not:
    clocks of other machines are wrong, or of another time zone.

    Args:
        study: that is shared.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._shown = -BEAT_S
        self._seen: dict[str, tuple[object, float]] = {}

    def show(self) -> None:
        """Give a sign, when it is time for one."""
        now = time.monotonic()
        if now - self._shown >= BEAT_S:
            self._study.set_user_attr(_SIGN + socket.gethostname(), secrets.token_hex(4))
            self._shown = now

    def is_gone(self, host: str) -> bool:
        """Whether a machine has given no sign for `GONE_S` seconds, of those that this process has been watching it."""
        sign, now = self._study.user_attrs.get(_SIGN + host), time.monotonic()
        last, since = self._seen.get(host, (None, now))
        if host not in self._seen or sign != last:
            since = now
        self._seen[host] = sign, since
        return now - since > GONE_S
