"""Facts about a run that are neither weights nor settings of a head: body, backbone, mixture, provenance."""

from __future__ import annotations

from pathlib import Path

from finevla_runtime.contracts.embodiment import Embodiment, load_embodiment
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.paths import HW_CONFIGS
from training.importer.action_rule import find_mixture
from training.importer.decision import Decision
from training.importer.revision import FINEVLA
from training.importer.run_config import RunConfig
from training.importer.run_folder import RunFolder, refuse_lfs_pointer, sha256_of


def find_body(name: str | None, control_hz: float | None) -> tuple[Embodiment, float]:
    """Return the robot the policy is for and the rate of its rows.

    Raises:
        SetupError: FV-IMP-018 when one is not given or impossible; FV-CFG-* for a bad robot file.
    """
    known = sorted(path.stem for path in HW_CONFIGS.glob("*.yaml"))
    if name is None:
        raise SetupError("FV-IMP-018", f"a run does not name its robot; say it by --embodiment: {', '.join(known)}.")
    if name not in known:
        raise unknown_name("FV-IMP-018", "embodiment", name, known, "hw_configs")
    if control_hz is None or not control_hz > 0:
        raise SetupError(
            "FV-IMP-018",
            "a run does not record the rate of its rows; say it by --control-hz, rows per second of the dataset it was "
            "trained on (RoboTwin's recordings have about 16.7).",
        )
    return load_embodiment(HW_CONFIGS / f"{name}.yaml"), control_hz


def find_backbone(config: RunConfig, asked: Path | None) -> Path:
    """Return the backbone's folder: ``asked``, or the folder the run was trained from when it exists here.

    Raises:
        SetupError: FV-IMP-019 when neither holds config.json and tokenizer.json, FV-IMP-003 for git-lfs pointers.
    """
    trained_from = config.text("framework.qwenvl.base_vlm") or "(not named)"
    folder = asked if asked is not None else Path(trained_from)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SetupError(
                "FV-IMP-019",
                f"{folder} has no {name}. The run was trained from {trained_from}; name a folder of the same model "
                "by --backbone. Its weights are not needed.",
            )
        refuse_lfs_pointer(folder / name)
    return folder


def find_fg_share(config: RunConfig, asked: float | None) -> tuple[float, Decision]:
    """Return the share of fine-grained samples.

    Raises:
        SetupError: FV-IMP-018 when the mixture is unknown and nothing was said, or the share is outside 0..1.
    """
    name, mixture = find_mixture(config)
    if asked is not None and not 0 <= asked <= 1:
        raise SetupError("FV-IMP-018", f"--fg-share is {asked}, wanted 0 to 1.")
    if asked is not None:
        return asked, Decision("fg_share", f"{asked:g}", f"--fg-share; the mixture is {name}")
    if mixture is None:
        raise SetupError(
            "FV-IMP-018",
            f"the mixture {name} is not known, so its share of fine-grained instructions is not either; say it by "
            "--fg-share (0 raw only, 1 fine-grained only).",
        )
    why = (
        f"nominal weights of the mixture {name}; the run did not measure it, and upstream's index cache, shared by raw "
        "and fine-grained entries, can change it"
    )
    return mixture.fg_share, Decision("fg_share", f"{mixture.fg_share:g}", why)


def refuse_other_prompts(config: RunConfig) -> None:
    """Refuse a prompt around the instruction that our template has not (SetupError FV-IMP-009)."""
    if config.text("datasets.vla_data.CoT_prompt"):
        raise SetupError(
            "FV-IMP-009",
            "datasets.vla_data.CoT_prompt wraps the instruction in more words; such a prompt cannot be imported.",
        )


def fixed_decisions(revision: str, framework: str, config: RunConfig) -> tuple[Decision, ...]:
    """Return what is the same for every import of a revision."""
    attention = config.text("framework.qwenvl.attn_implementation") or "not set"
    decisions = [
        Decision("attention", "sdpa", f"the config says {attention}; upstream's Qwen3.5 wrapper overrides it with sdpa")
    ]
    if framework == "gr00t":
        masked = "this revision also passes it"
        if revision == FINEVLA:
            masked = "this revision passes none: padding was attended to, so its answers depended on batch mates"
        decisions.append(Decision("encoder_mask", "always passed", masked))
    return tuple(decisions)


def source_texts(run: RunFolder, config: RunConfig) -> dict[str, str]:
    """Return where the weights come from; paths on the machine that trained them stay out."""
    pretrained = config.text("trainer.pretrained_checkpoint")
    texts = {
        "source.run": run.path.resolve().name,
        "source.file": str(run.weights.relative_to(run.path)),
        "source.sha256": sha256_of(run.weights),
        "source.step": run.step,
        "source.statistics_sha256": sha256_of(run.statistics),
        "source.mixture": find_mixture(config)[0],
        "source.base_vlm": Path(config.text("framework.qwenvl.base_vlm") or "(not named)").name,
    }
    if pretrained:
        texts["source.pretrained"] = "/".join(Path(pretrained).parts[-3:])
    return texts
