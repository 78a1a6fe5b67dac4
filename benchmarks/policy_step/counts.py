"""Every matrix product of one policy step, and the operations and bytes that follow from them.

The counts are floors: what the arithmetic of the policy needs, not what an implementation does. Causal attention counts
the pairs it may see, the gated delta rule its recurrent form, and every weight is read once per step (a flow-matching
head once per denoising step).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from training.policies.dit import Block
from training.policies.gr00t import GR00THead, GR00TPolicy
from training.policies.image_patches import ImageGrid
from training.policies.oft import OFTPolicy
from training.policies.policy import VLAPolicy

LINEAR, ATTENTION, DELTA, CONVOLUTION = "linear", "attention", "delta", "convolution"
# Features of the time bucket in the head's time encoder.
TIME_CHANNELS = 256
CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Product:
    """``times`` products of float[rows, inner] with float[inner, columns].

    Attributes:
        name: part of the policy.
        kind: ``linear`` (the second factor is a weight), ``attention``, ``delta`` or ``convolution``.
        rows, inner, columns: its sizes.
        times: how often it happens in one step.
        half: whether it may run in half precision; heads are float32.
    """

    name: str
    kind: str
    rows: int
    inner: int
    columns: int
    times: int = 1
    half: bool = True

    @property
    def flops(self) -> int:
        """Return multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns * self.times


@dataclass(frozen=True, slots=True)
class Work:
    """What one step needs at least.

    Attributes:
        flops: multiplications and additions of all products.
        weight_bytes: bytes of weights read.
        activation_bytes: bytes that linear layers read and write besides their weights.
    """

    flops: int
    weight_bytes: int
    activation_bytes: int

    @property
    def bytes(self) -> int:
        """Return all bytes moved."""
        return self.weight_bytes + self.activation_bytes


def step_products(policy: VLAPolicy, batch: int, length: int) -> list[Product]:
    """Return the products of one step of a Qwen3.5 or Qwen3-VL policy.

    Args:
        policy: its sizes are read, its weights are not: it may lie on the meta device.
        batch: observations per step.
        length: tokens per prompt, images included.
    """
    config: Any = policy.backbone.model.config
    return [
        *_vision(config.vision_config, policy.backbone.grids, batch, policy.backbone.deepstack),
        *_language(config.text_config, batch, length),
        *_head(policy, batch, length),
    ]


def work_of(products: Sequence[Product], half_bytes: int = 2) -> Work:
    """Return the floor of some products; values that may be in half precision take ``half_bytes`` each."""
    flops = weights = activations = 0
    for product in products:
        size = half_bytes if product.half else 4
        flops += product.flops
        if product.kind in (LINEAR, CONVOLUTION):
            weights += product.inner * product.columns * product.times * size
            activations += product.rows * (product.inner + product.columns) * product.times * size
    return Work(flops, weights, activations)


def training_flops(products: Sequence[Product]) -> int:
    """Return the operations of forward and backward; layers that are computed again do not count as work done."""
    return 3 * sum(product.flops for product in products)


def _vision(vision: Any, grids: Sequence[ImageGrid], batch: int, deepstack: int) -> Iterator[Product]:
    width, inner, out = vision.hidden_size, vision.intermediate_size, vision.out_hidden_size
    patches = batch * sum(grid.patches for grid in grids)
    pixels = CHANNELS * vision.temporal_patch_size * vision.patch_size**2
    pairs = batch * sum(grid.patches**2 for grid in grids)
    yield Product("vision", LINEAR, patches, pixels, width)
    for _ in range(vision.depth):
        yield Product("vision", LINEAR, patches, width, 3 * width)
        yield Product("vision", ATTENTION, pairs, width, 2)
        yield Product("vision", LINEAR, patches, width, width)
        yield Product("vision", LINEAR, patches, width, inner)
        yield Product("vision", LINEAR, patches, inner, width)
    merged = vision.spatial_merge_size**2
    # Qwen3-VL merges the features of some earlier layers too.
    for _ in range(1 + deepstack):
        yield Product("vision", LINEAR, patches // merged, width * merged, width * merged)
        yield Product("vision", LINEAR, patches // merged, width * merged, out)


def _language(text: Any, batch: int, length: int) -> Iterator[Product]:
    rows, width = batch * length, text.hidden_size
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    for kind in kinds:
        yield from _delta_layer(text, rows) if kind == "linear_attention" else _attention_layer(text, batch, length)
        yield Product("language", LINEAR, rows, width, text.intermediate_size, times=2)
        yield Product("language", LINEAR, rows, text.intermediate_size, width)


def _attention_layer(text: Any, batch: int, length: int) -> Iterator[Product]:
    rows, width = batch * length, text.hidden_size
    queries, keys = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    # Qwen3.5 projects a gate of the same size beside the queries.
    gate = 2 if text.model_type.startswith("qwen3_5") else 1
    yield Product("language", LINEAR, rows, width, queries * gate)
    yield Product("language", LINEAR, rows, width, keys, times=2)
    yield Product("language", ATTENTION, batch * (length * (length + 1) // 2), queries, 2)
    yield Product("language", LINEAR, rows, queries, width)


def _delta_layer(text: Any, rows: int) -> Iterator[Product]:
    width = text.hidden_size
    keys = text.linear_num_key_heads * text.linear_key_head_dim
    values = text.linear_num_value_heads * text.linear_value_head_dim
    mixed = 2 * keys + values
    yield Product("language", LINEAR, rows, width, mixed)
    yield Product("language", LINEAR, rows, width, values)
    yield Product("language", LINEAR, rows, width, text.linear_num_value_heads, times=2)
    yield Product("language", CONVOLUTION, rows, text.linear_conv_kernel_dim, mixed)
    # Per token and head: what the state recalls for the key, its update, and what it recalls for the query.
    yield Product("language", DELTA, rows * text.linear_num_value_heads, text.linear_key_head_dim,
                  text.linear_value_head_dim, times=3)  # fmt: skip
    yield Product("language", LINEAR, rows, values, width)


def _head(policy: VLAPolicy, batch: int, length: int) -> Iterator[Product]:
    if isinstance(policy, OFTPolicy):
        head, network = policy.head, policy.head.model
        rows, width, inner = batch * head.rows, network.fc1.in_features, network.fc1.out_features
        yield _exact(rows, width, inner)
        yield _exact(rows, inner, inner, len(network.mlp_resnet_blocks))
        yield _exact(rows, inner, network.fc2.out_features)
    elif isinstance(policy, GR00TPolicy):
        yield from _flow_head(policy.head, batch, length, policy.denoise_steps)


def _flow_head(head: GR00THead, batch: int, length: int, steps: int) -> Iterator[Product]:
    blocks = len(head.model.transformer_blocks)
    width, out = head.model.proj_out_2.in_features, head.model.proj_out_2.out_features
    source = cast(Block, head.model.transformer_blocks[0]).attn1.to_k.in_features
    inner, dof = head.action_decoder.layer2.in_features, head.action_decoder.layer2.out_features
    crossing, selfing = (blocks + 1) // 2, blocks // 2
    tokens = head.future_tokens.num_embeddings + head.rows + int(head.state)
    rows, actions = batch * tokens, batch * head.rows
    # Keys and values of the prefix are computed once; every step reads them.
    yield _exact(batch * length, source, width, 2 * crossing)
    yield _exact(batch, TIME_CHANNELS, width, steps)
    yield _exact(batch, width, width, steps)
    yield _exact(batch, width, 2 * width, (blocks + 1) * steps)
    yield _exact(rows, width, width, (2 * blocks + 2 * selfing) * steps)
    yield Product("head", ATTENTION, rows * length, width, 2, crossing * steps, half=False)
    yield Product("head", ATTENTION, rows * tokens, width, 2, selfing * steps, half=False)
    yield _exact(rows, width, 4 * width, blocks * steps)
    yield _exact(rows, 4 * width, width, blocks * steps)
    yield _exact(rows, width, out, steps)
    yield _exact(actions, dof, width, steps)
    yield _exact(actions, 2 * width, width, steps)
    yield _exact(actions, width, width, steps)
    yield _exact(actions, out, inner, steps)
    yield _exact(actions, inner, dof, steps)
    if head.state:
        yield _exact(batch, dof, inner, steps)
        yield _exact(batch, inner, width, steps)


def _exact(rows: int, inner: int, columns: int, times: int = 1) -> Product:
    """Return a linear product of a head."""
    return Product("head", LINEAR, rows, inner, columns, times, half=False)
