"""Steps that torch compiles: the gradients of the eager ones, breaks that are named, failures that are told apart."""

from __future__ import annotations

import pytest
import torch

from estbench.plugins import load_plugin
from estbench.randomness import seeded
from estbench.training import State, take_steps
from estbench.training.compiled import CannotCompileError, CompiledSteps

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
NORMAL = "vae[dataset=digits,hidden=[8],latent_size=3]"
BITS = "vae[dataset=digits,hidden=[8],latent_size=3,latents=bernoulli]"
CATEGORIES = "vae[dataset=digits,hidden=[8],latent_size=2,latents=categorical,categories=3]"
PAIRS = [
    ("reparam", NORMAL),
    ("reinforce[baseline=nvil]", NORMAL),
    ("reinforce[baseline=ema]", NORMAL),
    ("rloo[num_samples=3]", NORMAL),
    ("disarm", BITS),
    ("gumbel-softmax", CATEGORIES),
]
# Without a C++ compiler: the same graphs, computed by torch's own kernels with torch's own noise.
BACKEND = "aot_eager"


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(("estimator", "problem"), PAIRS)
def test_a_compiled_step_is_the_eager_step(make_cell, estimator, problem):
    weights = []
    for compiled in (True, False):
        with seeded(5, CPU):
            state = State(make_cell(estimator, problem), CPU)
            if compiled:
                steps = CompiledSteps(state, BACKEND)
                surrogates = steps.take(3)
                assert steps.breaks == ()
            else:
                surrogates = take_steps(state, 6)[3:]
            parameters = [*state.problem.parameters(), *state.estimator.parameters()]
            weights.append((torch.stack(surrogates), [parameter.detach().clone() for parameter in parameters]))
            assert state.step == 6
            assert state.evaluations == 6 * state.batches.batch_size * state.evaluations_per_example
    (there, those), (here, these) = weights
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(those, these, rtol=1e-4, atol=1e-6)


BREAKS = """
import torch
from estbench.estimators import register
from estbench.estimators.continuous.pathwise import Reparam

@register("chatty")
class Chatty(Reparam):
    summary = "reparam, which breaks the graph"

    def forward(self, objective):
        torch._dynamo.graph_break()
        return super().forward(objective)
"""


def test_compiling_leaves_the_settings_of_torch_as_they_were(make_cell):
    before = torch.distributions.Distribution._validate_args, torch._dynamo.config.recompile_limit
    with seeded(5, CPU):
        CompiledSteps(State(make_cell("reparam", NORMAL), CPU), BACKEND).take(1)
    assert (torch.distributions.Distribution._validate_args, torch._dynamo.config.recompile_limit) == before


def test_what_breaks_the_graph_is_named(make_cell, plugin):
    load_plugin(plugin("breaking.py", BREAKS))
    with seeded(5, CPU):
        steps = CompiledSteps(State(make_cell("chatty", NORMAL), CPU), BACKEND)
    assert len(steps.breaks) == 1
    assert "graph_break" in steps.breaks[0]
    assert steps.seconds > 0


def test_a_step_that_fails_only_when_it_is_compiled_is_told_apart(make_cell):
    def refuse(graph, examples):
        raise RuntimeError("no compiler for this")

    with seeded(5, CPU), pytest.raises(CannotCompileError, match="no compiler for this"):
        CompiledSteps(State(make_cell("reparam", NORMAL), CPU), refuse)


def test_more_variants_are_compiled_than_torch_allows(make_cell):
    with seeded(5, CPU), torch._dynamo.config.patch(recompile_limit=1):
        for size in (4, 5, 6):
            steps = CompiledSteps(State(make_cell("reparam", NORMAL, training__batch_size=size), CPU), BACKEND)
            assert steps.breaks == ()


@pytest.mark.slow
def test_the_default_compiler_gives_finite_steps(make_cell):
    with seeded(5, CPU):
        steps = CompiledSteps(State(make_cell("reparam", NORMAL), CPU))
        assert torch.isfinite(torch.stack(steps.take(5))).all()
