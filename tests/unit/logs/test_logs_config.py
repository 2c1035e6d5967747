"""Options of configure_local_logs."""

from __future__ import annotations

import os
from typing import get_args

import pytest

from kumo_py.core.options import OptionError, convert, to_builtins
from kumo_py.logs import LocalLogsConfig, RecordType
from kumo_py.logs.config import RecordKey
from kumo_py.logs.disk_space import MinFree, lacking_on


def local_logs(**options: object) -> LocalLogsConfig:
    return convert({"log_dir": "/var/log/kumo", **options}, LocalLogsConfig, "kumo.configure_local_logs")


def test_defaults_are_kumomtas() -> None:
    assert to_builtins(local_logs()) == {
        "log_dir": "/var/log/kumo",
        "max_file_size": 1_000_000_000,
        "max_segment_duration": None,
        "back_pressure": 128_000,
        "compression_level": 0,
        "meta": [],
        "headers": [],
        "per_record": {},
        "filter_event": None,
        "min_free_space": "10%",
        "min_free_inodes": "10%",
    }


def test_all_options_as_a_policy_gives_them() -> None:
    config = local_logs(
        max_file_size=1e6,
        max_segment_duration="5 minutes",
        meta=["tenant", "x_*"],
        headers={},
        per_record={
            "Reception": {"suffix": "_recv", "segment_header": "csv\n"},
            "Delivery": {"log_dir": "/elsewhere"},
            "Any": {"enable": False},
        },
        filter_event="should_log",
        min_free_space=1024.0,
        min_free_inodes="5",
    )
    assert (config.max_file_size, config.max_segment_duration) == (1_000_000, 300.0)
    assert config.per_record["Reception"].suffix == "_recv"
    assert config.per_record["Delivery"].enable
    assert not config.per_record["Any"].enable
    assert (config.min_free_space.to_option(), config.min_free_inodes.to_option()) == (1024, 5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"log_dirs": "x"}, "unknown option 'log_dirs' (did you mean 'log_dir'?)"),
        ({"per_record": {"Recption": {}}}, "did you mean 'Reception'"),
        (
            {"per_record": {"Bounce": {"template": "{{ id"}}},
            "per_record.Bounce': template 'template' line 1: syntax",
        ),
        ({"per_record": {"Bounce": {"sufix": "x"}}}, "per_record.Bounce.sufix"),
        ({"compression_level": 22}, "compression_level"),
        ({"back_pressure": 0}, "back_pressure"),
        ({"min_free_space": "110%"}, "min_free_space"),
        ({"min_free_space": "lots"}, "'10%'"),
        ({"min_free_inodes": -1}, "min_free_inodes"),
        ({"min_free_inodes": True}, "min_free_inodes"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], told: str) -> None:
    with pytest.raises(OptionError) as raised:
        local_logs(**options)
    assert told in str(raised.value)


def test_per_record_knows_every_type_and_any() -> None:
    assert set(get_args(RecordKey)) == {*(kind.value for kind in RecordType), "Any"}


def statvfs(*, blocks: int, free: int, files: int, ffree: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, blocks, free, free, files, ffree, ffree, 0, 255))


@pytest.mark.parametrize(
    ("space", "inodes", "told"),
    [
        ("10%", "10%", None),
        ("21%", "10%", "20% of bytes free, at least 21% wanted"),
        ("10%", "16%", "15% of inodes free, at least 16% wanted"),
        (819_200, 150, None),
        (819_201, 150, "819200 bytes free, at least 819201 wanted"),
        (0, 151, "150 inodes free, at least 151 wanted"),
    ],
)
def test_space_and_inodes(
    monkeypatch: pytest.MonkeyPatch, space: object, inodes: object, told: str | None
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: statvfs(blocks=1000, free=200, files=1000, ffree=150))
    assert lacking_on("/", MinFree.from_option(space), MinFree.from_option(inodes)) == told


def test_file_system_without_inode_counts_lacks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: statvfs(blocks=1000, free=200, files=0, ffree=0))
    assert lacking_on("/", MinFree.from_option("10%"), MinFree.from_option("10%")) is None
