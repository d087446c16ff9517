"""The light lists of names say the same as the rooms themselves."""

import subprocess
import sys

from dlstudio.data import load
from dlstudio.data.names import names
from dlstudio.models import build
from dlstudio.models.names import NAMES


def test_names_are_what_can_be_loaded_and_built():
    assert set(load.available()) == set(names()) <= set(load._LOADERS)
    assert set(load._LOADERS) - set(names()) <= {"fashion_full"}
    assert tuple(build.available()) == NAMES


def test_asking_for_names_imports_nothing_heavy():
    code = "import sys, dlstudio.data.names, dlstudio.models.names; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
