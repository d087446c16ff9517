"""One measurement in this process: ``python -m dlstudio.bench.worker MODULE ARGUMENTS-AS-JSON``."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

from dlstudio.bench.session import MARK


def main(module: str, arguments: dict[str, Any]) -> None:
    """Measure, and print the figures as one line."""
    figures = import_module(f"dlstudio.bench.{module}").measure(**arguments)
    print(f"\n{MARK}{json.dumps(figures)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
    sys.stderr.flush()
    os._exit(0)  # the figures are out: exit handlers and threads of the peers need not be waited for
