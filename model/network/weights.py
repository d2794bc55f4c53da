"""Weights on disk: finding, loading, and checking them against their plan.

The layout is the published one: `plans.json`, `dataset.json`, `fold_N/checkpoint_final.pth`; a
`checkpoint_final.safetensors` next to a `.pth` is preferred.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..case.input_files import path_exists
from ..errors import WeightsError
from .checkpoint_file import check_total, read_checkpoint
from .difference_weighting import DifferenceWeightedUNet
from .encoding import HeatMap
from .input_variants import (
    Family,
    InputVariant,
    PromptNetwork,
    is_pet_ct_trainer,
    longitudinal_variant,
    pet_ct_variant,
    prompt_unet_state,
    prompt_variant,
)
from .organ_unet import OrganUNet
from .plan import PLANS_FILE, Plan, read_plan, read_settings
from .resenc_unet import ORGAN_HEADS, ResEncUNet, canonical_state

log = logging.getLogger(__name__)

DATASET_FILE = "dataset.json"
MOUNTED_WEIGHTS = Path("/opt/ml/model")
SHIPPED_WEIGHTS = Path(__file__).resolve().parents[2] / "resources" / "weights"

PACKED, PICKLED = "checkpoint_final.safetensors", "checkpoint_final.pth"

FOLD_OF_ALL = "all"
"""Name of the fold of a network trained on all patients, in `fold_all`."""

LESION_CLASSES = 2
_LONGEST_NOTICE = 1000


@dataclass(frozen=True, eq=False)
class FoldWeights:
    """One fold's tensors under canonical names, and the metadata of its checkpoint.

    ``heat_map`` is the kind of heat maps that it was trained with.
    """

    path: Path
    state: dict[str, Tensor]
    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...]
    variant: InputVariant
    heat_map: HeatMap = HeatMap.UNIT_PEAK

    @property
    def organ_classes(self) -> int:
        """Number of classes of the heads for organs, with background; 0 without such heads."""
        heads = [tensor for name, tensor in self.state.items() if name.startswith(ORGAN_HEADS)]
        return int(heads[0].shape[0]) if heads and heads[0].ndim else 0


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class WeightsManifest:
    """Folder and files of an ensemble."""

    folder: Path
    folds: tuple[int | str, ...]
    files: tuple[Path, ...]

    @property
    def plan_file(self) -> Path:
        """The `plans.json`."""
        return self.folder / PLANS_FILE

    @property
    def notice(self) -> str | None:
        """Notice for all users of the model, from its `dataset.json`, or None.

        The file is not needed for inference: if it is damaged, the notice reports that.
        """
        path = self.folder / DATASET_FILE
        if not path_exists(path):
            return None
        try:
            document = read_settings(path, "a data set with an optional 'notice'")
            given = document.get("notice") if isinstance(document, dict) else False
            notice = "" if given is None else given
        except WeightsError as error:
            notice = None
            log.debug("", exc_info=error)
        if not isinstance(notice, str):
            return f"{DATASET_FILE} cannot be read; the model may have a notice for its users"
        printable = "".join(letter if letter.isprintable() else " " for letter in notice[:_LONGEST_NOTICE])
        return " ".join(printable.split()) or None

    def hashes(self, digest: Callable[[Path], str] = sha256) -> dict[str, str]:
        """SHA-256 of the plan and of every fold, by path relative to the folder.

        Args:
            digest: hashes a file; a caching one may be given.
        """
        return {str(file.relative_to(self.folder)): digest(file) for file in (self.plan_file, *self.files)}


def find_weights(explicit: Path | None = None) -> Path:
    """Find the folder of a model: the given one, otherwise the mounted one, otherwise the shipped one.

    The model may also lie one folder further down, as in an unpacked archive.

    Raises:
        WeightsError: no folder holds a `plans.json`.
    """
    candidates = [explicit] if explicit is not None else [MOUNTED_WEIGHTS, SHIPPED_WEIGHTS]
    for candidate in candidates:
        folder = _model_folder(candidate)
        if folder is not None:
            return folder
    names = " or ".join(str(candidate) for candidate in candidates)
    expected = f"expected {PLANS_FILE} and fold_0 ... fold_4 in it"
    if explicit is None and not SHIPPED_WEIGHTS.exists():
        expected = (
            "an installed package has no weights; expected the folder of a model, named with --weights or "
            "load_model(folder): resources/weights of the repository is a demonstration, the published ones "
            "are Zenodo record 17027189"
        )
    raise WeightsError(f"{names}: holds no model; {expected}")


def _model_folder(folder: Path) -> Path | None:
    if (folder / PLANS_FILE).is_file():
        return folder
    nested = sorted(folder.glob(f"*/{PLANS_FILE}")) if folder.is_dir() else []
    if len(nested) > 1:
        names = ", ".join(path.parent.name for path in nested[:4])
        raise WeightsError(f"{folder}: holds several models ({names}); expected one")
    return nested[0].parent if nested else None


def find_prompt_network(root: Path, network: PromptNetwork) -> Path | None:
    """Find the folder of a single-time-point network; None if it is missing.

    Args:
        root: the folder of the published archive (`LesionLocatorCheckpoint`), the one above or below it,
            or the network's own.
        network: which network.

    Raises:
        WeightsError: it exists more than once.
    """
    parts = Path(network.value)
    candidates = [root / parts, root / parts.name, *sorted(root.glob(f"*/{parts}"))]
    if root.resolve().name == parts.name:
        candidates.append(root)
    folders = list(dict.fromkeys(folder for folder in candidates if (folder / PLANS_FILE).is_file()))
    if len(folders) > 1:
        names = ", ".join(str(folder.relative_to(root)) for folder in folders[:4])
        raise WeightsError(f"{root}: holds {parts.name} several times ({names}); expected one")
    return folders[0] if folders else None


def inspect_weights(folder: Path, folds: Sequence[int | str]) -> WeightsManifest:
    """Find the file of each fold; folds are numbers, or `FOLD_OF_ALL`.

    Raises:
        WeightsError: a fold is missing.
    """
    return WeightsManifest(folder, tuple(folds), tuple(fold_file(folder, fold) for fold in folds))


def fold_file(folder: Path, fold: int | str, names: Sequence[str] = (PACKED, PICKLED)) -> Path:
    """The first existing file of a fold, by default the packed one if it exists.

    Raises:
        WeightsError: no file exists.
    """
    for name in names:
        if (folder / f"fold_{fold}" / name).is_file():
            return folder / f"fold_{fold}" / name
    held = ", ".join(f"fold_{other}" for other in _folds_in(folder)) or "no fold"
    raise WeightsError(
        f"{folder / f'fold_{fold}'}: the fold is missing; expected {' or '.join(names)} in it "
        f"(the model holds {held})"
    )


def available_folds(folder: Path) -> tuple[int | str, ...]:
    """Every fold in a model's folder: numbers in ascending order, then "all" if there is `fold_all`.

    Raises:
        WeightsError: there is no fold.
    """
    folds = _folds_in(folder)
    if not folds:
        raise WeightsError(f"{folder}: holds no folds; expected fold_0 ... fold_4, or fold_all")
    return folds


def ensemble_folds(folder: Path) -> tuple[int | str, ...]:
    """The folds that are averaged by default: all numbers, or "all" in a folder without any.

    Raises:
        WeightsError: there are no folds.
    """
    folds = available_folds(folder)
    return tuple(fold for fold in folds if fold != FOLD_OF_ALL) or folds


def _folds_in(folder: Path) -> tuple[int | str, ...]:
    names = [path.name.removeprefix("fold_") for path in folder.glob("fold_*") if path.is_dir()]
    numbers = sorted(int(name) for name in names if name.isdecimal())
    return (*numbers, FOLD_OF_ALL) if FOLD_OF_ALL in names else tuple(numbers)


def load_plan(manifest: WeightsManifest) -> Plan:
    """Read the plan in the configuration named by the first fold's checkpoint."""
    return read_plan(manifest.plan_file, read_checkpoint(manifest.files[0]).configuration)


def load_fold(path: Path, family: Family | None = Family.LONGITUDINAL, organs: bool = False) -> FoldWeights:
    """Read one fold without its optimizer state. Tensors keep their stored type.

    Args:
        path: the checkpoint.
        family: the expected family of networks; None takes PET/CT if the trainer's name shows it, otherwise
            the longitudinal one.
        organs: keep the heads for organs of a network for PET/CT, if it has any.

    Raises:
        WeightsError: unreadable, refused as unsafe, not finite, or of another family.
    """
    raw = read_checkpoint(path)
    if family is None:
        family = Family.PET_CT if is_pet_ct_trainer(raw.trainer_name) else Family.LONGITUDINAL
    if family is Family.SINGLE_TIME_POINT:
        variant = prompt_variant(path, raw)
        state = _canonical(path, prompt_unet_state(path, raw))
    elif family is Family.PET_CT:
        state = _canonical(path, raw.state)
        state = {name: value for name, value in state.items() if organs or not name.startswith(ORGAN_HEADS)}
        variant = pet_ct_variant(path, state, raw.trainer_name)
    else:
        state = _canonical(path, raw.state)
        variant = longitudinal_variant(path, state, raw.trainer_name)
    check_total(path, state)
    name = first_not_finite(state)
    if name is not None:  # every prediction would silently be empty
        raise WeightsError(f"{path}: is corrupt, {name} holds NaN or infinity; expected finite weights")
    return FoldWeights(
        path, state, raw.trainer_name, raw.configuration, raw.mirror_axes, variant, raw.heat_map
    )


def _canonical(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        return canonical_state(state)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; expected a checkpoint of the residual-encoder U-Net") from error


def first_not_finite(state: dict[str, Tensor]) -> str | None:
    """Name of the first tensor with NaN or infinity, None if all are finite.

    Sums detect both in one pass, without a second array.

    Args:
        state: state dict with tensors of any shape.
    """
    sums = ((name, float(tensor.sum(dtype=torch.float32))) for name, tensor in state.items())
    return next((name for name, total in sums if not math.isfinite(total)), None)


def load_folds(
    *manifests: WeightsManifest, family: Family = Family.LONGITUDINAL, organs: bool = False
) -> Iterator[FoldWeights]:
    """Read all folds of one or several model folders in order; ``organs`` as in `load_fold`.

    Raises:
        WeightsError: as `load_fold`, or a fold is of another variant, takes other heat maps or has heads for
            another number of organs than the first.
    """
    first: FoldWeights | None = None
    for file in (file for manifest in manifests for file in manifest.files):
        fold = load_fold(file, family, organs)
        first = first or fold
        same_folder = first.path.parent.parent == file.parent.parent
        first_name = first.path.parent.name if same_folder else first.path
        if fold.variant is not first.variant:
            raise WeightsError(
                f"{file}: is {fold.variant.description}; expected {first.variant.description} as "
                f"{first_name} is"
            )
        if fold.heat_map is not first.heat_map:
            raise WeightsError(
                f"{file}: was trained with {fold.heat_map} heat maps; expected {first.heat_map} as "
                f"{first_name} was"
            )
        if fold.organ_classes != first.organ_classes:
            raise WeightsError(
                f"{file}: has {fold.organ_classes} classes of organs; expected {first.organ_classes} as "
                f"{first_name} has"
            )
        yield fold


def build_network(plan: Plan, weights: FoldWeights, device: str = "cpu") -> ResEncUNet:
    """Build the network of a plan with a fold's weights, float32, in eval mode.

    On the CPU it shares the loaded tensors if they are float32.

    Raises:
        WeightsError: as `check_fold`.
    """
    network = check_fold(plan, weights)
    network.load_state_dict({k: v.to(device).float() for k, v in weights.state.items()}, assign=True)
    return network.eval().requires_grad_(False)


def check_fold(plan: Plan, weights: FoldWeights) -> ResEncUNet:
    """Check that a fold's weights fit the plan's network.

    Returns:
        The network, without memory for its weights (on torch's meta device).

    Raises:
        WeightsError: plan and checkpoint disagree; the first difference is named.
    """
    with torch.device("meta"):  # values are replaced at once: no memory and time for them
        network = planned_network(plan, weights.variant, organ_classes=weights.organ_classes)
    planned = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in sorted(planned.keys() | weights.state.keys()):
        given = weights.state.get(name)
        if name not in planned or given is None or given.shape != planned[name]:
            in_plan = list(planned[name]) if name in planned else "nothing"
            in_file = list(given.shape) if given is not None else "nothing"
            raise WeightsError(
                f"{weights.path}: does not fit its plan: {name} is {in_file}; expected {in_plan}"
            )
    return network


def planned_network(
    plan: Plan, variant: InputVariant, deep_supervision: bool = False, organ_classes: int = 0
) -> ResEncUNet:
    """Build the network of a plan and a variant, with torch's initial weights.

    With deep supervision its forward pass returns the logits of all decoder stages, otherwise one tensor;
    with classes of organs it returns their logits behind those of the lesion.
    """
    if organ_classes:
        inputs = variant.stem_channels
        return OrganUNet(inputs, LESION_CLASSES, organ_classes, plan.architecture, deep_supervision)
    if variant is InputVariant.DIFFERENCE_WEIGHTING:
        return DifferenceWeightedUNet(LESION_CLASSES, plan.architecture, deep_supervision)
    return ResEncUNet(variant.stem_channels, LESION_CLASSES, plan.architecture, deep_supervision)
