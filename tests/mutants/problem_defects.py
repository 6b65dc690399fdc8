"""Problems with one defect each, of the kind that people's own models have had."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from estbench.datasets import Dataset
from estbench.problems import Objective
from estbench.problems.objective import BoundTerms
from estbench.problems.vae import VAE

BITS = "dataset=digits,hidden=[4],latent_size=3,latents=bernoulli"
NORMAL = "dataset=digits,hidden=[4],latent_size=3"


class Correct(VAE):
    """A VAE without a defect, which the mutants are made from."""

    summary = "a mutant"

    def changed(self, objective, **changes):
        """Return the objective with other arguments."""
        given = {
            "params": objective.params,
            "family": self.family.family,
            "log_likelihood": objective._log_likelihood,
            "prior": objective._prior,
            "context": objective.context,
            "kl": objective._kl,
        }
        return Objective(**{**given, **changes})


class WithOtherData(Correct):
    def __init__(self, options=None):
        super().__init__(options)
        splits = {split: getattr(self.data, split).copy() for split in ("train", "validation", "test")}
        self.data = Dataset("other", **self.damage(splits), shape=self.data.shape)


class TwoShapes(WithOtherData):
    """The test images lack a column."""

    def damage(self, splits):
        return {**splits, "test": splits["test"][:, 1:]}


class MissingValues(WithOtherData):
    def damage(self, splits):
        splits["validation"][3, 5] = np.nan
        return splits


class TwoPrecisions(WithOtherData):
    def damage(self, splits):
        return {**splits, "test": splits["test"].astype(np.float64)}


class GlobalNoise(Correct):
    """Pixels are drawn from the generator that estimators draw from."""

    def observe(self, intensities, generator):
        return torch.rand_like(intensities).lt_(intensities)


class NoiseOfNumPy(Correct):
    def observe(self, intensities, generator):
        noise = torch.from_numpy(np.random.random(intensities.shape))  # noqa: NPY002
        return (noise < intensities).to(intensities)


class LosesTheBatch(Correct):
    def observe(self, intensities, generator):
        return super().observe(intensities, generator).view(1, -1, 8, 8)


class ClaimsNormal(Correct):
    """q is of bits."""

    @classmethod
    def latents_of(cls, options):
        return "normal"


class ClaimsManySamples(Correct):
    @classmethod
    def bound_of(cls, options):
        return "multi-sample"


class PartsOfADensity(Correct):
    """A density for each latent in place of one for each example."""

    def objective(self, params, x):
        bernoulli = torch.distributions.Bernoulli
        prior = bernoulli(logits=torch.zeros(self.options.latent_size))
        decoded = lambda z: super(PartsOfADensity, self).objective(params, x).f(z)  # noqa: E731
        return Objective(params, lambda p: bernoulli(logits=p["logits"]), decoded, lambda: prior)


class OneRowForAll(Correct):
    def encode(self, x):
        return {name: value[:1] for name, value in super().encode(x).items()}


class NotANumber(Correct):
    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(objective, log_likelihood=lambda z: objective._log_likelihood(z).log())


class TooHigh(Correct):
    """The ELBO's terms lack the KL that the importance weights have."""

    def objective(self, params, x):
        class Objective2(Objective):
            def bound_terms(self, z):
                terms = super().bound_terms(z)
                return BoundTerms(terms.log_likelihood + 5, terms.log_weight, terms.log_likelihood)

        objective = super().objective(params, x)
        objective.__class__ = Objective2
        return objective


class CountsInEval(Correct):
    """A buffer that changes whenever the model is called."""

    def __init__(self, options=None):
        super().__init__(options)
        self.register_buffer("calls", torch.zeros(()))

    def encode(self, x):
        self.calls += 1
        return super().encode(x)


class StaysInTraining(Correct):
    """A batch normalisation that uses the batch in eval mode too."""

    def __init__(self, options=None):
        super().__init__(options)
        self.encoder.insert(1, nn.BatchNorm1d(4))

    def train(self, mode=True):
        super().train(mode)
        self.encoder[1].train()
        return self


class NeverTheSame(Correct):
    """An attribute that changes f in eval mode."""

    calls = 0

    def objective(self, params, x):
        objective, calls = super().objective(params, x), self.calls
        self.calls += 1
        return self.changed(objective, log_likelihood=lambda z: objective._log_likelihood(z) - calls)


class DoublesTheKL(Correct):
    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(objective, kl=lambda: 2 * objective.kl())


class ClampsTheKL(Correct):
    """Free bits: the KL is another one only where it is small."""

    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(objective, kl=lambda: objective.kl().clamp(min=0.1))


class WarmsUpTheKL(Correct):
    """A weight of the KL that is not stated, and only in training."""

    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(objective, kl=lambda: (0.1 if self.training else 1.0) * objective.kl())


class MixesSamples(Correct):
    """Samples and examples are flattened in one order, and put back in another."""

    def objective(self, params, x):
        objective = super().objective(params, x)

        def log_likelihood(z):
            rows = z.transpose(0, -2).flatten(0, -2)
            return objective._log_likelihood(rows.unflatten(0, z.shape[:-1]))

        return self.changed(objective, log_likelihood=log_likelihood)


class SumsOverSamples(Correct):
    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(objective, log_likelihood=lambda z: objective._log_likelihood(z - z.mean(0) + z[:1]))


class MixesTheBatch(Correct):
    """Examples are centred by their own batch."""

    def encode(self, x):
        return super().encode(x - x.mean(0))


class MixesInTheDecoder(Correct):
    """The likelihood takes the mean over the batch off."""

    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(objective, log_likelihood=lambda z: self.centred(objective._log_likelihood(z)))

    def centred(self, values):
        return values - 0.1 * values.mean(-1, keepdim=True)


class ForgetsAWeight(Correct):
    def groups(self):
        groups = super().groups()
        return {**groups, "decoder": groups["decoder"][:-1]}


class CountsAWeightTwice(Correct):
    def groups(self):
        groups = super().groups()
        return {**groups, "decoder": [*groups["decoder"], groups["encoder"][0]]}


class ForeignWeight(Correct):
    """A weight in a list, which torch does not find."""

    def __init__(self, options=None):
        super().__init__(options)
        self.kept = [nn.Parameter(torch.zeros(2))]

    def groups(self):
        groups = super().groups()
        return {**groups, "decoder": [*groups["decoder"], *self.kept]}


class IdleWeight(Correct):
    def __init__(self, options=None):
        super().__init__(options)
        self.decoder_scale = nn.Parameter(torch.zeros(2))


class ExactIsOff(Correct):
    """A constant is missing in the closed form."""

    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(objective, expectation=lambda: objective.exact() + 0.5)


class ExactWithoutGradient(Correct):
    """The closed form does not depend on the decoder."""

    def objective(self, params, x):
        objective = super().objective(params, x)

        def expectation():
            kl = objective.kl()
            return (objective.exact() + kl).detach() - kl

        return self.changed(objective, expectation=expectation)


class OwnInitialNoise(Correct):
    """Initial weights from NumPy's generator."""

    def __init__(self, options=None):
        super().__init__(options)
        with torch.no_grad():
            self.encoder[0].bias.copy_(torch.from_numpy(np.random.standard_normal(4)))  # noqa: NPY002


class FreshGenerator(Correct):
    def __init__(self, options=None):
        super().__init__(options)
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            self.encoder[0].bias.copy_(torch.rand(4, generator=generator))


class HidesItsState(Correct):
    """An attribute that counts steps, and that f depends on."""

    steps = 0

    def objective(self, params, x):
        if self.training:
            self.steps += 1
        objective, shift = super().objective(params, x), self.shift()
        return self.changed(objective, log_likelihood=lambda z: objective._log_likelihood(z) - shift)

    def shift(self):
        return self.steps


class HidesItsSchedule(HidesItsState):
    """f depends on the counter only in training."""

    def shift(self):
        return self.steps if self.training else 0


class ForgetsABuffer(Correct):
    """Running statistics that are not saved."""

    def __init__(self, options=None):
        super().__init__(options)
        self.register_buffer("mean", torch.zeros(self.data.size), persistent=False)

    def encode(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return super().encode(x - self.mean)


# The defect, its options, the check that must fail, and what its message must say.
DEFECTS = [
    (TwoShapes, BITS, "data", ["63", "64", "same columns"]),
    (MissingValues, BITS, "data", ["validation", "row 3", "column 5"]),
    (TwoPrecisions, BITS, "data", ["float32, float64"]),
    (GlobalNoise, BITS, "observations", ["global random state", "generator=generator"]),
    (NoiseOfNumPy, BITS, "observations", ["same seed", "generator=generator"]),
    (LosesTheBatch, BITS, "observations", ["(1, 8, 8, 8)", "one row for each"]),
    (ClaimsNormal, BITS, "parameters", ["latents are normal", "Bernoulli", "latents_of"]),
    (ClaimsManySamples, BITS, "parameters", ["multi-sample", "K = 1", "bound_of"]),
    (PartsOfADensity, BITS, "parameters", ["(8, 3)", "Independent"]),
    (OneRowForAll, BITS, "parameters", ["logits", "(1, 3)", "one row for each"]),
    (NotANumber, BITS, "bounds", ["nan", "logarithms"]),
    (TooHigh, BITS, "bounds", ["below the ELBO"]),
    (CountsInEval, BITS, "eval mode", ["calls changed", "self.training"]),
    (StaysInTraining, BITS, "eval mode", ["encoder.1 is in training mode"]),
    (NeverTheSame, BITS, "eval mode", ["another f"]),
    (DoublesTheKL, BITS, "closed-form KL", ["where KL(q || p) is", "kl_weight"]),
    (ClampsTheKL, BITS, "closed-form KL", ["0.1 where KL(q || p) is 0"]),
    (WarmsUpTheKL, NORMAL, "closed-form KL", ["in training mode", "kl_weight"]),
    (MixesSamples, NORMAL, "leading dimensions", ["at 3 samples at once", "flatten"]),
    (SumsOverSamples, NORMAL, "leading dimensions", ["at 3 samples at once"]),
    (MixesTheBatch, BITS, "examples apart", ["logits of an example", "normalisation over the batch"]),
    (MixesInTheDecoder, BITS, "examples apart", ["f of an example"]),
    (ForgetsAWeight, BITS, "groups", ["decoder.2.bias is in no group"]),
    (CountsAWeightTwice, BITS, "groups", ["encoder.0.weight is in several"]),
    (ForeignWeight, BITS, "groups", ["group 'decoder' has weights that are not the problem's"]),
    (IdleWeight, BITS, "groups", ["decoder_scale never gets a gradient"]),
    (ExactIsOff, BITS, "exact objective", ["the mean of", "the KL included"]),
    (ExactWithoutGradient, BITS, "exact objective", ["finite differences give", "detached"]),
    (OwnInitialNoise, BITS, "initial weights", ["encoder.0.bias differs", "global generator"]),
    (FreshGenerator, BITS, "initial weights", ["encoder.0.bias differs"]),
    (HidesItsState, BITS, "save and load", ["another f", "as buffers"]),
    (ForgetsABuffer, BITS, "save and load", ["another KL, f, logits", "as buffers"]),
    (HidesItsSchedule, BITS, "resume", ["another", "as buffers"]),
]
