"""What a run's config claims about its action head, and what our heads cannot reproduce."""

from __future__ import annotations

from dataclasses import dataclass

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.errors import SetupError, unknown_name
from training.importer.decision import Decision
from training.importer.revision import FINEVLA
from training.importer.run_config import RunConfig
from training.policies.gr00t import GR00TSizes

FRAMEWORKS = {"QwenOFT": "oft", "QwenGR00T": "gr00t"}
HEAD = "framework.action_model"
# Channels and attention heads of upstream's transformer types; a config cannot change them to anything that runs.
_TRANSFORMERS = {"DiT-B": (768, 12), "DiT-L": (1536, 32)}
# DiT-B as both repositories configure it.
STANDARD = GR00TSizes()
# Settings of the GR00T head that our head fixes, with the only value that gives the same network.
_FIXED = {
    "num_timestep_buckets": 1000,
    "add_pos_embed": True,
    "diffusion_model_cfg.interleave_self_attention": True,
    "diffusion_model_cfg.norm_type": "ada_norm",
}
# Upstream's defaults where a config is silent: without it the DiT would attend across in every block.
_DEFAULTS = {"diffusion_model_cfg.interleave_self_attention": False}


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """The claims of a config.

    Attributes:
        framework: ``oft`` or ``gr00t``.
        chunk_rows: rows of one prediction.
        state: whether the model reads proprioception.
        denoise_steps: Euler steps of a GR00T head; 0 for OFT.
        repeats: noises drawn per training sample; 0 for OFT.
        sizes: sizes of a GR00T head; the defaults for OFT, which has none.
    """

    framework: str
    chunk_rows: int
    state: bool
    denoise_steps: int = 0
    repeats: int = 0
    sizes: GR00TSizes = STANDARD


def read_head_settings(
    config: RunConfig, revision: str, chunk_rows: int | None
) -> tuple[HeadSettings, tuple[Decision, ...]]:
    """Read and check the claims about the head.

    Args:
        config: settings of the run.
        revision: ``finevla`` or ``starvla``.
        chunk_rows: value of ``--chunk-rows``; settles contradicting settings.

    Raises:
        SetupError: FV-IMP-008 for another framework, FV-IMP-009 for a setting that our policies do not have,
            FV-IMP-011 when the chunk length is missing or contradictory.
    """
    name = config.need("framework.name").text()
    if name not in FRAMEWORKS:
        raise unknown_name("FV-IMP-008", "framework", name, FRAMEWORKS, "framework.name of the run")
    framework = FRAMEWORKS[name]
    _refuse_unsupported(config)
    rows, decided_rows = _chunk_rows(config, chunk_rows)
    state, decided_state = _state(config, framework, revision)
    if framework == "oft":
        return HeadSettings(framework, rows, state), (decided_rows, decided_state)
    _refuse_other_networks(config)
    if revision == FINEVLA:
        repeats = config.integer("trainer.repeated_diffusion_steps") or 4
    else:
        repeats = config.integer(f"{HEAD}.repeated_diffusion_steps") or 8
    steps = config.need(f"{HEAD}.num_inference_timesteps").integer()
    if steps < 1:
        raise SetupError("FV-IMP-009", f"{HEAD}.num_inference_timesteps is {steps}; wanted 1 or more.")
    settings = HeadSettings(framework, rows, state, steps, repeats, _sizes(config))
    return settings, (decided_rows, decided_state)


def _sizes(config: RunConfig) -> GR00TSizes:
    """Return the sizes that the config states, with upstream's defaults where it is silent."""
    width, heads = _TRANSFORMERS[config.need(f"{HEAD}.action_model_type").text()]
    inner = config.integer(f"{HEAD}.hidden_size") or STANDARD.inner
    dropout = config.find(f"{HEAD}.diffusion_model_cfg.dropout")
    return GR00TSizes(
        width=width,
        heads=heads,
        blocks=config.need(f"{HEAD}.diffusion_model_cfg.num_layers").integer(),
        out=config.integer(f"{HEAD}.diffusion_model_cfg.output_dim") or inner,
        inner=inner,
        future_tokens=config.integer(f"{HEAD}.num_target_vision_tokens") or STANDARD.future_tokens,
        max_rows=config.integer(f"{HEAD}.max_seq_len") or STANDARD.max_rows,
        dropout=STANDARD.dropout if dropout is None else dropout.number(),
    )


def _refuse_unsupported(config: RunConfig) -> None:
    dof = config.need(f"{HEAD}.action_dim").integer()
    if dof != DOF:
        raise SetupError("FV-IMP-009", f"the run predicts {dof} dimensions per row, this project has {DOF}.")
    mode = config.text("datasets.vla_data.action_mode") or "abs"
    kind = config.text("datasets.vla_data.action_type") or "abs"
    if mode != "abs" or not kind.startswith("abs"):
        raise SetupError(
            "FV-IMP-009",
            f"the run predicts {kind}/{mode} actions; only absolute joint positions can be served "
            "(action_mode abs, action_type abs_joint or abs_qpos).",
        )
    past = config.integer(f"{HEAD}.past_action_window_size") or 0
    if past:
        raise SetupError("FV-IMP-009", f"past_action_window_size is {past}; only 0 can be imported.")


def _refuse_other_networks(config: RunConfig) -> None:
    for name, wanted in _FIXED.items():
        node = config.find(f"{HEAD}.{name}")
        got = _DEFAULTS.get(name, wanted) if node is None else node.value
        if got != wanted:
            raise SetupError("FV-IMP-009", f"{HEAD}.{name} is {got!r}; our GR00T head only has {wanted!r}.")
    kind = config.need(f"{HEAD}.action_model_type").text()
    if kind not in _TRANSFORMERS:
        raise unknown_name("FV-IMP-009", "transformer type", kind, _TRANSFORMERS, f"{HEAD}.action_model_type")
    width, heads = _TRANSFORMERS[kind]
    for name, wanted in (("num_attention_heads", heads), ("attention_head_dim", width // heads)):
        got = config.integer(f"{HEAD}.diffusion_model_cfg.{name}")
        if got not in (None, wanted):
            raise SetupError("FV-IMP-009", f"{HEAD}.diffusion_model_cfg.{name} is {got}; {kind} has {wanted}.")
    if config.find(f"{HEAD}.diffusion_model_cfg.positional_embeddings") is not None:
        raise SetupError("FV-IMP-009", f"{HEAD}.diffusion_model_cfg.positional_embeddings must be null.")


def _chunk_rows(config: RunConfig, asked: int | None) -> tuple[int, Decision]:
    horizon = config.integer(f"{HEAD}.action_horizon")
    window = config.integer(f"{HEAD}.future_action_window_size")
    claims = {f"{HEAD}.action_horizon": horizon, f"{HEAD}.future_action_window_size + 1": _plus_one(window)}
    stated = {name: rows for name, rows in claims.items() if rows is not None}
    listed = ", ".join(f"{name} = {rows}" for name, rows in stated.items()) or "no chunk length at all"
    if asked is not None:
        if stated and asked not in stated.values():
            raise SetupError("FV-IMP-011", f"--chunk-rows {asked} contradicts the config: {listed}.")
        return asked, Decision("chunk_rows", str(asked), f"--chunk-rows; the config says {listed}")
    if len(set(stated.values())) != 1:
        raise SetupError("FV-IMP-011", f"the config says {listed}; say the number of rows by --chunk-rows.")
    rows = next(iter(stated.values()))
    return rows, Decision("chunk_rows", str(rows), listed)


def _plus_one(window: int | None) -> int | None:
    return None if window is None else window + 1


def _state(config: RunConfig, framework: str, revision: str) -> tuple[bool, Decision]:
    path = "datasets.vla_data.include_state"
    include = config.flag(path)
    if include is None:
        return False, Decision("state", "not read", f"{path} is absent, and upstream's default is false")
    if include and framework == "oft" and revision == FINEVLA:
        return False, Decision("state", "not read", f"{path} is true, but this revision's OFT policy ignores it")
    return include, Decision("state", "read" if include else "not read", f"{path} is {include}")
