"""Nothing hidden stays in a string that is shown."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estbench.visible import visible, without_surrogates


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("a\x00b\x07\x08\x7f", r"a\x00b\x07\x08\x7f"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("a\u202egnp.exe\u2066", r"a\u202egnp.exe\u2066"),
        ("\u200b\u200e\u061c\ufeff\u2028\u2029", r"\u200b\u200e\u061c\ufeff\u2028\u2029"),
        ("\u3164\u2800\ufe0f\U000e0041", r"\u3164\u2800\ufe0f\U000e0041"),
        ("a\ud800b", r"a\ud800b"),
        ("Δ ELBO ± 3², größer, 変分, \u3000", "Δ ELBO ± 3², größer, 変分, \u3000"),
        (r"C:\x1b", r"C:\x1b"),
    ],
    ids=ascii,
)
def test_what_is_hidden_is_shown(hostile, shown):
    assert visible(hostile) == shown
    assert visible(shown) == shown


def test_every_control_format_and_surrogate_is_escaped():
    hidden = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in {"Cc", "Cf", "Cs"}]
    assert len(hidden) > 2000
    assert [sign for sign in hidden if not visible(sign).startswith("\\") or not visible(sign).isascii()] == []


def test_what_is_kept_is_kept():
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.recursive(st.text(st.characters()), lambda each: st.lists(each) | st.dictionaries(st.text(), each)))
def test_data_without_surrogates_can_be_written(data):
    repr_bytes = repr(without_surrogates(data)).encode()
    assert b"\\ud8" not in repr_bytes or "\\ud8" in repr(data)


def test_a_lone_surrogate_becomes_its_escape():
    assert without_surrogates({"a\udfff": ["b\ud800", 1, None]}) == {r"a\udfff": [r"b\ud800", 1, None]}
