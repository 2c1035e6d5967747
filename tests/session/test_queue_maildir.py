"""Delivery into maildirs: a file for each recipient, whatever the addresses hold."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import BODY, constant, start_node

from kumo_py.queue.config import DeliveryProtocol, QueueConfig

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


def maildirs(
    root: Path, template: str = "{{ domain_part }}/{{ local_part }}", **options: Any
) -> dict[str, Any]:
    protocol = DeliveryProtocol(maildir_path=f"{root}/{template}", **options)
    return {"get_queue_config": constant(QueueConfig(protocol=protocol))}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_a_message_is_one_file_in_new(nursery: trio.Nursery, tmp_path: Path) -> None:
    node = await start_node(nursery, maildirs(tmp_path))
    msg = await node.send("to@b.test")
    (path,) = files(tmp_path)
    assert path.parent == tmp_path / "b.test" / "to" / "new"
    assert path.read_bytes() == BODY
    assert {folder.name for folder in path.parent.parent.iterdir()} == {"tmp", "new", "cur"}
    (record,) = node.log.records
    assert (record.kind, record.code, record.recipients) == ("Delivery", 200, ("to@b.test",))
    assert record.content == f"to@b.test: wrote to maildir with id={path.name}"
    assert (record.context.delivery_protocol, record.site) == ("Maildir", "")
    assert not node.in_spool(msg)
    assert node.queues.ready == {}


async def test_each_recipient_has_a_copy(nursery: trio.Nursery, tmp_path: Path) -> None:
    node = await start_node(nursery, maildirs(tmp_path))
    await node.send("one@b.test", "two@b.test")
    assert [path.parent.parent.name for path in files(tmp_path)] == ["one", "two"]
    (record,) = node.log.records
    assert record.recipients == ("one@b.test", "two@b.test")
    assert record.content.count("wrote to maildir with id=") == 2


async def test_files_never_collide(nursery: trio.Nursery, tmp_path: Path) -> None:
    node = await start_node(nursery, maildirs(tmp_path, "all"))
    async with trio.open_nursery() as many:
        for _ in range(40):
            many.start_soon(node.send)
    assert len(files(tmp_path / "all" / "new")) == 40


@pytest.mark.option("make_queue_config.protocol.dir_mode")
@pytest.mark.option("make_queue_config.protocol.file_mode")
async def test_modes(nursery: trio.Nursery, tmp_path: Path) -> None:
    node = await start_node(nursery, maildirs(tmp_path, dir_mode=0o2770, file_mode=0o660))
    await node.send("to@b.test")
    (path,) = files(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    for folder in (path.parent, path.parent.parent, path.parent.parent / "cur"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2770


@pytest.mark.option("make_queue_config.protocol.maildir_path")
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ email }}", "To@b.test"),
        ("{{ local_part }}", "To"),
        ("{{ local_part | lower }}", "to"),
        ("{{ domain_part }}", "b.test"),
        ("{{ sender_email }}", "from@a.test"),
        ("{{ sender_domain_part }}/{{ sender_local_part }}", "a.test/from"),
        ("{{ tenant }}-{{ campaign }}-{{ domain }}-{{ routing_domain }}", "t-c-b.test-"),
        ("{{ meta.box }}", "inbox"),
        ("{{ queue }}", "c:t@b.test"),
        ("fixed", "fixed"),
    ],
)
async def test_the_path_is_a_template(
    nursery: trio.Nursery, tmp_path: Path, template: str, expected: str
) -> None:
    node = await start_node(nursery, maildirs(tmp_path, template))
    await node.send("To@b.test", meta={"tenant": "t", "campaign": "c", "box": "inbox"})
    (path,) = files(tmp_path)
    assert path.parent == tmp_path / expected / "new"


@pytest.mark.parametrize(
    "recipient",
    [
        '"../../etc"@b.test',
        '".."@b.test',
        '"."@b.test',
        '"a/b"@b.test',
        '"/etc/passwd"@b.test',
        '"a\0b"@b.test',
    ],
)
async def test_no_address_leads_out_of_the_maildir(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path, recipient: str
) -> None:
    root = tmp_path / "mail"
    node = await start_node(nursery, maildirs(root))
    msg = await node.send(recipient)
    await node.log.reach(1)
    outside = [path for path in files(tmp_path) if root not in path.parents]
    assert outside == []
    for path in files(root):
        assert path.relative_to(root).parts[0] == "b.test"
        assert len(path.relative_to(root).parts) == 4
    if node.log.kinds == ["TransientFailure"]:
        assert node.log.records[0].code == 400
        assert node.in_spool(msg)


@pytest.mark.parametrize("template", ["{{ nothing.there }}", "{{ unknown }}", "{{ broken"])
async def test_a_bad_template_is_a_transient_failure(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path, template: str
) -> None:
    node = await start_node(nursery, maildirs(tmp_path, template))
    msg = await node.send()
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 400)
    assert record.content.startswith("to@b.test: failed to write to maildir: ")
    assert (node.in_spool(msg), msg.attempts) == (True, 1)


async def test_only_the_failed_recipients_are_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    node = await start_node(nursery, maildirs(tmp_path))
    blocker = tmp_path / "b.test" / "bad"
    blocker.parent.mkdir()
    blocker.write_text("in the way")
    msg = await node.send("good@b.test", "bad@b.test", "fine@b.test")
    await node.log.reach(2)
    delivery, failure = node.log.records
    assert (delivery.kind, delivery.recipients) == ("Delivery", ("good@b.test", "fine@b.test"))
    assert (failure.kind, failure.code, failure.recipients) == ("TransientFailure", 400, ("bad@b.test",))
    assert failure.content.startswith("bad@b.test: failed to write to maildir: ")
    blocker.unlink()
    await node.log.reach(3)
    last = node.log.records[-1]
    assert (last.kind, last.recipients, last.attempts) == ("Delivery", ("bad@b.test",), 1)
    assert [path.parent.parent.name for path in files(tmp_path)] == ["bad", "fine", "good"]
    await trio.sleep(1)
    assert not node.in_spool(msg)


async def test_a_full_disk_leaves_no_partial_file(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    node = await start_node(nursery, maildirs(tmp_path))
    monkeypatch.setattr(os, "fsync", no_space)
    await node.send()
    await node.log.reach(1)
    assert files(tmp_path) == []
    assert "No space left on device" in node.log.records[0].content


async def test_content_that_is_gone_bounces(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    blocker = tmp_path / "b.test"
    blocker.write_text("in the way")
    node = await start_node(nursery, maildirs(tmp_path))
    msg = await node.send()
    await node.log.reach(1)
    node.data.remove(msg.id)
    blocker.unlink()
    await node.log.reach(2)
    assert node.log.brief == [("TransientFailure", 400), ("Bounce", 551)]
    await trio.sleep(1)
    assert not node.meta.stored
