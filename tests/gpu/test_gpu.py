"""What only a GPU can show: bits, memory, waits and seconds. Skipped, and said so, where there is none."""

from __future__ import annotations

import json
import time
import warnings

import pytest
import torch

from estbench import devices, estimators, measure, problems
from estbench.estimators import ESTIMATORS
from estbench.measure.memory import PeakMemory
from estbench.randomness import seeded
from estbench.store import ResultsFolder, Status
from estbench.training import State, run_cell, take_steps
from estbench.training.compiled import CompiledSteps
from estbench.training.state import fingerprint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
NORMAL = "vae[dataset=digits,hidden=[64],latent_size=10]"
BITS = "vae[dataset=digits,hidden=[64],latent_size=10,latents=bernoulli]"
CATEGORIES = "vae[dataset=digits,hidden=[64],latent_size=4,latents=categorical,categories=5]"
FAMILIES = {
    NORMAL: ("reparam", "stl", "rloo", "reinforce[baseline=ema]", "reinforce[baseline=nvil]", "rqmc"),
    BITS: ("disarm", "arms", "rebar", "relax", "straight-through", "enumeration"),
    CATEGORIES: ("gumbel-softmax", "reinmax", "arsm", "unordered-set", "local-expectation"),
}
PAIRS = [(each, problem) for problem, some in FAMILIES.items() for each in some]


def state_on(device, cell):
    with seeded(7, device):
        return State(cell, device)


def problem_on(device, variant=NORMAL, count=64):
    with seeded(0, CPU):
        problem = problems.create(variant)
    x = problem.observe(torch.from_numpy(problem.data.test[:count]), torch.Generator().manual_seed(0))
    return problem.to(device), x.to(device)


def stop_after(steps):
    asked = iter(range(10_000))
    return lambda: next(asked) > steps


def final_weights(folder):
    records = [json.loads(path.read_text("utf-8")) for path in folder.glob("cells/*/cell.json")]
    return {record["fingerprints"]["final_weights"] for record in records}


def computed(cell, path, **options):
    folder = ResultsFolder(path)
    folder.create()
    return run_cell(cell, folder, CUDA, **options)


@pytest.mark.parametrize("estimator", ["reparam", "rloo", "reinforce[baseline=nvil]"])
def test_a_run_that_is_stopped_and_resumed_ends_in_the_same_bits(make_cell, tmp_path, estimator):
    cell = make_cell(estimator, NORMAL)
    assert computed(cell, tmp_path / "whole").status is Status.DONE
    assert computed(cell, tmp_path / "stopped", interrupted=stop_after(12)).status is Status.INTERRUPTED
    assert computed(cell, tmp_path / "stopped").status is Status.DONE
    assert len(final_weights(tmp_path / "whole") | final_weights(tmp_path / "stopped")) == 1


def test_a_probe_leaves_training_as_it_is_to_the_bit(make_cell, tmp_path):
    computed(make_cell("rloo", NORMAL, probe__shared="reparam", probe__replicates=20), tmp_path / "with")
    computed(make_cell("rloo", NORMAL, probe__replicates=0), tmp_path / "without")
    assert len(final_weights(tmp_path / "with") | final_weights(tmp_path / "without")) == 1


@pytest.mark.parametrize(("estimator", "problem"), PAIRS)
def test_no_training_step_waits_as_cuda_counts(make_cell, estimator, problem):
    """As the simulated accelerator says, for every estimator."""
    state = state_on(CUDA, make_cell(estimator, problem))
    with seeded(8, CUDA):
        take_steps(state, 3)
        torch.cuda.synchronize()
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                take_steps(state, 3)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert [str(each.message) for each in found if "synchroniz" in str(each.message)] == []


def test_all_estimators_of_these_families_are_known():
    assert {name.partition("[")[0] for name, _ in PAIRS} <= {*ESTIMATORS.names()}


def test_the_memory_of_one_estimator_does_not_depend_on_others():
    def peak_beside(others):
        kept = [problem_on(CUDA, count=500) for _ in range(others)]
        memory = PeakMemory(CUDA)
        memory.reset()
        problem, x = problem_on(CUDA, count=500)
        estimators.create_for("rloo[num_samples=8]", problem).to(CUDA)(problem(x)).mean().backward()
        torch.cuda.synchronize()
        del kept
        return memory.bytes()

    alone, beside = peak_beside(0), peak_beside(4)
    assert alone > 2**20
    assert beside == pytest.approx(alone, rel=0.05)


def test_events_and_the_wall_clock_agree(make_cell):
    state = state_on(CUDA, make_cell("rloo", NORMAL))
    with seeded(8, CUDA):
        take_steps(state, 20)
        (row,) = measure.measure_throughput({"a": lambda steps: take_steps(state, steps)}, 1, 300, CUDA)
        torch.cuda.synchronize()
        began = time.perf_counter()
        take_steps(state, 300)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    assert row["seconds"] == pytest.approx(seconds, rel=0.3)


@pytest.mark.parametrize(("estimator", "problem"), [("reparam", NORMAL), ("rloo", NORMAL), ("disarm", BITS)])
def test_a_compiled_step_has_the_gradient_of_an_eager_one(make_cell, estimator, problem):
    """With torch's own noise in place of the compiler's: then the two draw alike."""
    gradients = []
    with torch._inductor.config.patch(fallback_random=True):
        for compiled in (True, False):
            state = state_on(CUDA, make_cell(estimator, problem))
            with seeded(8, CUDA):
                if compiled:
                    steps = CompiledSteps(state)
                    assert steps.breaks == ()
                else:
                    take_steps(state, 3)
            with seeded(9, CUDA):
                steps.take(1) if compiled else take_steps(state, 1)
            gradients.append(torch.cat([parameter.grad.flatten() for parameter in state.problem.parameters()]))
    scale = gradients[1].norm()
    assert float((gradients[0] - gradients[1]).norm() / scale) < 1e-3


def test_bounds_without_enough_memory_take_smaller_pieces(monkeypatch):
    problem, x = problem_on(CUDA, count=200)
    whole = measure.evaluate_elbo(problem, x, 64, seed=3)
    bound_terms, failed = type(problem(x)).bound_terms, []

    def short(self, z):
        if len(z) * len(x) > 1000:
            failed.append(len(z))
            torch.empty(2**50, device=CUDA)  # raises torch's own error
        return bound_terms(self, z)

    monkeypatch.setattr(type(problem(x)), "bound_terms", short)
    assert measure.evaluate_elbo(problem, x, 64, seed=3)[:2] == pytest.approx(whole[:2], rel=1e-5)
    assert failed


@pytest.mark.parametrize("variant", FAMILIES)
def test_bounds_are_those_of_the_cpu_within_their_error(variant):
    draws = []
    for device in (CUDA, CPU):
        problem, x = problem_on(device, variant, count=100)
        draws.append([measure.evaluate_elbo(problem, x, 20, seed).elbo for seed in range(20)])
    there, here = torch.tensor(draws[0]), torch.tensor(draws[1])
    error = (there.var() / 20 + here.var() / 20).sqrt()
    z = float((there.mean() - here.mean()) / error.clamp(min=1e-5 * here.mean().abs()))
    assert abs(z) < 4.5  # a false alarm in 150,000, per family


def test_weights_begin_with_the_bits_of_the_cpu(make_cell):
    assert len({fingerprint(state_on(device, make_cell()).problem) for device in (CUDA, CPU)}) == 1


def test_the_environment_names_the_card_and_its_software():
    described = devices.describe_device(CUDA)
    assert described["device_name"] == torch.cuda.get_device_name(0)
    assert described["cuda"]
    assert described["cudnn"]
    assert described["tf32"] in {True, False}
    assert described["devices"] == torch.cuda.device_count()
