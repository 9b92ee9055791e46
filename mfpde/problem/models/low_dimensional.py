"""The models that come with mfpde, and the families of which they are made; a user's own file could define each.

q, v, a, w, b are coordinates of θ; W, U, e, g are fixed by the model, given or drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mfpde.errors import InputError
from mfpde.inputs import one_of, show, whole
from mfpde.problem.family import Family
from mfpde.problem.laws import Law, Normal
from mfpde.problem.tasks import Task, generator
from mfpde.problem.transformer import Loss, Transformer

_MOST_CHANNELS, _MOST_FAMILIES = 4096, 1000

type Initial = Law | Callable[[int], Law]
type Activation = Literal["tanh", "gelu", "softplus"]

_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
}


def attention(
    channels: int = 2, w: ArrayLike | None = None, u: ArrayLike | None = None, layers: int = 4, seed: int = 0
) -> Transformer:
    """One attention head a layer; the output is all channels but the first of the last token.

    Args:
        channels: D.
        w: W (D, D); drawn from the seed unless given.
        u: U (D, D); likewise.
        layers: L.
        seed: of W and U.
    """
    whole("model.channels", channels, 2, _MOST_CHANNELS)
    rng = generator("model.seed", seed)
    score, out = _matrix("model.w", w, channels, rng), _matrix("model.u", u, channels, rng)

    head = softmax_head("attention", score, out, Normal([0.5, 0.0], [0.5, 0.5]))
    return Transformer([[head]], layers, _tail_of_last_token)


def attention_mlp(
    channels: int = 2, layers: int = 4, seed: int = 0, bias: bool = False, activation: Activation = "tanh"
) -> Transformer:
    """One attention head, then one neuron a layer; the output is all channels but the first of the last token."""
    whole("model.channels", channels, 2, _MOST_CHANNELS)
    rng = generator("model.seed", seed)
    score, out = (rng.normal(size=(channels, channels)) / np.sqrt(channels) for _ in range(2))
    inward, outward = (rng.normal(size=channels) / np.sqrt(channels) for _ in range(2))

    head = softmax_head("attention", score, out, Normal([0.5, 0.0], [0.5, 0.5]))
    start = Normal([0.0, 0.5, 0.0], [0.5, 0.5, 0.5]) if bias else Normal([0.0, 0.5], [0.5, 0.5])
    unit = neuron("mlp", inward, outward, start, activation, bias)
    return Transformer([[head], [unit]], layers, _tail_of_last_token)


def image_transformer(
    task: Task,
    heads: int = 12,
    neurons: int = 4,
    layers: int = 4,
    loss: Loss = "squared",
    sharpness: float = 4.0,
    seed: int = 1,
) -> Transformer:
    """Families of attention heads, then of neurons, and a random linear readout of the class token.

    Head h attends from the class token to patch h modulo their number: ⟨T_class, W T_patch⟩ = `sharpness` at the
    start. All else is drawn from the seed: the heads' values (U, pixels to all channels), the neurons' e and g, the
    readout. Each family has its own fixed projections; in the limit there are infinitely many units in each.

    Args:
        task: `digits`, or one whose tokens end with one-hot positions and free channels in the same way.
        heads: attention families, named head_0, …
        neurons: neuron families, named neuron_0, …
        layers: L.
        loss: squared loss on unit vectors, or cross-entropy in nats or bits.
        sharpness: of the heads' attention.
        seed: of all projections and of the readout, which is never fitted.
    """
    pixels, positions, channels = _image_channels("image", task, heads, neurons)
    rng = generator("model.seed", seed)

    stages: list[list[Family]] = [[], []]
    for k in range(heads):
        score, out = np.zeros((channels, channels)), np.zeros((channels, channels))
        score[pixels + positions - 1, pixels + k % (positions - 1)] = sharpness
        out[:pixels] = rng.normal(size=(channels, channels))[:pixels] / np.sqrt(pixels)
        stages[0].append(softmax_head(f"head_{k}", score, out, Normal([0.5, 0.0], [0.5, 0.5])))

    for k in range(neurons):
        inward, outward = 2.0 * rng.normal(size=(2, channels)) / np.sqrt(channels)
        stages[1].append(neuron(f"neuron_{k}", inward, outward, Normal([0.0, 0.5], [0.5, 0.5])))

    reading = jnp.asarray(0.5 * rng.normal(size=(channels, task.targets.shape[1])))
    return Transformer([stage for stage in stages if stage], layers, lambda tokens: tokens[-1] @ reading, loss=loss)


def class_attention(
    task: Task,
    heads: int = 40,
    neurons: int = 24,
    layers: int = 6,
    loss: Loss = "cross_entropy",
    contrast: float = 3.0,
    reading: float = 0.7,
    shift: float = 0.1,
    spread: float = 0.8,
    seed: int = 0,
) -> Transformer:
    """Families of class-attention heads, then of neurons, and a random linear readout of the class token.

    Head h scores places: ⟨T_class, W T_place⟩ is drawn, `contrast` times standard normal, so that every q mixes the
    patches in proportions of its own, and v(q) reaches several mixtures. U takes the pixels of a mixture to the free
    channels. No head reads what a head writes: to second order in their noise, finitely many units then add an error
    to the outputs, which costs training loss, and no random features, which would save some. The neurons read the free
    channels, and their means are drawn for every layer anew, so that in the limit, too, the layers differ.

    Args:
        task: `digits`, or one whose tokens end with one-hot positions and free channels in the same way.
        heads: attention families, named head_0, …
        neurons: neuron families, named neuron_0, …
        layers: L.
        loss: squared loss on unit vectors, or cross-entropy in nats or bits.
        contrast: of the scores.
        reading: standard deviation of the readout, of free channels only.
        shift: standard deviation of the initial means of v over layers and families; five times that of a.
        spread: initial standard deviation of v around them; a fifth of it for a.
        seed: of all projections and of the readout, which is never fitted.
    """
    pixels, positions, channels = _image_channels("class-attention", task, heads, neurons)
    rng = generator("model.seed", seed)
    free = np.arange(channels) >= pixels + positions
    rows = jnp.asarray(free[:, None] * reading * rng.normal(size=(channels, task.targets.shape[1])))

    stages: list[list[Family]] = [[], []]
    for k in range(heads):
        score, out = np.zeros((channels, channels)), np.zeros((channels, channels))
        score[pixels + positions - 1, pixels : pixels + positions] = contrast * rng.normal(size=positions)
        out[:pixels] = 3.0 * free * rng.normal(size=(pixels, channels)) / np.sqrt(pixels)
        laws = [Normal([0.0, mean], [1.0, spread]) for mean in shift * rng.normal(size=layers)]
        stages[0].append(class_head(f"head_{k}", score, out, laws.__getitem__))

    for k in range(neurons):
        inward, outward = rng.normal(size=(2, channels)) / np.sqrt(channels)
        laws = [Normal([mean, 0.5], [0.2 * spread, 0.5]) for mean in 5.0 * shift * rng.normal(size=layers)]
        stages[1].append(neuron(f"neuron_{k}", 2.0 * inward, 6.0 * free * outward, laws.__getitem__))

    return Transformer([stage for stage in stages if stage], layers, lambda tokens: tokens[-1] @ rows, loss=loss)


def linear(channels: int = 1, layers: int = 3) -> Transformer:
    """Linear heads; the output is the last token. Its exact solution is known (docs/equations.md)."""
    ones = [1.0] * whole("model.channels", channels, 1, _MOST_CHANNELS)
    head = linear_head("linear", channels, Normal([0.0] * channels, ones))
    return Transformer([[head]], layers, lambda tokens: tokens[-1])


def bilinear(layers: int = 3) -> Transformer:
    """Bilinear heads on one channel; the output is the last token. The density stays Gaussian."""
    head = bilinear_head("bilinear", Normal([0.5, 0.5], [0.3, 0.3]))
    return Transformer([[head]], layers, lambda tokens: tokens[-1])


def softmax_head(name: str, w: ArrayLike, u: ArrayLike, initial: Initial) -> Family:
    """Softmax attention, θ = (q, v): v Σ_j softmax_j(q ⟨T_i, W T_j⟩) T_j U, with W and U (D, D)."""
    score, out = jnp.asarray(w, dtype=jnp.float64), jnp.asarray(u, dtype=jnp.float64)

    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        weights = jax.nn.softmax(theta[0] * (tokens @ score @ tokens.T), axis=1)
        return theta[1] * (weights @ (tokens @ out))

    def integral(tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
        scores = tokens @ score @ tokens.T
        exponents = scores[:, :, None] * theta[:, 0]  # (N, N, u): units last, for the processor
        top = jax.lax.stop_gradient(exponents.max(axis=1, keepdims=True))
        grown = jnp.exp(exponents - top)
        share = weights * theta[:, 1] / grown.sum(axis=1)  # (N, u)
        return jnp.einsum("iju,iu->ij", grown, share) @ (tokens @ out)

    return Family(name, 2, update, initial, linear=(1,), coordinates=("q", "v"), integral=integral)


def class_head(name: str, w: ArrayLike, u: ArrayLike, initial: Initial) -> Family:
    """A softmax attention head with one query, the last token's, θ = (q, v); the other tokens stay as they are.

    v Σ_j softmax_j(q ⟨T_N, W T_j⟩) T_j U is added to T_N, with W and U (D, D): class attention (Touvron et al., Going
    deeper with image transformers, ICCV 2021), at 1/N of the cost of a head in which every token has a query.
    """
    score, out = jnp.asarray(w, dtype=jnp.float64), jnp.asarray(u, dtype=jnp.float64)

    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        weights = jax.nn.softmax(theta[0] * (tokens @ (tokens[-1] @ score)))
        return jnp.zeros_like(tokens).at[-1].set(theta[1] * (weights @ tokens @ out))

    def integral(tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
        scores = tokens @ (tokens[-1] @ score)
        share = jax.nn.softmax(scores[:, None] * theta[:, 0], axis=0) @ (weights * theta[:, 1])  # (N,)
        return jnp.zeros_like(tokens).at[-1].set(share @ tokens @ out)

    return Family(name, 2, update, initial, linear=(1,), coordinates=("q", "v"), integral=integral)


def neuron(
    name: str, e: ArrayLike, g: ArrayLike, initial: Initial, activation: Activation = "tanh", bias: bool = False
) -> Family:
    """MLP neuron, θ = (a, w) or (a, w, b): a σ(w ⟨T_i, e⟩ + b) g, with e and g (D,)."""
    inward, outward = jnp.asarray(e, dtype=jnp.float64), jnp.asarray(g, dtype=jnp.float64)
    one_of("model.activation", activation, list(_ACTIVATIONS))
    sigma = _ACTIVATIONS[activation]

    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        shift = theta[2] if bias else 0.0
        return theta[0] * sigma(theta[1] * (tokens @ inward) + shift)[:, None] * outward

    def integral(tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
        shift = theta[:, 2] if bias else 0.0
        fired = sigma((tokens @ inward)[:, None] * theta[:, 1] + shift)  # (N, u)
        return (fired @ (weights * theta[:, 0]))[:, None] * outward

    names = ("a", "w", "b") if bias else ("a", "w")
    return Family(name, len(names), update, initial, linear=(0,), coordinates=names, integral=integral)


def linear_head(name: str, channels: int, initial: Initial) -> Family:
    """θ ∈ R^D added to every token; jointly linear in all of θ."""

    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        return jnp.broadcast_to(theta, tokens.shape)

    return Family(name, channels, update, initial, linear=tuple(range(channels)))


def bilinear_head(name: str, initial: Initial) -> Family:
    """θ = (a, b): a b T_i; linear in a."""

    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        return theta[0] * theta[1] * tokens

    return Family(name, 2, update, initial, linear=(0,), coordinates=("a", "b"))


def _image_channels(name: str, task: Task, heads: int, neurons: int) -> tuple[int, int, int]:
    """How many channels of a token are pixels, how many positions, and how many there are.

    Raises:
        InputError: for a model without families, or for tokens that are no patches of images, naming the model.
    """
    if whole("model.heads", heads, 0, _MOST_FAMILIES) + whole("model.neurons", neurons, 0, _MOST_FAMILIES) < 1:
        raise InputError(f"model.heads = {heads}, model.neurons = {neurons}: needs at least one family")

    positions, channels = task.tokens.shape[1:]
    marks = np.flatnonzero(np.asarray(task.tokens)[0, -1])  # the class token's position is all that it holds
    pixels = int(marks[0]) - positions + 1 if len(marks) == 1 else 0
    if pixels < 1 or positions < 2 or channels <= pixels + positions:
        raise InputError(
            f"model.name = {name!r}: needs tokens like those of the task 'digits', not {task.tokens.shape}"
        )
    return pixels, positions, channels


def _tail_of_last_token(tokens: jax.Array) -> jax.Array:
    return tokens[-1, 1:]


def _matrix(name: str, given: ArrayLike | None, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square matrix, drawn unless it is given."""
    drawn = rng.normal(size=(size, size)) / np.sqrt(size)  # even where it is given: what is drawn next depends on it
    try:
        matrix = drawn if given is None else np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != drawn.shape or not np.isfinite(matrix).all():
        raise InputError(f"{name} = {show(given)}: must be finite numbers of shape {drawn.shape}")
    return matrix
