"""What a live view shows of a run, in bounded memory, and what of it a browser does not have yet.

A browser asks; the feed reads what the run has logged since, and answers with the difference. Nothing is
pushed and no thread runs: whoever stops asking costs nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlstudio.runs.run import Run
from dlstudio.telemetry.reader import TelemetryReader
from dlstudio.widgets.buckets import LAYER_STATS, CurveBuckets, LayerBuckets, quantise
from dlstudio.widgets.delta import Client, Cursor, Delta
from dlstudio.widgets.gathering import Gathered, joined, named
from dlstudio.widgets.status import Progress, plain

MAX_DELTA_BYTES = 64 * 1024
READ_S = 0.025
"""One tick reads for so long at most; what is left waits for the next, which is asked for at once."""
READ_ROWS = 64
"""So few rows at a time, because a long run has many small batches and the time is looked at in between."""
STATE_S = 0.4
CURVE_BUCKETS, MACHINE_BUCKETS, LAYER_COLUMNS = 400, 120, 200
MAX_KEYS, MAX_MACHINE_KEYS = 400, 80
MAX_WANTED = 24
MAX_LOG_CHARACTERS, MAX_TRACEBACK_CHARACTERS = 6_000, 12_000
MAX_CLIENTS = 16

_DESCRIPTOR_BYTES = 260
_CURVE_BYTES, _LAYER_BYTES = 2 * 8 + 3 * 4, 2 * 8


class Feed:
    """Follows one run for any number of browsers.

    Args:
        run: the run to follow, live or over.

    Example:
        >>> feed = Feed(dls.open_run("my-run"))
        >>> content, data = feed.tick(client="one", ack=0)
        >>> content["head"]["status"], content["more"]
        ('RUNNING', True)
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._name, self._key = run.name, run.key
        self._reader = TelemetryReader(run.folder / "telemetry")
        self._clients: dict[str, Client] = {}
        self._state, self._state_at = run.state(), 0.0
        self._log: tuple[tuple[int, int], str] = ((0, 0), "")
        self._forget()
        # The first read also loads what the reading itself needs, which no tick should wait for.
        self.update()

    def _forget(self) -> None:
        self.curves: dict[str, CurveBuckets] = {}
        self.machine: dict[str, CurveBuckets] = {}
        self.layers: dict[tuple[str, ...], LayerBuckets] = {}
        self.progress = Progress()
        self._clients.clear()

    def update(self, budget_s: float = READ_S) -> bool:
        """Read what is new for at most about `budget_s` seconds; returns whether all of it was read."""
        now = time.monotonic()
        if now - self._state_at >= STATE_S:
            # The status first: what a run logs before it ends is then read in the same tick.
            self._state, self._state_at = self.run.state(), now
        deadline = now + budget_s
        gathered = Gathered()
        while True:
            new = self._reader.read(max_rows=READ_ROWS)
            if new.restarted:
                self._forget()
                gathered = Gathered()
            gathered.add(new)
            for event in new.events:
                self.progress.saw_event(event)
            for _, steps, _, times in new.scalars:
                for at in (0, -1):
                    self.progress.saw_step(int(steps[at]), float(times[at]))
            if not new.more or time.monotonic() >= deadline:
                break
        for key, steps, values in joined(gathered.scalars):
            self.curves.setdefault(key, CurveBuckets(CURVE_BUCKETS)).add(steps, values)
        zero = self._state.started or self._state.created or 0.0
        for key, times, values in joined(gathered.machine):
            self.machine.setdefault(key, CurveBuckets(MACHINE_BUCKETS)).add(times - zero, values)
        for names, blocks in gathered.layers.items():
            # Several watched models are told apart by their parameters.
            if names not in self.layers:
                self.layers[names] = LayerBuckets(list(names), LAYER_COLUMNS)
            stats = {stat: np.concatenate([block.stats[stat] for block in blocks]) for stat in blocks[0].stats}
            self.layers[names].add(np.concatenate([block.steps for block in blocks]), stats)
        return not new.more

    def tick(
        self,
        *,
        client: str = "",
        ack: int = 0,
        want: list[str] | None = None,
        stat: str = LAYER_STATS[0],
        group: int = 0,
    ) -> tuple[dict[str, Any], bytes]:
        """Return what `client` does not have yet.

        Args:
            client: who asks; each is answered with its own difference.
            ack: the number (``seq``) of the last answer that arrived; any other than the last one sent makes
                the feed begin anew, and say so (``reset``).
            want: keys of the curves to send, at most `MAX_WANTED`; None asks for losses, learning rate and
                validation metrics.
            stat: ``"grad_norm"``, ``"update_ratio"`` or ``"weight_norm"``, for the heat map.
            group: which watched model.

        Returns:
            ``(content, data)``: strict-JSON-able values, and the arrays they point into. Together at most
            `MAX_DELTA_BYTES`; ``more`` says that the rest waits, ``over`` that nothing will ever follow.
        """
        with self._lock:
            whole = self.update()
            state = self._clients.pop(client, Client())
            fresh = ack != state.seq or state.seq == 0
            if fresh:
                state = Client(seq=max(ack, state.seq))
            self._clients[client] = state
            while len(self._clients) > MAX_CLIENTS:
                del self._clients[next(iter(self._clients))]
            state.seq += 1
            delta = Delta(MAX_DELTA_BYTES)
            delta.content |= {"seq": state.seq, "reset": fresh, "reading": not whole}
            self._add_sections(delta, state)
            if whole or state.series:
                self._add_events(delta, state)
                self._add_curves(delta, state, want)
                self._add_layers(delta, state, stat, group)
            if not whole:
                # A browser that has nothing yet waits for the whole, so that it draws once and not twenty times.
                delta.content["more"] = True
            delta.content["over"] = self._state.is_over and not delta.content["more"]
            return delta.content, b"".join(delta.parts)

    # -- the parts of an answer ----------------------------------------------------------------------------

    def _sections(self) -> Iterator[tuple[str, Any]]:
        speed = self.curves.get("throughput_samples_per_s")
        yield "head", self.progress.head(self._state, speed.last if speed else None)
        yield "run", {"name": self._name, "key": self._key}
        yield "keys", named(list(self.curves)[:MAX_KEYS])
        yield "machine_keys", list(self.machine)[:MAX_MACHINE_KEYS]
        yield "groups", [group.n_parameters for group in self.layers.values()]
        yield "damage", self._reader.damage
        yield "traceback", (self._state.traceback or "")[-MAX_TRACEBACK_CHARACTERS:]
        yield "log", self._log_tail()

    def _add_sections(self, delta: Delta, state: Client) -> None:
        """Add the small values that changed."""
        for name, value in self._sections():
            value = plain(value)
            text = json.dumps(value)
            if state.sections.get(name) == text:
                continue
            if len(text) > delta.room:
                delta.content["more"] = True
                continue
            delta.room -= len(text)
            state.sections[name] = text
            delta.content[name] = value

    def _log_tail(self) -> str:
        try:
            found = (self.run.folder / "log.txt").stat()
        except OSError:
            return ""
        stamp = (found.st_size, found.st_mtime_ns)
        if stamp != self._log[0]:
            self._log = (stamp, self.run.log_tail(60)[-MAX_LOG_CHARACTERS:])
        return self._log[1]

    def _add_events(self, delta: Delta, state: Client) -> None:
        sent = []
        for event in self.progress.events:
            if event["id"] <= state.event_id:
                continue
            plain_event = json.loads(json.dumps(plain(event), default=str))
            size = len(json.dumps(plain_event))
            if size > MAX_DELTA_BYTES // 4:
                plain_event |= {"message": str(event["message"])[:500], "data": {}}
                size = len(json.dumps(plain_event))
            if size > delta.room // 2:
                delta.content["more"] = True
                break
            delta.room -= size
            state.event_id = event["id"]
            sent.append(plain_event)
        if sent:
            delta.content["events"] = sent

    def _wanted(self, want: list[str] | None) -> list[tuple[str, str, CurveBuckets]]:
        keys = list(self.curves) if want is None else [str(key) for key in want]
        if want is None:
            keys = [key for key in keys if "loss" in key or key == "lr" or key.startswith("val/")]
        found = [("scalar", key, self.curves[key]) for key in keys[:MAX_WANTED] if key in self.curves]
        return found + [("machine", key, self.machine[key]) for key in list(self.machine)[:MAX_MACHINE_KEYS]]

    def _add_curves(self, delta: Delta, state: Client, want: list[str] | None) -> None:
        """Add what is new of each curve, those that were served longest ago first."""
        wanted = self._wanted(want)
        age = {name: position for position, name in enumerate(state.series)}
        wanted.sort(key=lambda item: age.get(f"{item[0]}:{item[1]}", -1))
        for family, key, curve in wanted:
            name = f"{family}:{key}"
            entry = self._series_entry(delta, state, name, curve, _CURVE_BYTES)
            if entry is None:
                continue
            x, y, bad_x, bad = curve.points(entry["start"], entry["start"] + entry["n"])
            entry |= {"family": family, "key": key, "n_bad": len(bad), "n_nonfinite": curve.n_nonfinite}
            entry |= {"last": plain(curve.last), "last_x": plain(curve.last_x)}
            entry["at"] = [delta.pack(array) for array in (x, bad_x, y, bad)]
            delta.content["curves"].append(entry)

    def _add_layers(self, delta: Delta, state: Client, stat: str, group: int) -> None:
        if not 0 <= group < len(self.layers) or stat not in LAYER_STATS:
            return
        name, buckets = list(self.layers.items())[group]
        if state.layers != (name, stat):
            state.layers = (name, stat)
            state.series.pop("layers", None)
        is_new = "layers" not in state.series
        rows = {"rows": buckets.rows, "per_row": buckets.per_row, "n_parameters": buckets.n_parameters}
        size = len(json.dumps(rows)) if is_new else 0
        if size > MAX_DELTA_BYTES // 2:
            rows["rows"], size = [f"{row[:20]}…{row[-40:]}" for row in buckets.rows], MAX_DELTA_BYTES // 2
        if size > delta.room:
            delta.content["more"] = True
            return
        delta.room -= size
        entry = self._series_entry(delta, state, "layers", buckets, _LAYER_BYTES + 2 * len(buckets.rows))
        if entry is None:
            return
        steps, values = buckets.columns(stat, entry["start"], entry["start"] + entry["n"])
        entry |= {"stat": stat, "group": group, "n_rows": len(buckets.rows)}
        entry |= {"at": [delta.pack(steps), delta.pack(quantise(values))]}
        delta.content["layers"] = entry | (rows if is_new else {})

    def _series_entry(
        self, delta: Delta, state: Client, name: str, buckets: CurveBuckets | LayerBuckets, bucket_bytes: int
    ) -> dict[str, Any] | None:
        """Choose which buckets of a series to send now, as many as there is room for."""
        cursor = state.series.get(name, Cursor())
        if cursor.generation == buckets.generation and cursor.n_points == buckets.n_points:
            return None
        start = cursor.n_whole if cursor.generation == buckets.generation else 0
        # A bucket with non-finite values costs 16 bytes more.
        per_bucket = bucket_bytes + (16 if getattr(buckets, "n_nonfinite", 0) else 0)
        n = min(buckets.n - start, max(0, delta.room - _DESCRIPTOR_BYTES) // per_bucket)
        if n <= 0:
            delta.content["more"] = True
            return None
        delta.room -= _DESCRIPTOR_BYTES
        done = start + n == buckets.n
        delta.content["more"] = bool(delta.content["more"]) or not done
        state.series.pop(name, None)
        state.series[name] = Cursor(
            generation=buckets.generation,
            n_whole=min(start + n, buckets.n_whole),
            n_points=buckets.n_points if done else -1,
        )
        entry = {"gen": buckets.generation, "start": start, "n": n, "of": buckets.n}
        return entry | {"size": buckets.size, "n_points": buckets.n_points}
