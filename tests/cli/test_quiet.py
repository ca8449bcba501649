"""Nothing goes out unless asked, and nothing is loaded before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FORBID = """
import os, socket, sys
def refuse(*args, **kwargs):
    # a library may swallow an exception, but not this
    sys.stderr.write("a network socket was opened")
    sys.stderr.flush()
    os._exit(3)
socket.socket.connect = socket.socket.bind = refuse
socket.getaddrinfo = socket.create_connection = refuse
"""

IMPORT = "import blastogan; [getattr(blastogan, name) for name in blastogan.__all__]"
HELP = "from blastogan.__main__ import main; main(['--help'])"
# of the package over Lightning, which is loaded in any case
TIMED_IMPORT = f"""
import time
import pytorch_lightning
began = time.perf_counter()
{IMPORT}
seconds = time.perf_counter() - began
"""
FIT = """
from pathlib import Path
from blastogan.__main__ import main
Path("tiny.yaml").write_text('''
schedule: {start_resolution: 8, final_resolution: 8, hold_kimg: 0.032, batch_size: 8,
           tick_kimg: 0.032}
model: {class_path: ProGANModule, init_args: {latent_dim: 8, channel_base: 64, channel_cap: 8}}
data: {num_phantoms: 60}
fidelity: {extractor: none}
trainer: {accelerator: cpu}
''')
assert main(["fit", "--config", "tiny.yaml"]) == 0
assert "wandb" not in sys.modules and "albumentations" not in sys.modules
"""


def python(code, folder=None):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A process that loads every public name and trains, where no socket can be opened."""
    code = FORBID + TIMED_IMPORT + FIT + "print('loaded in', seconds)"
    return python(code, tmp_path_factory.mktemp("quiet"))


def test_import_and_fit_open_no_network_socket(session):
    assert session.returncode == 0, session.stderr


def test_help_opens_no_network_socket():
    done = python(FORBID + HELP)
    assert done.returncode == 0, done.stderr


def test_the_test_would_see_a_socket():
    done = python(FORBID + "import urllib.request; urllib.request.urlopen('http://localhost:9')")
    assert done.returncode == 3
    assert "a network socket was opened" in done.stderr


def test_import_and_help_load_neither_torch_nor_lightning():
    every_option = HELP.replace("['--help']", "['fit', '--help', 'all']")
    for code in ("import blastogan", HELP, every_option):
        code += "; import sys; assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
        done = python(code)
        assert done.returncode == 0, done.stderr


def test_the_whole_package_costs_little_over_lightning(session):
    took = [float(session.stdout.rpartition("loaded in ")[2])]
    # whatever else the machine does, once is enough
    if took[0] >= 1.5:
        took.append(float(python(TIMED_IMPORT + "print(seconds)").stdout))
    assert min(took) < 1.5  # 0.5 s on an idle machine
