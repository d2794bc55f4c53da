"""The folds together: devices, precision, batches, and what to do when memory runs out.

Logits are summed over the folds, not averaged, before the softmax: the published model was run like that
(docs/model_recipe.md, step 10). With two classes the softmax of the sum is the sigmoid of the summed margin
between foreground and background, so only the margin is kept.

Memory ladder: all folds resident and the chosen batch; on out-of-memory the batch halves, then folds go
one at a time over all lesions, then everything moves to the CPU; only then the run gives up.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MemoryExhaustedError, WeightsError, one_line
from ..network.encoding import HeatMap
from ..network.plan import Plan
from ..network.resample import FloatVolume
from ..network.resenc_unet import ResEncUNet
from ..network.variants import InputVariant
from ..network.weights import FoldWeights, build_network, check_fold
from .options import ModelOptions, Precision

log = logging.getLogger(__name__)

Encode = Callable[[], FloatVolume]

_GIB = 1 << 30
# A network this narrow takes torch's slow convolution kernels on the CPU for a batch of one.
_NARROW_FEATURES = 32
# Feature maps of the first stage that live at once at the peak of a forward (decoder and its concatenation).
_MAPS_AT_PEAK = 10
# Patches of a GPU batch together: beyond this the device is busy anyway.
_GPU_BATCH_VOXELS = 8_000_000
# Channels and sums of lesions that wait on the host while folds go one at a time.
_WAITING_BYTES = 2 * _GIB


@dataclass(frozen=True, slots=True)
class Rung:
    """One way of computing: where, how many lesions at once, and whether all folds stay in memory."""

    device: str
    precision: Precision
    batch: int
    resident: bool

    def describe(self) -> str:
        folds = "all folds resident" if self.resident else "one fold at a time"
        return f"{self.device}, {self.precision}, batch {self.batch}, {folds}"


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one lesion: summed margin (foreground minus background), float32, or the failure."""

    index: int
    margin: FloatVolume | None
    error: Exception | None = None

    @property
    def probability(self) -> FloatVolume:
        """Foreground probability, float32, of the patch's shape."""
        assert self.margin is not None
        return foreground_probability(self.margin)


def foreground_probability(margin: FloatVolume) -> FloatVolume:
    """The softmax of two classes from foreground minus background logit, float32 of the same shape."""
    values: FloatVolume = torch.sigmoid(torch.from_numpy(margin)).numpy()
    return values


def choose_device(wanted: str) -> str:
    """``auto`` is the first GPU that torch can use, else the CPU, which is said in one line.

    Raises:
        InputError: a GPU was asked for that is not there.
    """
    if wanted == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        if wanted != "auto":
            raise InputError(f"--device {wanted}: torch sees no GPU here; expected --device cpu or auto")
        log.info(
            "no GPU is available: running on the CPU (docker needs --gpus all and nvidia-container-toolkit)"
        )
        return "cpu"
    if wanted == "auto":
        return "cuda:0" if _gpu_works() else "cpu"
    device = torch.device(wanted)
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {wanted}: torch sees {torch.cuda.device_count()} GPU(s); expected one of them"
        )
    return f"cuda:{device.index or 0}"


def _gpu_works() -> bool:
    """Whether this torch has code for the GPU that it sees."""
    try:
        torch.zeros(1, device="cuda:0").add_(1).cpu()
    except RuntimeError as error:
        name = torch.cuda.get_device_name(0)
        log.warning("the GPU (%s) cannot be used: %s; running on the CPU", name, one_line(error)[:160])
        return False
    return True


def choose_precision(wanted: str, device: str) -> Precision:
    """bf16 where the device really has it, fp16 on other GPUs (T4), fp32 on the CPU unless asked."""
    if wanted in ("fp32", "fp16", "bf16"):
        return wanted  # type: ignore[return-value]
    if device == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    )


class Ensemble:
    """Predicts lesions with all folds of a model."""

    def __init__(self, plan: Plan, folds: Sequence[FoldWeights], options: ModelOptions) -> None:
        """WeightsError when a fold does not fit the plan."""
        if not folds:
            raise WeightsError("no folds were chosen; expected at least one")
        self.plan = plan
        self.options = options
        self.folds = tuple(folds)
        self.notes: list[str] = []
        self.forwards = 0
        self._channels = list(folds[0].variant.channels)
        self._mirrors = _mirror_combinations(folds[0].mirror_axes) if options.tta else [()]
        self._networks: list[ResEncUNet] = []
        for fold in folds:
            check_fold(plan, fold)  # a fold that does not fit is told before any lesion's turn
        self._set_determinism()
        self.rung = self._first_rung(choose_device(options.device))
        log.info("predicting on %s", self.rung.describe())

    @property
    def variant(self) -> InputVariant:
        """Which channels the folds take."""
        return self.folds[0].variant

    @property
    def heat_map(self) -> HeatMap:
        """How points are drawn for it; all folds of a model are alike."""
        return self.folds[0].heat_map

    @property
    def device_name(self) -> str:
        if self.rung.device == "cpu":
            return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        return torch.cuda.get_device_name(self.rung.device)

    @property
    def peak_gpu_mib(self) -> float | None:
        """The most GPU memory that torch held so far; None without a GPU."""
        if not torch.cuda.is_available():
            return None
        return torch.cuda.max_memory_reserved() / (1 << 20)

    def predict(self, encode: Sequence[Encode]) -> Iterator[Prediction]:
        """Answers in the order in which they are done; each lesion once, failed ones with their error.

        Args:
            encode: per lesion (or per tile of one) a function that makes its channels, float32 [5, *patch];
                [2, *patch] for a single-time-point network. Called when its turn comes, so that not all
                of them are in memory.

        Raises:
            MemoryExhaustedError: not even the smallest way of computing fits.
        """
        waiting = list(range(len(encode)))
        while waiting:
            step = self._through_all_folds if self.rung.resident else self._fold_by_fold
            try:
                for prediction in step(waiting, encode):
                    waiting.remove(prediction.index)
                    yield prediction
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = one_line(error)[:120]
                del error
                self._step_down(reason)

    def _through_all_folds(self, waiting: Sequence[int], encode: Sequence[Encode]) -> Iterator[Prediction]:
        """Batch after batch through every fold; the folds stay on the device."""
        while len(self._networks) < len(self.folds):
            fold = self.folds[len(self._networks)]
            self._networks.append(self._build(fold))
        batches = list(_batches(list(waiting), self.rung.batch))
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches") as pool:
            # While a batch is computed the next one's patches are cut.
            upcoming = pool.submit(_prepare, batches[0], encode)
            for following in (*batches[1:], []):
                prepared, failed = upcoming.result()
                upcoming = pool.submit(_prepare, following, encode)
                yield from failed
                if prepared:
                    yield from self._predict_batch(prepared)

    def _predict_batch(self, prepared: list[tuple[int, FloatVolume]]) -> Iterator[Prediction]:
        try:
            channels = self._to_device([values for _, values in prepared])
            total = sum(self._margin(network, channels) for network in self._networks)
            assert isinstance(total, Tensor)
            margins = total.cpu().numpy()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # One lesion of the batch is at fault: alone, the others go through.
            log.exception("a forward pass failed")
            if len(prepared) == 1:
                yield Prediction(prepared[0][0], None, error)
                return
            for single in prepared:
                yield from self._predict_batch([single])
            return
        for (index, _), margin in zip(prepared, margins, strict=False):
            yield _checked(index, margin)

    def _fold_by_fold(self, waiting: Sequence[int], encode: Sequence[Encode]) -> Iterator[Prediction]:
        """Each fold once over as many lesions as the host can hold; their sums wait there."""
        patch_bytes = 4 * int(np.prod(self.plan.patch_size_zyx)) * (len(self._channels) + 1)
        group_size = max(self.rung.batch, _WAITING_BYTES // patch_bytes)
        for group in _batches(list(waiting), group_size):
            prepared, failed = _prepare(group, encode)
            yield from failed
            sums = {index: np.zeros(self.plan.patch_size_zyx, np.float32) for index, _ in prepared}
            errors: dict[int, Exception] = {}
            for fold in self.folds:
                network = self._build(fold)
                for batch in _batches(prepared, self.rung.batch):
                    self._add_margins(batch, network, sums, errors)
                del network
            for index, margin in sums.items():
                if index in errors:
                    yield Prediction(index, None, errors[index])
                else:
                    yield _checked(index, margin)

    def _add_margins(
        self,
        batch: list[tuple[int, FloatVolume]],
        network: ResEncUNet,
        sums: dict[int, FloatVolume],
        errors: dict[int, Exception],
    ) -> None:
        try:
            margins = self._margin(network, self._to_device([values for _, values in batch])).cpu().numpy()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            log.exception("a forward pass failed")
            if len(batch) == 1:
                errors[batch[0][0]] = error
                return
            for single in batch:
                self._add_margins([single], network, sums, errors)
            return
        for (index, _), margin in zip(batch, margins, strict=False):
            sums[index] += margin

    def _to_device(self, values: list[FloatVolume]) -> Tensor:
        """Channels of a batch [B, C, *patch]; a short last batch is filled up where that is faster."""
        if self._is_narrow_on_cpu and len(values) < self.rung.batch:
            values = values + [values[-1]] * (self.rung.batch - len(values))
        picked = [torch.from_numpy(value)[self._channels] for value in values]
        return torch.stack(picked).to(self.rung.device, memory_format=self._memory_format)

    def _build(self, fold: FoldWeights) -> ResEncUNet:
        network = build_network(self.plan, fold, self.rung.device)
        network.to(memory_format=self._memory_format)  # type: ignore[call-overload]  # torch's types lack it
        return network

    @property
    def _memory_format(self) -> torch.memory_format:
        """The order in memory that is fastest: channels innermost for narrow networks on the CPU."""
        return torch.channels_last_3d if self._is_narrow_on_cpu else torch.contiguous_format

    @torch.inference_mode()
    def _margin(self, network: ResEncUNet, channels: Tensor) -> Tensor:
        """Foreground minus background logit, float32 [B, *patch], averaged over the mirrored views."""
        total: Tensor | None = None
        for axes in self._mirrors:
            view = channels.flip(axes) if axes else channels
            logits = self._forward(network, view)
            margin = logits[:, 1].float() - logits[:, 0].float()
            if axes:
                margin = margin.flip([axis - 1 for axis in axes])  # without the channel axis
            total = margin if total is None else total + margin
        assert total is not None
        return total / len(self._mirrors)

    def _forward(self, network: ResEncUNet, channels: Tensor) -> Tensor:
        self.forwards += 1
        with self._autocast():
            logits = network(channels)
        if self.rung.precision == "fp16" and not torch.isfinite(logits).all():
            self._note("a value exceeded half precision; that forward was done again in float32")
            logits = network(channels)
        assert isinstance(logits, Tensor)
        return logits

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        if self.rung.precision == "fp32":
            return nullcontext()
        kind = torch.float16 if self.rung.precision == "fp16" else torch.bfloat16
        return torch.autocast(torch.device(self.rung.device).type, dtype=kind)

    @property
    def _is_narrow_on_cpu(self) -> bool:
        return self.rung.device == "cpu" and self._is_narrow

    @property
    def _is_narrow(self) -> bool:
        return self.plan.architecture.features_per_stage[0] < _NARROW_FEATURES

    @property
    def _batch_on_cpu(self) -> int:
        return 2 if self._is_narrow else 1

    def _first_rung(self, device: str) -> Rung:
        precision = choose_precision(self.options.precision, device)
        voxels = int(np.prod(self.plan.patch_size_zyx))
        if device == "cpu":
            return Rung(device, precision, self.options.batch or self._batch_on_cpu, resident=True)
        batch = self.options.batch or max(1, min(8, _GPU_BATCH_VOXELS // voxels))
        weights_bytes = 4 * sum(tensor.numel() for tensor in self.folds[0].state.values())
        value_bytes = 4 if precision == "fp32" else 2
        activations = (
            batch * voxels * self.plan.architecture.features_per_stage[0] * value_bytes * _MAPS_AT_PEAK
        )
        free, _ = torch.cuda.mem_get_info(device)
        resident = len(self.folds) * weights_bytes + activations <= free
        return Rung(device, precision, batch, resident)

    def _step_down(self, reason: str) -> None:
        """Take the next smaller way of computing, or give up."""
        before = self.rung
        if before.batch > 1:
            self.rung = replace(before, batch=before.batch // 2)
        elif before.resident and len(self.folds) > 1:
            self.rung = replace(before, resident=False)
        elif before.device != "cpu":
            self.rung = Rung("cpu", choose_precision("auto", "cpu"), self._batch_on_cpu, resident=True)
        else:
            raise MemoryExhaustedError(
                f"out of memory even with {before.describe()} ({reason}); expected more memory"
            )
        if not self.rung.resident or self.rung.device != before.device:
            self._networks.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._note(f"out of memory with {before.describe()}; going on with {self.rung.describe()}")

    def _set_determinism(self) -> None:
        torch.backends.cudnn.benchmark = not self.options.deterministic
        if self.options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)

    def _note(self, text: str) -> None:
        log.warning("%s", text)
        if text not in self.notes:
            self.notes.append(text)


def _prepare(
    indices: Sequence[int], encode: Sequence[Encode]
) -> tuple[list[tuple[int, FloatVolume]], list[Prediction]]:
    """The channels of some lesions, and the failures of those that have none."""
    prepared, failed = [], []
    for index in indices:
        try:
            prepared.append((index, encode[index]()))
        except Exception as error:  # one lesion's failure never loses the others
            if is_out_of_memory(error):
                raise
            log.exception("a lesion could not be prepared")
            failed.append(Prediction(index, None, error))
    return prepared, failed


def _checked(index: int, margin: FloatVolume) -> Prediction:
    if np.isfinite(margin).all():
        return Prediction(index, margin)
    return Prediction(index, None, ArithmeticError("the network's answer is not finite"))


_Item = TypeVar("_Item")


def _batches(items: Sequence[_Item], size: int) -> Iterator[list[_Item]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _mirror_combinations(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every combination of the spatial axes (0 to 2), as axes of a batch [B, C, z, y, x]; none first."""
    picks = chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))
    return [tuple(axis + 2 for axis in pick) for pick in picks]
