"""Results: frozen values that cross process borders as JSON (and one `.npz`), never as a pickle.

A result is computed once and read by every face, in other processes. So it is written and read back exactly, NaN and
infinities included, and it says which version of its class wrote it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import math
import os
import re
import reprlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from dlstudio.errors import DLStudioError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "Result", "equal", "load", "records", "save", "value"]

FORMAT = "dlstudio.result"
REPR = 240
"""Characters of a result's repr."""
SEVERITIES = ("info", "warning", "critical")

_REGISTRY: dict[str, type[Any]] = {}
_T = TypeVar("_T")


def value(cls: type[_T]) -> type[_T]:
    """Register a frozen dataclass of plain values and arrays as a part that results may hold; returns `cls` itself."""
    _REGISTRY[cls.__name__] = cls
    return cls


class Result:
    """What a verb returns: a frozen, keyword-only dataclass of plain values that survives `save` and `load`.

    A subclass is registered under its class name with its schema number, which goes up whenever a field is
    added, removed or changes its meaning. Give the dataclass ``eq=False`` so that it keeps this class's
    equality: NaN equals NaN, and arrays compare by shape, dtype and content.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
        ... class GapResult(Result, schema=1):
        ...     gap: float
        ...     def frame(self):
        ...         return pd.DataFrame({"gap": [self.gap]})
    """

    schema: ClassVar[int] = 1

    def __init_subclass__(cls, *, schema: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.schema = schema
        if "__repr__" not in cls.__dict__:  # or dataclasses would write out every field
            ours = [base.__dict__ for base in cls.__mro__ if issubclass(base, Result)]
            cls.__repr__ = next(own["__repr__"] for own in ours if "__repr__" in own)  # type: ignore[method-assign]
        _REGISTRY[cls.__name__] = cls

    def frame(self) -> pd.DataFrame:
        """Return the result as a tidy DataFrame: one row an observation, one column a variable."""
        raise TypeError(f"{type(self).__name__} has to define frame()")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and equal(_fields(self), _fields(other))

    def __repr__(self) -> str:
        """Return the name of the class and the first sentence of its summary, or else its fields, cut short."""
        name = type(self).__name__
        try:
            said = getattr(self, "summary", ())
            said = said if isinstance(said, str) else next(iter(said), "")
        except Exception:  # a repr is asked for when things are broken
            said = ""
        if not isinstance(said, str) or not said:
            said = ", ".join(f"{key}={reprlib.repr(part)}" for key, part in _fields(self).items())
        return f"<{name}: {said if len(said) <= REPR else said[: REPR - 1] + '…'}>"

    __hash__ = None  # type: ignore[assignment]


@value
@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One verdict in words, with what it rests on and what to do.

    Attributes:
        code, severity: a stable code such as ``"DLS101"``; ``"info"``, ``"warning"`` or ``"critical"``.
        sentence, evidence: one plain sentence for readers without code; the numbers it rests on, by name.
        remedy: what to do next; empty when nothing needs doing.
    """

    code: str
    severity: str
    sentence: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise unknown_name("severity", self.severity, SEVERITIES)


def records(table: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, whose columns are arrays, as plain values by column.

    Example:
        >>> list(records({"a": np.array([1, 2]), "b": np.array(["x", "y"])}))
        [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    """
    for cells in zip(*(column.tolist() for column in table.values()), strict=True):
        yield dict(zip(table, cells, strict=True))


def equal(a: Any, b: Any) -> bool:
    """Compare two plain values deeply: NaN equals NaN, arrays compare by dtype, shape and content."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
            return False
        same = a.dtype == b.dtype and a.shape == b.shape
        return same and bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and equal(_fields(a), _fields(b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def save(result: Result, folder: Path | str, name: str) -> Path:
    """Write a result as ``<folder>/<name>.json`` and its arrays beside it as one ``.npz``.

    Afterwards the JSON and its arrays belong together: the array file carries the hash of its content in its
    name, and the JSON is replaced in one step, so a crash leaves either the old pair or the new one.

    Args:
        result: the result to write.
        folder, name: where, made when it is missing; a plain file name without an ending.

    Returns:
        The path of the JSON file.

    Raises:
        DLStudioError: when `name` is no plain file name, or something in the result is not a plain value.

    Example:
        >>> path = save(summary, run.folder / "results", "training")
        >>> load(path) == summary
        True
    """
    if not re.fullmatch(r"[\w][\w.\- ]*", name):
        raise DLStudioError("a plain file name without slashes", repr(name), "Try name='training'.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    fields = {key: _encode(item, arrays, key) for key, item in _fields(result).items()}
    array_file = None
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        data = buffer.getvalue()
        array_file = f"{name}.{hashlib.sha256(data).hexdigest()[:16]}.npz"
        _replace(folder / array_file, data)
    cls = type(result)
    document = {
        "format": FORMAT,
        "type": cls.__name__,
        "module": cls.__module__,
        "schema": cls.schema,
        "arrays": array_file,
        "fields": fields,
    }
    path = folder / f"{name}.json"
    _replace(path, json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1).encode())
    for old in folder.glob(f"{name}.*.npz"):
        if old.name != array_file and re.fullmatch(re.escape(name) + r"\.[0-9a-f]{16}\.npz", old.name):
            old.unlink(missing_ok=True)
    return path


def load(path: Path | str) -> Any:
    """Read a result that `save` wrote.

    Args:
        path: the JSON file.

    Raises:
        DLStudioError: when the file is missing, damaged, of another schema, or of a class that this version
            of dlstudio does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise DLStudioError("the JSON file of a saved result", f"{path}, which is not there", "Check the path.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DLStudioError(
            "a whole JSON file", f"{path.name}: {error}", "Compute and save the result again."
        ) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DLStudioError(f"a file of the format {FORMAT!r}", str(path), "Choose a file that results.save wrote.")
    cls = _class(str(document.get("type")), str(document.get("module")))
    known = getattr(cls, "schema", 1)
    if document.get("schema") != known:
        raise DLStudioError(
            f"schema {known} of {cls.__name__}",
            f"schema {document.get('schema')!r} in {path.name}",
            "Compute the result again, or read it with the dlstudio version that wrote it.",
        )
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    if document.get("arrays"):
        array_path = path.parent / Path(document["arrays"]).name
        try:
            with np.load(array_path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
        except Exception as error:  # zip, numpy and the file system each raise their own kinds
            raise DLStudioError(
                f"the arrays of {path.name} in {array_path.name}",
                f"{type(error).__name__}: {error}",
                "Compute and save the result again.",
            ) from None
    return _build(cls, document.get("fields"), arrays)


def _fields(item: Any) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}


def _class(name: str, module: str) -> type[Any]:
    # A file may name only classes of this package: importing what a file says would run anyone's code.
    if name not in _REGISTRY and re.fullmatch(r"dlstudio(\.[a-z_][a-z0-9_]*)+", module):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            raise unknown_name("result class", name, _REGISTRY) from None
    if name not in _REGISTRY:
        raise unknown_name("result class", name, _REGISTRY)
    return _REGISTRY[name]


def _encode(item: Any, arrays: dict[str, np.ndarray[Any, Any]], where: str) -> Any:
    if item is None or isinstance(item, bool | str | int):
        return item
    if isinstance(item, np.generic):
        return _encode(item.item(), arrays, where)
    if isinstance(item, float):
        return item if math.isfinite(item) else {"$float": repr(item)}
    if isinstance(item, np.ndarray) and item.dtype.kind in "biufcUSMm":
        key = f"{len(arrays)}"
        arrays[key] = item
        return {"$array": key}
    if isinstance(item, tuple):
        return {"$tuple": [_encode(part, arrays, where) for part in item]}
    if isinstance(item, list):
        return [_encode(part, arrays, where) for part in item]
    if isinstance(item, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in item):
            return {key: _encode(part, arrays, f"{where}.{key}") for key, part in item.items()}
        pairs = [[_encode(k, arrays, where), _encode(part, arrays, where)] for k, part in item.items()]
        return {"$pairs": pairs}
    if type(item).__name__ in _REGISTRY and dataclasses.is_dataclass(item):
        parts = {k: _encode(part, arrays, f"{where}.{k}") for k, part in _fields(item).items()}
        return {"$type": type(item).__name__, "module": type(item).__module__, "fields": parts}
    raise DLStudioError(
        "plain values, numpy arrays and registered dataclasses in a result",
        f"{type(item).__name__} in {where!r}",
        "Turn it into numbers, strings, lists, dicts or arrays first.",
    )


def _decode(item: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(item, list):
        return [_decode(part, arrays) for part in item]
    if not isinstance(item, dict):
        return item
    if "$float" in item:
        return float(item["$float"])
    if "$array" in item:
        if item["$array"] not in arrays:
            raise DLStudioError(f"the array {item['$array']!r}", "an array file without it", "Save the result again.")
        return arrays[item["$array"]]
    if "$tuple" in item:
        return tuple(_decode(part, arrays) for part in item["$tuple"])
    if "$pairs" in item:
        return {_decode(key, arrays): _decode(part, arrays) for key, part in item["$pairs"]}
    if "$type" in item:
        return _build(_class(item["$type"], str(item.get("module"))), item.get("fields"), arrays)
    return {key: _decode(part, arrays) for key, part in item.items()}


def _build(cls: type[Any], fields: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    expected = {field.name for field in dataclasses.fields(cls)}
    if not isinstance(fields, dict) or set(fields) != expected:
        got = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
        raise DLStudioError(
            f"the fields {sorted(expected)} of {cls.__name__}",
            str(got),
            "The file is damaged or of another version: compute and save the result again.",
        )
    return cls(**{key: _decode(part, arrays) for key, part in fields.items()})


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
