"""Which cameras an imported policy reads, at which size and by which resize rule."""

from __future__ import annotations

from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import CameraSpec
from finevla_runtime.processing.images import RESIZE_RULES
from training.importer.data_config import DataConfig
from training.importer.decision import Decision
from training.importer.revision import FINEVLA
from training.importer.run_config import RunConfig

# Both loaders resize every frame to this, whatever the config says.
LOADER_SIZE = (224, 224)
_SIZE_KEYS = ("obs_image_size", "image_size", "default_image_resolution")


def find_cameras(
    config: RunConfig,
    data: DataConfig | None,
    revision: str,
    body: Embodiment,
    asked: tuple[str, ...],
    image_size: int | None,
    resize: str,
) -> tuple[tuple[CameraSpec, ...], tuple[Decision, ...]]:
    """Return the cameras in model order.

    Args:
        config: settings of the run.
        data: its data configuration, when it is known.
        revision: FineVLA's loader puts views without ``wrist`` in their name first.
        body: the robot that will feed the policy.
        asked: value of ``--cameras``, the body's cameras in the order of the run's views; empty to use the run's
            own names.
        image_size: value of ``--image-size``.
        resize: value of ``--resize``.

    Raises:
        SetupError: FV-IMP-017 when names, number or size are not certain.
    """
    if resize not in RESIZE_RULES:
        raise unknown_name("FV-IMP-017", "resize rule", resize, RESIZE_RULES, "--resize")
    views = _views(config, data, revision)
    names, decided_names = _names(views, body, asked)
    (width, height), decided_size = _size(config, image_size)
    decided_resize = Decision(
        "resize",
        resize,
        "upstream trains on frames that PIL stretches with its bicubic filter and evaluates on frames that OpenCV's "
        "area kernel shrank; --resize area follows the evaluation",
    )
    cameras = tuple(CameraSpec(name, height, width, resize) for name in names)
    return cameras, (decided_names, decided_size, decided_resize)


def _views(config: RunConfig, data: DataConfig | None, revision: str) -> tuple[str, ...]:
    if data is not None:
        views = data.views
    else:
        node = config.find("datasets.vla_data.obs")
        views = tuple(item.text() for item in node.elements()) if node is not None else ()
    if revision != FINEVLA:
        return views
    return (*(v for v in views if "wrist" not in v), *(v for v in views if "wrist" in v))


def _names(views: tuple[str, ...], body: Embodiment, asked: tuple[str, ...]) -> tuple[tuple[str, ...], Decision]:
    mounted = [camera.name for camera in body.cameras]
    listed = ", ".join(views) or "unknown"
    for name in asked:
        if name not in mounted:
            raise unknown_name("FV-IMP-017", "camera", name, mounted, body.name)
    if asked and views and len(asked) != len(views):
        raise SetupError("FV-IMP-017", f"--cameras names {len(asked)} views, the run has {len(views)}: {listed}.")
    if asked:
        return asked, Decision("cameras", ", ".join(asked), f"--cameras; the run's views are {listed}")
    if not views or not set(views) <= set(mounted):
        raise SetupError(
            "FV-IMP-017",
            f"the run's views ({listed}) are not cameras of {body.name} ({', '.join(mounted)}). Say by --cameras "
            "which camera feeds each view, in the run's order (upstream: head or front, left wrist, right wrist).",
        )
    return views, Decision("cameras", ", ".join(views), "views of the run's data configuration")


def _size(config: RunConfig, asked: int | None) -> tuple[tuple[int, int], Decision]:
    found = {}
    for key in _SIZE_KEYS:
        node = config.find(f"datasets.vla_data.{key}")
        if node is not None:
            sizes = [item.integer() for item in node.elements()][-2:]
            found[key] = (sizes[0], sizes[-1])
    listed = ", ".join(f"{key} {width}x{height}" for key, (width, height) in found.items()) or "no image size"
    if asked is not None:
        return (asked, asked), Decision("image_size", f"{asked}x{asked}", f"--image-size; the config says {listed}")
    if set(found.values()) - {LOADER_SIZE}:
        raise SetupError(
            "FV-IMP-017",
            f"the config says {listed}, but both loaders resize training frames to "
            f"{LOADER_SIZE[0]}x{LOADER_SIZE[1]}; say by --image-size what the model was trained on.",
        )
    why = f"the loader's fixed size; the config says {listed}"
    return LOADER_SIZE, Decision("image_size", f"{LOADER_SIZE[0]}x{LOADER_SIZE[1]}", why)
