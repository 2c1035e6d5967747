"""The bounce classifier: rules, their order, files, caches."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from kumo_py.core.options import OptionError, convert
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.logs import ClassifierConfig, DeliveryLog, LocalLogsConfig, LogContext, RecordType
from kumo_py.logs.classifier import OUR_RULES, BounceClassifier, Rule, read_rules
from kumo_py.logs.reader import records
from kumo_py.message.message import Message
from kumo_py.proto.reply import Response


def classifier(*rules: tuple[str, str], size: int = 100) -> BounceClassifier:
    made = [Rule(label, expression, "here") for label, expression in rules]
    return BounceClassifier(made, cache_size=size, uncategorized_cache_size=size)


def label(one: BounceClassifier, text: str) -> str:
    response = Response.from_text(int(text[:3]), text[4:])
    found: str = orjson.loads(one.label(response))
    return found


def test_the_first_rule_wins() -> None:
    one = classifier(("foo", "woot"), ("foo", "aaa"), ("bar", "aaa"), ("bar", "bbb"), ("last", "^5.. "))
    assert [label(one, f"550 {text}") for text in ("x woot", "aaa bbb", "bbb", "zzz")] == [
        "foo", "foo", "bar", "last"
    ]  # fmt: skip
    assert label(one, "450 zzz") == "Uncategorized"


def test_rules_are_in_rust_syntax_and_see_one_line() -> None:
    one = classifier(
        ("case", r"(?i)MAILBOX\s+full"), ("unicode", r"^550 5\.1\.1 \p{Greek}+$"), ("lines", "a b")
    )
    assert label(one, "552 the mailbox  Full") == "case"
    assert label(one, "550 5.1.1 ωχ") == "unicode"
    assert label(one, "550 x a\nb") == "lines"


def test_answers_are_remembered_apart() -> None:
    one = classifier(("x", "^5"), size=3)
    for n in range(10):
        assert label(one, f"550 {n}") == "x"
        assert label(one, f"450 {n}") == "Uncategorized"
    assert list(one._labelled) == ["550 7", "550 8", "550 9"]
    assert list(one._unlabelled) == ["450 7", "450 8", "450 9"]
    label(one, "550 7")
    label(one, "550 new")
    assert list(one._labelled) == ["550 9", "550 7", "550 new"]


def test_without_rules_nothing_is_labelled() -> None:
    assert label(classifier(), "550 x") == "Uncategorized"


def test_a_hostile_answer_takes_linear_time() -> None:
    one = classifier(("x", "(a+)+b"), ("y", "(.*){10}c"))
    assert label(one, "550 " + "a" * 100_000) == "Uncategorized"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.1.1 no such user", "InvalidRecipient"),
        ("552 5.2.2 full", "QuotaIssues"),
        ("452 4.2.2 full", "QuotaIssues"),
        ("550 5.2.1 disabled", "InactiveMailbox"),
        ("525 5.7.13 disabled", "InactiveMailbox"),
        ("550 5.7.17 another owner", "InvalidRecipient"),
        ("556 5.1.10 null MX", "BadDomain"),
        ("550 5.7.26 no authentication", "AuthenticationFailed"),
        ("550 5.7.1 go away", "PolicyRelated"),
        ("452 4.5.3 too many", "TooManyRecipients"),
        ("500 5.5.2 what", "ProtocolErrors"),
        ("551 5.4.7 too old", "MessageExpired"),
        ("352 5.2.2 full", "Uncategorized"),
        ("550 no code", "Uncategorized"),
    ],
)
def test_our_own_rules(text: str, expected: str) -> None:
    # KumoMTA's path means our rules, where KumoMTA is not installed.
    config = ClassifierConfig(files=["/opt/kumomta/share/bounce_classifier/iana.toml"])
    assert label(BounceClassifier.load(config), text) == expected


def test_rules_for_providers() -> None:
    """Each example has the label that it should have, and each expression an example."""
    *_, providers = own = list(OUR_RULES)
    config = ClassifierConfig(files=[providers, own[0]])
    one = BounceClassifier.load(config)
    expressions = set(range(len(read_rules(providers))))
    lines = (Path(__file__).parent / "bounce_examples.txt").read_text().splitlines()
    for line in lines[1:]:
        expected, _, text = line.partition(" ")
        assert (text, label(one, text)) == (text, expected)
        expressions -= set(one._set.Match(Response.from_text(int(text[:3]), text[4:]).to_single_line()) or ())
    assert [read_rules(providers)[n].expression for n in sorted(expressions)] == []


def test_files_are_merged_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[rules]\nB = ['x']\nA = ['x', 'y']\n")
    (tmp_path / "b.json").write_text('{"rules": {"C": ["y", "z"]}}')
    config = ClassifierConfig(files=[str(tmp_path / "a.toml"), str(tmp_path / "b.json")])
    one = BounceClassifier.load(config)
    assert [label(one, f"550 {text}") for text in "xyz"] == ["B", "A", "C"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "rules = 3", "a.toml is no rule file: Expected `object`"),
        ("a.toml", "[rules", "a.toml is no rule file"),
        ("a.json", "{}", "missing required field `rules`"),
        ("a.toml", "[rules]\nA = ['ok', '(']", r"a.toml: rules.A\[2\]: '\(': "),
        ("a.toml", "[rules]\nA = ['(?<=x)y']", r"rules.A\[1\]"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        BounceClassifier.load(ClassifierConfig(files=[str(tmp_path / name)]))


def test_a_file_of_another_kind_is_a_mistake_of_the_options() -> None:
    with pytest.raises(OptionError, match=r"rules.txt: the name of a rule file must end in .toml or .json"):
        convert({"files": ["rules.txt"]}, ClassifierConfig, "kumo.configure_bounce_classifier")


async def test_records_of_failures_have_the_label(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[rules]\nOdd = ['odd']\n")
    log = DeliveryLog("557f3ad4-2c8c-11ee-976e-782d7e12e173", lambda: 0.0)
    await log.add_local(convert({"log_dir": str(tmp_path / "logs")}, LocalLogsConfig, "x"))
    await log.set_classifier(ClassifierConfig(files=[str(tmp_path / "rules.toml")]))
    with pytest.raises(ValueError, match="there is a bounce classifier already"):
        await log.set_classifier(ClassifierConfig(files=[]))
    msg = Message(SpoolIdSource(b"logids", 0).next(1), "a@b", ("c@d",), {}, b"x")
    for kind in RecordType:
        await log.record(kind, msg, Response(250, None, "odd"), LogContext())
    await log.record_rejection("", (), Response(550, None, "odd"), LogContext(), {})
    (tmp_path / "rules.toml").write_text("[rules]\nNew = ['odd']\n")
    await log.reload_classifier()
    await log.record(RecordType.Bounce, msg, Response(550, None, "odd"), LogContext())
    (tmp_path / "rules.toml").write_text("[rules")
    with capture_logs() as logged:
        await log.reload_classifier()
    await log.record(RecordType.Bounce, msg, Response(550, None, "odd 2"), LogContext())
    await log.aclose()
    *found, last, kept = list(records(tmp_path / "logs"))
    labelled = {record["type"] for record in found if record["bounce_classification"] == "Odd"}
    assert labelled == {
        "Bounce", "TransientFailure", "Expiration", "AdminBounce", "OOB", "Feedback", "Rejection"
    }  # fmt: skip
    assert {r["bounce_classification"] for r in found} == {"Odd", "Uncategorized"}
    assert last["bounce_classification"] == kept["bounce_classification"] == "New"
    assert logged[0]["event"] == "the bounce classifier keeps its old rules"
