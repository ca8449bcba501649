"""Offline runs of Weights & Biases, read back from their files."""

from __future__ import annotations

import json
import struct
import time

import pytest

from blastogan import SampleGrid
from blastogan.callbacks import TrainingLog
from blastogan.errors import UserError
from blastogan.runs.loggers import WandbLog


def records(file):
    """Records of an offline run: a LevelDB log with its own header."""
    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        if place + 7 + size > len(data):
            return
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def whole_log(file):
    """Records of a finished run; its service may still be writing when `finish` returns."""
    from wandb.proto import wandb_internal_pb2

    for _ in range(300):
        found = [wandb_internal_pb2.Record.FromString(data) for data in records(file)]
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{file} has no end")


def read_back(folder):
    """History rows and run ids of all offline runs in a folder."""
    rows, ids = [], []
    for file in sorted(folder.rglob("*.wandb")):
        for record in whole_log(file):
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append(
                    {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                )
            elif record.WhichOneof("record_type") == "run":
                ids.append(record.run.run_id)
    return rows, ids


def test_an_offline_run_has_one_row_per_event_against_kimg(
    make_module, make_data, make_trainer, schedule, tmp_path
):
    import wandb

    logger = WandbLog(tmp_path / "run", "offline")
    callbacks = [TrainingLog(schedule, 0.032), SampleGrid(rows=1)]
    make_trainer(*callbacks, logger=logger).fit(make_module(), make_data())
    wandb.finish()
    rows, ids = read_back(tmp_path / "run")
    every_tick = [0.032, 0.064, 0.096, 0.128, 0.160]
    for name in ("loss_d", "swd", "samples"):
        found = [row["kimg"] for row in rows if any(key.startswith(name) for key in row)]
        assert found == every_tick, name
    assert all("loss_g" in row for row in rows if "loss_d" in row)
    assert not any("trainer/global_step" in row for row in rows)
    assert (tmp_path / "run/wandb-run-id.txt").read_text().strip() == ids[0]
    assert list((tmp_path / "run/wandb").rglob("media/images/*.png"))


def test_a_resumed_run_keeps_its_id(make_module, make_data, make_trainer, schedule, tmp_path):
    import wandb

    for epochs, ckpt in ((2, None), (5, tmp_path / "run/checkpoints/last.ckpt")):
        logger = WandbLog(tmp_path / "run", "offline")
        trainer = make_trainer(TrainingLog(schedule, 0.032), logger=logger, max_epochs=epochs)
        trainer.fit(make_module(), make_data(), ckpt_path=ckpt, weights_only=True)
        wandb.finish()
    rows, ids = read_back(tmp_path / "run")
    assert len(set(ids)) == 1
    kimg = [row["kimg"] for row in rows if "loss_d" in row]
    assert kimg == [0.032, 0.064, 0.096, 0.128, 0.160]


def no_key(login):
    """`login`, with a check that it is called without a prompt."""

    def checked(*, prompt):
        assert prompt is False
        return login(prompt=prompt)

    return checked


def test_online_without_a_login_fails_early(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(wandb, "login", no_key(wandb.login))
    with pytest.raises(UserError, match="wandb login"):
        WandbLog(tmp_path, "online")
