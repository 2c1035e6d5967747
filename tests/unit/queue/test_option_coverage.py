"""Every option of queues and of the ways out has a test that shows its effect."""

from __future__ import annotations

import option_markers


def test_every_option_has_a_test() -> None:
    tests = option_markers.marked()
    lacking = [
        option
        for option in option_markers.options()
        if option not in tests and option_markers.meaningless(option) is None
    ]
    assert lacking == [], "mark a test with @pytest.mark.option"


def test_every_mark_names_an_option_that_has_an_effect() -> None:
    known = {option for option in option_markers.options() if option_markers.meaningless(option) is None}
    functions = tuple(f"{name}." for name in option_markers.FUNCTIONS)
    wrong = {
        option: tests
        for option, tests in option_markers.marked().items()
        if option.startswith(functions) and option not in known
    }
    assert wrong == {}


def test_the_page_is_up_to_date() -> None:
    assert option_markers.PAGE.read_text() == option_markers.page(), "run `python tests/option_markers.py`"
