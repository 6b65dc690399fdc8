"""Models with noise or statistics of their own: measuring, stopping and workers change no bit of their training."""

from __future__ import annotations

import pytest
from stateful_layers import PLUGIN, problem

from estbench.plugins import load_plugin
from estbench.store import Status

KINDS = ["dropout", "batchnorm"]
SIDES = ["encoder", "decoder"]


@pytest.fixture(autouse=True)
def _plugin(plugin):
    load_plugin(plugin("moving_plugin.py", PLUGIN))


def trained_bits(trained):
    """Final weights and buffers, and the curves."""
    assert trained.outcome.status is Status.DONE, trained.outcome.reason
    weights, curves, _ = trained.bits
    return weights, curves


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_probes_and_bounds_change_no_bit(train_cell, kind, side):
    watched = train_cell(problems=[problem(kind, side)])
    assert not watched.gradients.empty
    unwatched = train_cell(name="unwatched", problems=[problem(kind, side)], probe__replicates=0)
    assert trained_bits(watched) == trained_bits(unwatched)
    seldom = train_cell(name="seldom", problems=[problem(kind, side)], evaluation__every=1000, probe__points=5)
    assert seldom.record["fingerprints"] == watched.record["fingerprints"]
    plain = train_cell(name="plain", problems=["vae[dataset=digits,hidden=[8],latent_size=2]"])
    assert plain.record["fingerprints"]["final_weights"] != watched.record["fingerprints"]["final_weights"]


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_to_the_same_bits(train_cell, stop_at, kind, side):
    whole = train_cell(name="whole", problems=[problem(kind, side)])
    stopped = train_cell(problems=[problem(kind, side)], options={"interrupted": stop_at(13)})
    assert stopped.outcome.status is Status.INTERRUPTED
    finished = train_cell(problems=[problem(kind, side)])
    assert (finished.outcome.status, finished.bits) == (Status.DONE, whole.bits)
