"""A name with options reads the same however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estbench import EstbenchError
from estbench.variant import Variant, parse_value

WRITTEN = [
    ("reparam", "reparam", {}),
    ("  reparam  ", "reparam", {}),
    ("reparam[]", "reparam", {}),
    ("rloo[num_samples=4]", "rloo", {"num_samples": 4}),
    ("rloo[ num_samples = 4 ]", "rloo", {"num_samples": 4}),
    ("my-est_2[x=1]", "my-est_2", {"x": 1}),
    ("vae[hidden=[200,100],latent_size=2]", "vae", {"hidden": [200, 100], "latent_size": 2}),
    ("vae[hidden=[[1,2],[3]]]", "vae", {"hidden": [[1, 2], [3]]}),
    ("vae[hidden=[]]", "vae", {"hidden": []}),
    ("e[rate=1e-3,on=true,off=false,n=-2]", "e", {"rate": 1e-3, "on": True, "off": False, "n": -2}),
    ("e[word=ema,path=a.b-c]", "e", {"word": "ema", "path": "a.b-c"}),
    ("vae[dataset=file:my/faces.npz,latent_size=2]", "vae", {"dataset": "file:my/faces.npz", "latent_size": 2}),
    ("vae[dataset=file:~/a_1/b-2.csv.gz]", "vae", {"dataset": "file:~/a_1/b-2.csv.gz"}),
    ("vae[dataset=file:../faces]", "vae", {"dataset": "file:../faces"}),
    ('vae[dataset="file:my faces.npz"]', "vae", {"dataset": "file:my faces.npz"}),
    ('e[text="two words"]', "e", {"text": "two words"}),
]


@pytest.mark.parametrize(("text", "name", "options"), WRITTEN)
def test_a_variant_is_read(text, name, options):
    assert Variant.parse(text) == Variant(name, options)


@pytest.mark.parametrize("text", [text for text, _, _ in WRITTEN if '"' not in text])
def test_a_variant_is_written_as_it_is_read(text):
    variant = Variant.parse(text)
    assert Variant.parse(str(variant)) == variant


@given(st.text())
def test_any_text_is_read_as_it_is_written(value):
    variant = Variant("e", {"x": value})
    assert Variant.parse(str(variant)) == variant


@pytest.mark.parametrize(
    "value",
    [
        "true",
        "4",
        "1e-3",
        "two words",
        "file:a b",
        "file:a'b",
        "12:30",
        "/x",
        "\x7f",
        "\n",
        "é",
        "",
        "nan",
        'say "so"',
        "[1",
        "a,b",
        "a]b",
    ],
)
def test_a_text_that_looks_like_something_else_is_quoted(value):
    variant = Variant("e", {"x": value})
    assert Variant.parse(str(variant)) == variant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "[a=1]",
        "re param",
        "rloo[num_samples=4",
        "rloo num_samples=4]",
        "../x",
        "-x",
        "rloo]",
        "é",
    ],
)
def test_what_is_no_variant_is_refused_with_an_example(text):
    with pytest.raises(EstbenchError, match=r"write name or name\[option=value,\.\.\.\]"):
        Variant.parse(text)


def test_what_is_meant_is_said():
    with pytest.raises(EstbenchError, match="lower case: reparam"):
        Variant.parse("Reparam")
    for several in ("reparam,rloo", "rloo[num_samples=2], stl", "rloo, reinforce[baseline=ema,num_samples=4]"):
        with pytest.raises(EstbenchError, match="one at a time"):
            Variant.parse(several)


@pytest.mark.parametrize("text", ["rloo[4]", "rloo[num_samples]", "rloo[num_samples=]", "rloo[=4]"])
def test_an_option_without_its_name_or_value_is_refused(text):
    with pytest.raises(EstbenchError, match="write option=value"):
        Variant.parse(text)


@pytest.mark.parametrize("text", ["e[x=[1,2]", "e[x=1]]", "e[x=1][y=2]", "e[x='a]", "e[x=1.2.3]", "e[x=a b]"])
def test_a_value_that_is_no_value_is_refused(text):
    with pytest.raises(EstbenchError, match="cannot read"):
        Variant.parse(text)


def test_an_option_given_twice_is_refused():
    with pytest.raises(EstbenchError, match="'num_samples' is given twice"):
        Variant.parse("rloo[num_samples=4,num_samples=8]")


def test_a_value_cannot_smuggle_in_a_second_line():
    with pytest.raises(EstbenchError, match="cannot read the value"):
        parse_value("1\nother = 2")
