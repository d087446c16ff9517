"""Is this machine fit for the studio? Each check has a verdict, what was seen, and what to do about it."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from dlstudio import serving, shipped
from dlstudio.errors import DLStudioError
from dlstudio.results import Result, value
from dlstudio.tracking.home import find_home

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

__all__ = ["Check", "DoctorResult", "examine", "table"]

OK, WARNING, PROBLEM = "ok", "warning", "problem"
FREE_PROBLEM_GIB, FREE_WARNING_GIB = 0.5, 5.0
PORTS = {
    serving.LAB_PORT: ("JupyterLab", "dlstudio lab --port {free}"),
    serving.APP_PORT: ("the board", "dlstudio app board --port {free}"),
}
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"}
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@value
@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        verdict: ``"ok"``, ``"warning"`` (works, with a drawback) or ``"problem"`` (something will not work).
        detail: what was seen.
        remedy: what to do; empty where nothing needs doing.
    """

    name: str
    verdict: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class DoctorResult(Result, schema=1):
    """What `examine` saw.

    Attributes:
        checks: in the order in which they were made.
    """

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        """The worst verdict of all checks."""
        return max((check.verdict for check in self.checks), key=(OK, WARNING, PROBLEM).index, default=OK)

    def frame(self) -> pd.DataFrame:
        """One row a check: name, verdict, detail, remedy."""
        import pandas as pd

        return pd.DataFrame([asdict(check) for check in self.checks], columns=["name", "verdict", "detail", "remedy"])


def examine() -> DoctorResult:
    """Look at Python, the packages, the machine, the GPUs, the studio home, the ports and the browser.

    Nothing is changed, save that the studio home is made where there is none. A check that itself fails is a
    problem with that failure as its detail, so one broken driver does not hide the rest.

    Returns:
        A `DoctorResult` with one `Check` each.

    Example:
        >>> [check.remedy for check in examine().checks if check.verdict == "problem"]
        []
    """
    return DoctorResult(checks=tuple(_guarded(name, look) for name, look in _CHECKS.items()))


def table(result: DoctorResult) -> Table:
    """Lay a result out for the terminal."""
    from rich.table import Table
    from rich.text import Text

    color = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("Check", "Verdict", "Seen", "What to do"):
        grid.add_column(heading, overflow="fold")
    for check in result.checks:
        verdict = Text(check.verdict, style=color[check.verdict])
        grid.add_row(Text(check.name), verdict, Text(check.detail), Text(check.remedy))
    return grid


def _guarded(name: str, look: Callable[[str], Check]) -> Check:
    try:
        return look(name)
    except Exception as error:  # a driver or a file system may raise anything; the other checks still count
        what = str(error) if isinstance(error, DLStudioError) else f"{type(error).__name__}: {error}"
        return _problem(name, what, "Mend that, then run `dlstudio doctor` again.")


def _ok(name: str, detail: str, remedy: str = "") -> Check:
    return Check(name=name, verdict=OK, detail=detail, remedy=remedy)


def _warning(name: str, detail: str, remedy: str) -> Check:
    return Check(name=name, verdict=WARNING, detail=detail, remedy=remedy)


def _problem(name: str, detail: str, remedy: str) -> Check:
    return Check(name=name, verdict=PROBLEM, detail=detail, remedy=remedy)


def _python(name: str) -> Check:
    detail = f"{platform.python_version()} in {sys.prefix}"
    wanted = SpecifierSet(metadata.metadata("dlstudio")["Requires-Python"])
    if not wanted.contains(platform.python_version(), prereleases=True):
        return _problem(name, detail, f"Make the environment with Python {wanted}.")
    return _ok(name, detail)


def _packages(name: str) -> Check:
    wrong, other, count = [], [], 0
    tested = _tested_versions()
    for line in metadata.requires("dlstudio") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} is {found}, not {wanted.specifier}")
        elif (pin := tested.get(canonicalize_name(wanted.name))) and found.split("+")[0] != pin:
            other.append(f"{wanted.name} {found} (tested: {pin})")
    if wrong:
        remedy = "pip install -c constraints.txt -e . in the checkout installs the tested set."
        return _problem(name, "; ".join(wrong), remedy)
    if other:
        remedy = "Fine if all works; otherwise install with -c constraints.txt."
        return _warning(name, "; ".join(other), remedy)
    as_tested = "all in their tested versions" if tested else "all within their bounds"
    return _ok(name, f"{count} libraries, {as_tested}")


def _tested_versions() -> dict[str, str]:
    try:
        text = shipped.path("constraints.txt").read_text(encoding="utf-8")
    except (DLStudioError, OSError):
        return {}  # only a checkout has the file
    return {canonicalize_name(n): v for n, v in re.findall(r"^([\w.-]+)==(\S+)$", text, re.M)}


def _machine(name: str) -> Check:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = f"{cores} cores, {memory.total / 2**30:.1f} GiB memory, {memory.available / 2**30:.1f} GiB of it free"
    if memory.available < 1.5 * 2**30:
        return _warning(name, detail, "Close something: a training wants 1.5 GiB.")
    return _ok(name, detail)


def _gpus(name: str) -> Check:
    seen = _nvml_gpus()
    torch = importlib.import_module("torch")
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    detail = "; ".join(seen) or "none: training runs on the CPU"
    if seen and not usable:
        why = f"{detail}, but torch {torch.__version__} cannot use it"
        remedy = "Install a CUDA build of torch that fits the driver, and check CUDA_VISIBLE_DEVICES."
        return _warning(name, why, remedy)
    if usable and not seen:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(usable))
        remedy = "GPU load and memory are not recorded without NVML (part of the NVIDIA driver)."
        return _warning(name, names, remedy)
    return _ok(name, detail)


def _nvml_gpus() -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # no NVIDIA driver, which is no fault
    try:
        gpus = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            label = pynvml.nvmlDeviceGetName(handle)
            label = label.decode() if isinstance(label, bytes) else label
            gpus.append(f"{label}, {memory.free / 2**30:.0f} of {memory.total / 2**30:.0f} GiB free")
        return gpus
    finally:
        pynvml.nvmlShutdown()


def _home(name: str) -> Check:
    home = find_home()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home) as folder:
        _prove_wal(Path(folder) / "probe.db")
    free_gib = shutil.disk_usage(home).free / 2**30
    detail = f"{home}: writable, {free_gib:.1f} GiB free, SQLite in WAL works"
    if free_gib < FREE_PROBLEM_GIB:
        return _problem(name, detail, "Free some space or set DLSTUDIO_HOME elsewhere.")
    kind = _file_system(home)
    if kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse.ssh"):
        remedy = "SQLite and file locks are not safe across machines there: set DLSTUDIO_HOME to a local disk."
        return _warning(name, f"{detail}, on a network file system ({kind})", remedy)
    if free_gib < FREE_WARNING_GIB:
        return _warning(name, detail, "Checkpoints may soon fill the disk.")
    return _ok(name, detail)


def _prove_wal(path: Path) -> None:
    # The catalogue's own pattern: one connection writes while another reads.
    writer, reader = sqlite3.connect(path), None
    try:
        mode = writer.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        writer.execute("CREATE TABLE probe (x)")
        writer.commit()
        writer.execute("INSERT INTO probe VALUES (1)")
        reader = sqlite3.connect(path, timeout=1)
        before = reader.execute("SELECT count(*) FROM probe").fetchone()[0]
        writer.commit()
        after = reader.execute("SELECT count(*) FROM probe").fetchone()[0]
    finally:
        writer.close()
        if reader is not None:
            reader.close()
    if (mode, before, after) != ("wal", 0, 1):
        raise DLStudioError(
            "a file system on which SQLite's WAL works",
            f"journal mode {mode!r}",
            "Set DLSTUDIO_HOME to a local disk.",
        )


def _file_system(path: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""


def _port(port: int) -> Callable[[str], Check]:
    def look(name: str) -> Check:
        who, command = PORTS[port]
        if serving.is_free(port):
            return _ok(name, f"free for {who}")
        free = serving.choose_port(None, port)
        detail = f"taken on 127.0.0.1, where {who} would listen"
        return _warning(name, detail, f"Use another: {command.format(free=free)}")

    return look


def _browser(name: str) -> Check:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return _ok(name, found)
    remedy = "To run them: apt install chromium"
    return _ok(name, "none; only the browser tests need it", remedy)


_CHECKS: dict[str, Callable[[str], Check]] = {
    "Python": _python,
    "Packages": _packages,
    "Machine": _machine,
    "GPUs": _gpus,
    "Studio home": _home,
    **{f"Port {port}": _port(port) for port in PORTS},
    "Chromium": _browser,
}
