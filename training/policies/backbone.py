"""The vision-language backbone: any Qwen3.5 or Qwen3-VL folder in the Hugging Face layout.

Frames come in as bytes and are cut into patches inside (decision 0001), prompts are padded on the right. Everything in
the language model is causal, so neither padding nor batch mates can change what a prompt's own tokens say, and no
attention mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText

from finevla_runtime.contracts.errors import SetupError, unknown_name
from training.policies.image_patches import ImageGrid, Patchify, PatchRule, image_grid, read_patch_rule
from training.policies.rope_index import RopeIndex
from training.policies.vision_tower import BATCHED_ATTENTION, VisionConstants, run_tower

MODEL_TYPES = ("qwen3_5", "qwen3_vl")
HUB_PREFIX = "hub:"
# The auto classes of transformers carry no usable types.
MODELS = cast(Any, AutoModelForImageTextToText)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Backbone(nn.Module):
    """A Hugging Face image-text-to-text model with fixed frame sizes.

    Attributes:
        model: the model itself; its state-dict names are those of its folder.
        grids: patches of each camera, in camera order.
        width: channels of the hidden states.
        embed_width: channels of the image embeddings: ``width``, plus ``width`` per deepstack level (Qwen3-VL adds
            features of earlier vision layers to the first language layers; they travel behind the embeddings).
        image_token_id: id of the placeholder that image embeddings replace.
    """

    def __init__(self, model: nn.Module, rule: PatchRule, frames: Sequence[tuple[int, int]]) -> None:
        """Wrap a loaded model; ``frames`` are height and width of each camera's frames.

        Raises:
            SetupError: FV-POL-001 for an unsupported model, FV-POL-003 for an impossible frame size.
        """
        super().__init__()
        config = cast(Any, model.config)
        if config.model_type not in MODEL_TYPES:
            raise unknown_name("FV-POL-001", "backbone model type", config.model_type, MODEL_TYPES)
        self.model = model
        self.grids: tuple[ImageGrid, ...] = tuple(image_grid(height, width, rule) for height, width in frames)
        self.width = int(config.text_config.hidden_size)
        self.deepstack = len(getattr(config.vision_config, "deepstack_visual_indexes", ()))
        self.embed_width = self.width * (1 + self.deepstack)
        self.image_token_id = int(config.image_token_id)
        side = int(config.vision_config.num_position_embeddings**0.5)
        self.patchify = nn.ModuleList(Patchify(grid, rule) for grid in self.grids)
        self.constants = nn.ModuleList(VisionConstants(grid, side) for grid in self.grids)
        self.rope_index = RopeIndex(self.grids)
        words = cast(Any, model).get_output_embeddings()
        if words is not None and words.weight is not cast(Any, model).get_input_embeddings().weight:
            # A policy reads hidden states, never word scores: an untied output layer gets no gradient.
            words.requires_grad_(False)

    @property
    def image_tokens(self) -> int:
        """Return the image tokens of all cameras together."""
        return sum(grid.tokens for grid in self.grids)

    def embed_images(self, images: Sequence[Tensor]) -> Tensor:
        """Return float[B, image tokens, embed_width] for uint8[B, H, W, 3] per camera, in camera order.

        Raises:
            SetupError: FV-POL-004 when the number or the sizes of the frames are not those of the policy.
        """
        self._check_frames(images)
        batch = images[0].shape[0]
        views: list[Tensor | None] = [None] * len(images)
        for grid in dict.fromkeys(self.grids):
            # Cameras of one size run through the tower together.
            cameras = [index for index, other in enumerate(self.grids) if other == grid]
            patches = torch.stack([self.patchify[index](images[index]) for index in cameras], dim=1)
            features = run_tower(
                cast(Any, self.model).model.visual,
                patches.reshape(batch * len(cameras), grid.patches, -1),
                grid,
                cast(VisionConstants, self.constants[cameras[0]]),
            )
            together = torch.cat(features, dim=-1).reshape(batch, len(cameras), grid.tokens, -1)
            for place, index in enumerate(cameras):
                views[index] = together[:, place]
        return torch.cat([view for view in views if view is not None], dim=1)

    def embed_tokens(self, tokens: Tensor, image_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Return float[B, S, width], words with images in their places, and bool[B, S], true at image tokens."""
        mask = tokens == self.image_token_id
        words = cast(Any, self.model).get_input_embeddings()(tokens)
        index = (mask.long().cumsum(1) - 1).clamp(0, image_embeds.shape[1] - 1)
        pictures = image_embeds[..., : self.width].to(words.dtype)
        placed = pictures.gather(1, index.unsqueeze(-1).expand(-1, -1, self.width))
        return torch.where(mask.unsqueeze(-1), placed, words), mask

    def hidden(self, tokens: Tensor, image_embeds: Tensor) -> Tensor:
        """Return the last hidden state after the final norm, float[B, S, width].

        Args:
            tokens: int64[B, S], padded on the right; every prompt holds all image tokens of all cameras in order.
            image_embeds: float[B, image tokens, embed_width] from ``embed_images``.
        """
        embeds, mask = self.embed_tokens(tokens, image_embeds)
        extra: dict[str, object] = {}
        if self.deepstack:
            levels = image_embeds[..., self.width :].to(embeds.dtype).chunk(self.deepstack, dim=-1)
            extra["visual_pos_masks"] = mask
            extra["deepstack_visual_embeds"] = [level.reshape(-1, self.width) for level in levels]
        out = cast(Any, self.model).model.language_model(
            inputs_embeds=embeds, position_ids=self.rope_index(mask), attention_mask=None, use_cache=False, **extra
        )
        return cast(Tensor, out.last_hidden_state)

    def checkpoint_gradients(self, on: bool) -> None:
        """Switch gradient checkpointing: every layer is computed again in the backward pass instead of kept."""
        if on:
            cast(Any, self.model).activation_checkpointing_enable({"use_reentrant": False})
        else:
            cast(Any, self.model).activation_checkpointing_disable()

    def _check_frames(self, images: Sequence[Tensor]) -> None:
        got = [tuple(image.shape[1:]) for image in images]
        wanted = [(grid.height, grid.width, 3) for grid in self.grids]
        if got != wanted:
            raise SetupError("FV-POL-004", f"the frames are {got}, the policy was built for {wanted}.")


def load_backbone(
    folder: str,
    frames: Sequence[tuple[int, int]],
    *,
    dtype: str = "float32",
    random_weights: bool = False,
    checkpointing: bool = False,
) -> Backbone:
    """Load a backbone from a local folder, or from the hub when the name says so.

    Args:
        folder: a local folder, or ``hub:`` and a hub id; nothing is ever downloaded without that prefix.
        frames: height and width of each camera's frames.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        random_weights: build the folder's architecture with random numbers (drawn from torch's global generator).
        checkpointing: recompute layers in the backward pass.

    Raises:
        SetupError: FV-POL-001 (unsupported model), FV-POL-002 (processor), FV-POL-005 (no such folder),
            FV-POL-006 (unknown dtype), FV-POL-007 (weights that do not fit).
    """
    if dtype not in DTYPES:
        raise unknown_name("FV-POL-006", "dtype", dtype, DTYPES)
    place = resolve_folder(folder)
    config = AutoConfig.from_pretrained(place, local_files_only=True)
    if config.model_type not in MODEL_TYPES:
        raise unknown_name("FV-POL-001", "backbone model type", config.model_type, MODEL_TYPES, folder)
    vision = config.vision_config
    rule = read_patch_rule(
        place, int(vision.patch_size), int(vision.spatial_merge_size), int(vision.temporal_patch_size)
    )
    attention = {"": "sdpa", "text_config": "sdpa", "vision_config": BATCHED_ATTENTION}
    if random_weights:
        model = MODELS.from_config(config, dtype=DTYPES[dtype], attn_implementation=attention)
    else:
        model = _pretrained(place, DTYPES[dtype], attention)
    backbone = Backbone(model, rule, frames)
    if checkpointing:
        backbone.checkpoint_gradients(True)
    return backbone


def resolve_folder(folder: str) -> Path:
    """Return the local folder of a backbone; a ``hub:`` name is downloaded into the hub's own cache first.

    Raises:
        SetupError: FV-POL-005 when a local folder does not exist or holds no model.
    """
    if folder.startswith(HUB_PREFIX):
        try:
            return Path(snapshot_download(folder[len(HUB_PREFIX) :]))
        except (OSError, ValueError) as error:
            said = next(iter(str(error).splitlines()), "")
            raise SetupError(
                "FV-POL-005",
                f"{folder} could not be downloaded ({type(error).__name__}: {said}); "
                "check name and network, or give the local folder of a copy (--backbone DIR).",
            ) from error
    place = Path(folder)
    if not (place / "config.json").is_file():
        raise SetupError(
            "FV-POL-005",
            f"{folder} is no backbone folder (no config.json); give a local folder, or {HUB_PREFIX}ORGANISATION/NAME "
            "to download one.",
        )
    return place


def _pretrained(folder: Path, dtype: torch.dtype, attention: dict[str, str]) -> nn.Module:
    try:
        model, report = MODELS.from_pretrained(
            folder, local_files_only=True, dtype=dtype, attn_implementation=attention, output_loading_info=True
        )
    except OSError as error:
        raise SetupError("FV-POL-007", f"{folder} holds no readable weights ({error}); download it again.") from error
    missing = sorted(report["missing_keys"])
    if missing:
        # Transformers fills missing weights with random numbers and only logs it; that would train or serve noise.
        raise SetupError("FV-POL-007", f"{folder} lacks {len(missing)} weights, first {missing[0]}; download it again.")
    return cast(nn.Module, model.train())
