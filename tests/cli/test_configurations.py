"""Configurations in any encoding, and those that are damaged or hostile."""

from __future__ import annotations

import pytest
import yaml

from blastogan.cli.parser import without_retired
from blastogan.cli.yaml_text import load_yaml, read_yaml
from blastogan.errors import UserError

TEXT = "data:\n  root: bilder/\u00e9t\u00e9\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_configuration_is_read_with_the_marks_that_editors_write(encoding, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(TEXT.encode(encoding))
    assert read_yaml(path) == TEXT
    text, _ = without_retired(path)
    # the parser reads the file itself only if it can
    assert (text is None) == (encoding == "utf-8")
    assert text is None or yaml.safe_load(text) == yaml.safe_load(TEXT)


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (TEXT.encode("latin-1"), "UTF-8"),
        ("data: x".encode("utf-16-le"), "not valid"),
        (b"data: {root: A}\ndata: {augment: flip}\n", "line 2: the key 'data'"),
        (b"data:\n  root: A\n  root: B\n", "line 3: the key 'root'"),
        (b"schedule: {hold_kimg: {8: 1.0, 8: 2.0}}\n", "the key '8'"),
        (b"schedule: {hold_kimg: {8:3.2}}\n", "blank"),
        (BOMB.encode(), "aliases"),
        (b"a: &a [*a]\n", "aliases"),
        (b"a: " + b"[" * 100_000, "levels"),
        (b"a: " + b"x" * (1 << 20), "1 MB"),
        (b"a: [1\n", "not valid"),
        (b"a: 1\n---\na: 2\n", "than one document"),
        (b"just text\n", "settings"),
        (b"# nothing\n", "settings"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_others_are_refused_by_one_message(content, word, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=word) as caught:
        without_retired(path)
    assert "my.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_aliases_and_merged_keys_that_stay_small_are_read(tmp_path):
    text = "a: &a {x: 1}\nb: *a\nc: {<<: *a, x: 2}\n"
    assert load_yaml(text) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 2}}
    with pytest.raises(UserError, match="'x'"):
        load_yaml("{x: 1, x: 2}")


def test_off_is_a_value_where_it_is_one(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(
        "wandb: off\nmodel: {init_args: {compile_mode: Off}}\ntrainer: {barebones: off}\n"
    )
    assert yaml.safe_load(without_retired(path)[0] or "") == {
        "wandb": "off",
        "model": {"init_args": {"compile_mode": "off"}},
        "trainer": {"barebones": False},
    }
