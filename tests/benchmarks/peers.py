"""A training step of estbench against other libraries, each written as its own documentation writes a VAE.

All train the same VAE, 784-200-200-20 with tanh, on the same 4,000 digits, in minibatches of 100 that are binarised
again at each access, by Adam with a learning rate of 0.001. Rounds are interleaved, and each ratio is taken to the
hand-written loop within a round. A library that cannot be imported is named and left out. On an otherwise idle machine:

    pip install pyro-ppl numpyro optax storchastic
    python tests/benchmarks/peers.py
    python tests/benchmarks/peers.py --only hand-written estbench jax --rounds 20
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from training_step import TWINS, hand_written, harness, normal_kl, perceptrons

from estbench import datasets
from estbench.measure import measure_throughput
from estbench.stats import log_t_interval

LATENTS, BATCH, RATE = 20, 100, 1e-3
Take = Callable[[int], object]


class Minibatches:
    """Binarised minibatches in an order that is shuffled each epoch, as torch tensors."""

    def __init__(self) -> None:
        self.pixels = torch.from_numpy(datasets.load("mnist5k").train)
        self.order = torch.empty(0, dtype=torch.int64)

    def __next__(self) -> Tensor:
        """The next one, (100, 784)."""
        if len(self.order) < BATCH:
            self.order = torch.randperm(len(self.pixels))
        chosen, self.order = self.order[:BATCH], self.order[BATCH:]
        return torch.bernoulli(self.pixels[chosen])


def torch_compile() -> Take:
    """The hand-written loss under torch.compile."""
    encoder, decoder = perceptrons(2 * LATENTS, LATENTS)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE, fused=True)
    loss_of = torch.compile(lambda x: TWINS["reparam"].loss(encoder(x), decoder, x))
    batches = Minibatches()

    def take(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss_of(next(batches)).backward()
            optimizer.step()

    return take


def pyro(*, reparameterized: bool) -> Take:
    """Pyro's VAE: a model, a guide, and stochastic variational inference with Trace_ELBO."""
    import pyro as library
    from pyro import distributions as dist
    from pyro.distributions.testing.fakes import NonreparameterizedNormal
    from pyro.infer import SVI, Trace_ELBO
    from pyro.optim import Adam

    library.clear_param_store()
    library.enable_validation(is_validate=False)
    encoder, decoder = perceptrons(2 * LATENTS, LATENTS)
    normal = dist.Normal if reparameterized else NonreparameterizedNormal

    def model(x: Tensor) -> None:
        library.module("decoder", decoder)
        with library.plate("data", len(x)):
            z = library.sample("z", dist.Normal(x.new_zeros(len(x), LATENTS), x.new_ones(len(x), LATENTS)).to_event(1))
            library.sample("x", dist.Bernoulli(logits=decoder(z), validate_args=False).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        library.module("encoder", encoder)
        with library.plate("data", len(x)):
            mu, log_sigma = encoder(x).chunk(2, dim=-1)
            library.sample("z", normal(mu, log_sigma.exp()).to_event(1))

    inference, batches = SVI(model, guide, Adam({"lr": RATE}), loss=Trace_ELBO()), Minibatches()

    def take(steps: int) -> None:
        for _ in range(steps):
            inference.step(next(batches))

    return take


def storchastic(*, reparameterized: bool) -> Take:
    """Storchastic's VAE: costs are added, and its backward finds the gradient."""
    import storch

    encoder, decoder = perceptrons(2 * LATENTS, LATENTS)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE)
    method: Any = storch.method.Reparameterization if reparameterized else storch.method.ScoreFunction
    sample, batches = method("z", n_samples=1), Minibatches()

    def take(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            x = storch.denote_independent(next(batches), 0, "data")
            mu, log_sigma = encoder(x).chunk(2, dim=-1)
            storch.add_cost(normal_kl(mu, log_sigma), "kl")
            logits = decoder(sample(torch.distributions.Normal(mu, log_sigma.exp())))
            cost = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
            storch.add_cost(cost, "reconstruction")
            storch.backward()
            optimizer.step()

    return take


def jax_parts() -> tuple[Any, Any, Any, Any]:
    """JAX, its pixels, and the two perceptrons as pairs of functions (initialise, apply)."""
    import jax
    from jax.example_libraries import stax

    def perceptron(outputs: int) -> Any:
        return stax.serial(stax.Dense(200), stax.Tanh, stax.Dense(200), stax.Tanh, stax.Dense(outputs))

    return jax, jax.numpy.asarray(datasets.load("mnist5k").train), perceptron(2 * LATENTS), perceptron(784)


def jax_optax() -> Take:
    """JAX and optax by hand: one compiled update a step."""
    import optax

    jax, pixels, (init_encoder, encode), (init_decoder, decode) = jax_parts()
    key = jax.random.PRNGKey(0)
    parameters = init_encoder(key, (BATCH, 784))[1], init_decoder(key, (BATCH, LATENTS))[1]
    optimizer = optax.adam(RATE)

    def loss_of(parameters: Any, key: Any, x: Any) -> Any:
        mu, log_sigma = jax.numpy.split(encode(parameters[0], x), 2, axis=-1)
        z = mu + jax.numpy.exp(log_sigma) * jax.random.normal(key, mu.shape)
        reconstruction = optax.sigmoid_binary_cross_entropy(decode(parameters[1], z), x).sum(-1)
        kl = -0.5 * (1 + 2 * log_sigma - mu**2 - jax.numpy.exp(2 * log_sigma)).sum(-1)
        return (reconstruction + kl).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(parameters: Any, state: Any, key: Any, chosen: Any) -> Any:
        key, of_pixels, of_latents = jax.random.split(key, 3)
        x = jax.random.bernoulli(of_pixels, pixels[chosen]).astype(pixels.dtype)
        gradient = jax.grad(loss_of)(parameters, of_latents, x)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(parameters, updates), state, key

    state, order = optimizer.init(parameters), np.empty(0, np.int64)

    def take(steps: int) -> None:
        nonlocal parameters, state, key, order
        for _ in range(steps):
            if len(order) < BATCH:
                order = np.random.default_rng().permutation(len(pixels))
            parameters, state, key = update(parameters, state, key, order[:BATCH])
            order = order[BATCH:]
        jax.block_until_ready(parameters)

    return take


def numpyro() -> Take:
    """NumPyro's VAE: all steps of a call in one compiled loop."""
    import numpyro as library
    from numpyro import distributions as dist
    from numpyro import optim
    from numpyro.infer import SVI, Trace_ELBO

    jax, pixels, encoder, decoder = jax_parts()

    def model(x: Any) -> None:
        decode = library.module("decoder", decoder, (BATCH, LATENTS))
        with library.plate("data", BATCH):
            z = library.sample("z", dist.Normal(0, 1).expand([LATENTS]).to_event(1))
            library.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        encode = library.module("encoder", encoder, (BATCH, 784))
        mu, log_sigma = jax.numpy.split(encode(x), 2, axis=-1)
        with library.plate("data", BATCH):
            library.sample("z", dist.Normal(mu, jax.numpy.exp(log_sigma)).to_event(1))

    inference = SVI(model, guide, optim.Adam(RATE), loss=Trace_ELBO())
    state, key = inference.init(jax.random.PRNGKey(0), pixels[:BATCH]), jax.random.PRNGKey(1)

    @partial(jax.jit, static_argnums=2, donate_argnums=0)
    def epoch(state: Any, key: Any, steps: int) -> Any:
        order = jax.random.permutation(key, len(pixels))

        def step(number: Any, state: Any) -> Any:
            start = (number * BATCH) % (len(pixels) - BATCH)
            chosen = jax.lax.dynamic_slice_in_dim(order, start, BATCH)
            x = jax.random.bernoulli(jax.random.fold_in(key, number), pixels[chosen]).astype(pixels.dtype)
            return inference.update(state, x)[0]

        return jax.lax.fori_loop(0, steps, step, state)

    def take(steps: int) -> None:
        nonlocal state, key
        key, of_epoch = jax.random.split(key)
        state = jax.block_until_ready(epoch(state, of_epoch, steps))

    return take


# What is measured: its maker, and the packages whose versions are printed.
SIDES: dict[str, tuple[Callable[[], Take], list[str]]] = {
    "hand-written": (partial(hand_written, TWINS["reparam"], "mlp"), ["torch"]),
    "estbench": (partial(harness, TWINS["reparam"], "mlp"), ["estbench"]),
    "torch.compile": (torch_compile, ["torch"]),
    "jax": (jax_optax, ["jax", "optax"]),
    "numpyro": (numpyro, ["numpyro"]),
    "pyro": (partial(pyro, reparameterized=True), ["pyro-ppl"]),
    "storchastic": (partial(storchastic, reparameterized=True), ["storchastic"]),
    "hand-written score": (partial(hand_written, TWINS["reinforce"], "mlp"), ["torch"]),
    "estbench score": (partial(harness, TWINS["reinforce"], "mlp"), ["estbench"]),
    "pyro score": (partial(pyro, reparameterized=False), ["pyro-ppl"]),
    "storchastic score": (partial(storchastic, reparameterized=False), ["storchastic"]),
}


def main() -> None:
    """Print the time of a step of each library, and its ratio to the hand-written loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40, help="training steps in a round")
    parser.add_argument("--only", choices=SIDES, nargs="+", default=[*SIDES])
    arguments = parser.parse_args()
    takes: dict[str, Take] = {}
    for side in dict.fromkeys(["hand-written", *arguments.only]):
        make, packages = SIDES[side]
        try:
            takes[side] = make()
            takes[side](arguments.steps)  # compiles
        except Exception as error:  # noqa: BLE001  (whatever a library of others raises)
            print(f"{side}: left out, {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            takes.pop(side, None)
        else:
            print(f"{side}:", *(f"{name} {importlib.metadata.version(name)}" for name in packages))
    rows = measure_throughput(takes, arguments.rounds, arguments.steps, torch.device("cpu"))
    seconds = {side: np.array([row["seconds"] for row in rows if row["estimator"] == side]) for side in takes}
    for side, each in seconds.items():
        ratio = log_t_interval(each / seconds["hand-written"])
        print(
            f"{side}: {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of the hand-written step, "
            f"{1e3 * np.median(each) / arguments.steps:.2f} ms; n = {ratio.n} paired rounds of {arguments.steps} steps"
        )


if __name__ == "__main__":
    main()
