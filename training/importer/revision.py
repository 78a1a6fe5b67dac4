"""Which repository revision trained a run; the two differ in clipping, encoder mask and names."""

from __future__ import annotations

from finevla_runtime.contracts.errors import SetupError, unknown_name
from training.importer.data_config import MIXTURES
from training.importer.decision import Decision
from training.importer.run_config import RunConfig

FINEVLA = "finevla"
STARVLA = "starvla"
REVISIONS = (FINEVLA, STARVLA)


def find_revision(config: RunConfig, asked: str | None) -> tuple[str, Decision]:
    """Return the revision of a run and what decided it.

    ``finevla`` is StarVLA as FineVLA-Policy froze it, before May 2026: clients clip model rows to [-1, 1], the GR00T
    head sees no encoder mask, OFT ignores the state, and the image size is called ``image_size``. ``starvla`` is
    StarVLA since 7 May 2026: the server un-normalises without clipping and configs carry ``version_id``.

    Args:
        config: settings of the run.
        asked: value of ``--revision``; it may settle an open question, not contradict the run.

    Raises:
        SetupError: FV-IMP-010 when the settings say nothing, say both, or contradict ``asked``.
    """
    if asked is not None and asked not in REVISIONS:
        raise unknown_name("FV-IMP-010", "revision", asked, REVISIONS)
    signs = _signs(config)
    named = {revision for revision, _ in signs}
    listed = "; ".join(f"{why} means {revision}" for revision, why in signs) or "it has no sign of either revision"
    if asked is not None and named == set(REVISIONS):
        return asked, Decision("revision", asked, f"--revision; the config alone is ambiguous ({listed})")
    if asked is not None and named - {asked}:
        raise SetupError("FV-IMP-010", f"--revision {asked} contradicts the run's config: {listed}.")
    if asked is not None:
        return asked, Decision("revision", asked, "--revision" + (f"; {listed}" if signs else ""))
    if len(named) != 1:
        raise SetupError(
            "FV-IMP-010",
            f"the config does not tell which revision trained this run: {listed}. Say it by --revision: "
            "finevla (clients clip to [-1, 1]) or starvla (no clipping, since 7 May 2026).",
        )
    return signs[0][0], Decision("revision", signs[0][0], listed)


def _signs(config: RunConfig) -> list[tuple[str, str]]:
    signs = []
    if config.find("version_id") is not None:
        signs.append((STARVLA, "version_id"))
    if config.find("datasets.vla_data.obs_image_size") is not None:
        signs.append((STARVLA, "datasets.vla_data.obs_image_size"))
    if config.find("datasets.vla_data.image_size") is not None:
        signs.append((FINEVLA, "datasets.vla_data.image_size"))
    mixture = config.text("datasets.vla_data.data_mix")
    known = MIXTURES.get(mixture or "")
    if known is not None and known.revision is not None:
        signs.append((known.revision, f"the mixture {mixture}"))
    return signs
