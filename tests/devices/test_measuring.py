"""Bounds, probes and all else that is measured: the numbers of the CPU, and as many waits whatever their size."""

from __future__ import annotations

import copy

import pytest
import torch

from estbench import estimators, measure, problems
from estbench.certify.simulated_backend import BACKEND
from estbench.certify.simulated_device import CPU, DEVICE, SimulatedDevice
from estbench.devices import choose_device, describe_device, double, has_float64, is_out_of_memory
from estbench.errors import EstbenchError
from estbench.measure.memory import PeakMemory
from estbench.randomness import kept_random_state, seeded

PROBLEM = "vae[dataset=digits,hidden=[8],latent_size=2]"
BITS = "vae[dataset=digits,hidden=[8],latent_size=3,latents=bernoulli]"
CONV = "vae[dataset=digits,network=conv[channels=[4]],latent_size=2]"
LAYERS = "hierarchical_vae[dataset=digits,hidden=[8],latent_size=2]"
SLOW_LOOP = pytest.param("rloo", "loop", 160, marks=pytest.mark.slow)
MULTI = "vae[dataset=digits,hidden=[8],latent_size=2,importance_samples=3]"


def problem_on(device, variant=PROBLEM):
    """A problem, and observations for it, with the same numbers on each device."""
    with seeded(0, CPU):
        problem = problems.create(variant)
    x = problem.observe(torch.from_numpy(problem.data.test[:16]), torch.Generator().manual_seed(0))
    return problem.to(device), x.to(device)


def estimator_on(device, name, problem):
    estimator = estimators.create_for(name, problem)
    return estimator.to(device)


def waits_of(simulated, measured):
    simulated.waits.clear()
    measured()
    return sum(simulated.waits.values())


@pytest.mark.parametrize("variant", [PROBLEM, BITS, CONV, LAYERS, MULTI])
def test_bounds_are_those_of_the_cpu(simulated, variant):
    there, here = (measure.evaluate_elbo(*problem_on(device, variant), 6, seed=3) for device in (DEVICE, CPU))
    assert there == here


@pytest.mark.parametrize("variant", [PROBLEM, LAYERS])
def test_larger_bounds_wait_no_more(simulated, variant):
    problem, x = problem_on(DEVICE, variant)
    larger = x.repeat(300, 1)
    few = waits_of(simulated, lambda: measure.evaluate_elbo(problem, x, 2, seed=0))
    many = waits_of(simulated, lambda: measure.evaluate_elbo(problem, larger, 40, seed=0))
    assert few == many <= 5, simulated.waits


@pytest.mark.parametrize(
    ("variant", "name", "path"),
    [
        (PROBLEM, "reparam", "fast"),
        (PROBLEM, "rloo", "loop"),
        (BITS, "disarm", "fast"),
        (BITS, "reinforce[baseline=ema]", "fast"),
        (CONV, "stl", "loop"),
        (MULTI, "dreg", "fast"),
    ],
)
def test_a_probe_has_the_numbers_of_the_cpu(simulated, variant, name, path):
    moments = []
    for device in (DEVICE, CPU):
        problem, x = problem_on(device, variant)
        estimator = estimator_on(device, name, problem)
        # A loop takes a backward call for each replicate.
        moments.append(measure.probe(problem, estimator, x, 20 if path == "fast" else 4, seed=3, path=path))
    assert moments[0].rows == moments[1].rows
    assert {moment.path for moment in moments} == {path}


@pytest.mark.parametrize(("name", "path", "allowed"), [("reparam", "fast", 120), SLOW_LOOP])
def test_a_larger_probe_waits_no_more(simulated, name, path, allowed):
    problem, x = problem_on(DEVICE)
    estimator = estimator_on(DEVICE, name, problem)
    replicates = 40 if path == "loop" else 1500
    few = waits_of(simulated, lambda: measure.probe(problem, estimator, x, 20, path=path))
    many = waits_of(simulated, lambda: measure.probe(problem, estimator, x, replicates, path=path))
    assert few == many <= allowed


def test_bias_against_the_exact_gradient_and_against_a_reference(simulated):
    moments = []
    for device in (DEVICE, CPU):
        problem, x = problem_on(device, BITS)
        exact = measure.exact_reference(problem, x)
        estimated = measure.estimated_reference(problem, estimator_on(device, "reinforce", problem), x, 20, seed=9)
        straight_through = estimator_on(device, "straight-through", problem)
        moments += [
            measure.probe(problem, straight_through, x, 20, seed=3, reference=each).rows for each in (exact, estimated)
        ]
    assert moments[:2] == moments[2:]
    assert {"bias2", "cosine"} <= {row["statistic"] for row in moments[0]}


def test_pictures_draws_and_metrics(simulated):
    found = []
    for device in (DEVICE, CPU):
        problem, x = problem_on(device)
        estimator = estimator_on(device, "rloo", problem)
        draws = measure.draw_gradients(problem, estimator, x, 3, seed=1)
        found.append(
            (measure.pictures(problem, x, seed=0), {name: value.cpu().tolist() for name, value in draws.items()})
        )
    assert found[0] == found[1]


def test_measuring_leaves_the_random_state_of_host_and_device(simulated):
    problem, x = problem_on(DEVICE)
    before = torch.get_rng_state(), BACKEND.get_rng_state()
    measure.evaluate_elbo(problem, x, 2, seed=0)
    measure.probe(problem, estimator_on(DEVICE, "reparam", problem), x, 20)
    with kept_random_state(DEVICE):
        torch.rand(3, device=DEVICE)
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], BACKEND.get_rng_state())


def test_measuring_on_the_cpu_does_not_touch_the_device(simulated):
    problem, x = problem_on(CPU)
    before = BACKEND.get_rng_state()
    with seeded(1, CPU):
        measure.evaluate_elbo(problem, x, 2, seed=0)
    assert torch.equal(before, BACKEND.get_rng_state())
    assert not simulated.waits


def test_without_double_precision_a_probe_is_taken_on_the_cpu_and_says_so():
    with SimulatedDevice(float64=False):
        problem, x = problem_on(DEVICE)
        assert not has_float64(DEVICE)
        estimator = estimator_on(DEVICE, "reparam", problem)
        moments = measure.probe(problem, estimator, x, 20, seed=3)
        bounds = measure.evaluate_elbo(problem, x, 6, seed=3)
        assert problem.device == DEVICE
        assert double(x).device == CPU
    here, x = problem_on(CPU)
    assert moments.rows == measure.probe(here, estimator_on(CPU, "reparam", here), x, 20, seed=3).rows
    assert moments.device == "cpu"
    assert bounds == measure.evaluate_elbo(here, x, 6, seed=3)


@pytest.mark.parametrize("most", [16 * 64 * 3, 64 * 5, 64])
def test_bounds_that_run_out_of_memory_take_smaller_pieces_and_are_the_same(most):
    x = problem_on(CPU)[1]
    whole = measure.evaluate_elbo(problem_on(CPU)[0], x, 8, seed=3)
    with SimulatedDevice() as simulated:
        problem, there = problem_on(DEVICE)
        simulated.most_numbers = max(most, there.numel())
        pieces = measure.evaluate_elbo(problem, there, 8, seed=3)
    assert pieces[:4] == pytest.approx(whole[:4], rel=1e-6)  # another order of rounding, the same draws
    assert pieces.active_units == whole.active_units


def test_a_probe_that_runs_out_of_memory_takes_smaller_chunks(simulated):
    problem, x = problem_on(DEVICE)
    estimator = estimator_on(DEVICE, "reparam", problem)
    simulated.most_numbers = 10 * 16 * 64  # ten replicates of the pixels
    moments = measure.probe(problem, estimator, x, 200, seed=3)
    simulated.most_numbers = None
    expected = measure.probe(problem, estimator, x, 200, seed=3)
    variance, of_all = (each.value("params", "loc", "variance") for each in (moments, expected))
    assert variance == pytest.approx(of_all, rel=0.5)  # other draws of the same distribution
    assert moments.path == "fast"


def test_what_cannot_be_made_smaller_is_an_error(simulated):
    problem, x = problem_on(DEVICE)
    simulated.most_numbers = 30
    with pytest.raises(torch.OutOfMemoryError):
        measure.evaluate_elbo(problem, x, 2, seed=0)


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_known(error, known):
    assert is_out_of_memory(error) is known


def test_the_memory_of_one_estimator_does_not_depend_on_others(simulated):
    def peak_of_rloo(others):
        kept = [problem_on(DEVICE) for _ in range(others)]
        memory = PeakMemory(DEVICE)
        memory.reset()
        problem, x = problem_on(DEVICE)
        estimator_on(DEVICE, "rloo", problem)(problem(x)).mean().backward()
        del kept
        return memory.bytes()

    assert peak_of_rloo(0) == peak_of_rloo(3) > 0


def test_throughput_is_timed_by_the_wall_clock_where_there_are_no_events(simulated):
    problem, x = problem_on(DEVICE)
    estimator = estimator_on(DEVICE, "reparam", problem)
    before = BACKEND.synchronisations
    rows = measure.measure_throughput({"a": lambda steps: estimator(problem(x)).sum()}, 2, 3, DEVICE)
    assert [row["round"] for row in rows] == [0, 1]
    assert all(row["seconds"] > 0 and row["peak_memory_bytes"] > 0 for row in rows)
    assert BACKEND.synchronisations - before == 2 * 3


def test_the_device_is_known_by_its_name_and_described(simulated):
    assert choose_device("simgpu") == torch.device("simgpu")
    described = describe_device(DEVICE)
    assert described["device"], described["device_name"] == ("simgpu", "simulated device")
    assert described["devices"] == 1
    with pytest.raises(EstbenchError, match="there is one SIMGPU device, 0"):
        choose_device("simgpu:1")


def test_weights_on_the_device_that_change_are_put_back(simulated):
    problem, _ = problem_on(DEVICE)
    before = copy.deepcopy(problem.state_dict())
    simulated.waits.clear()
    with measure.frozen(problem), torch.no_grad():
        next(problem.parameters()).zero_()
    assert sum(simulated.waits.values()) == 1
    assert all(torch.equal(before[name].cpu(), value.cpu()) for name, value in problem.state_dict().items())
