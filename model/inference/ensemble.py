"""Ensemble: prediction of lesions with all folds of a model.

Logits are summed over the folds, not averaged, before the softmax: the published model was run like that
(docs/model_recipe.md, step 10). With two classes the softmax of the sum is the sigmoid of the summed margin
between foreground and background, so only the margin is kept.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain, combinations

import numpy as np
import torch
from torch import Tensor

from ..errors import WeightsError, one_line
from ..network.encoding import HeatMap
from ..network.input_variants import InputVariant
from ..network.plan import Plan
from ..network.resample import FloatVolume
from ..network.resenc_unet import ResEncUNet
from ..network.weights import FoldWeights, build_network, check_fold
from ..progress import report_progress
from .fold_votes import FoldVotes
from .memory import first_rung, is_narrow, is_out_of_memory, next_rung, release_memory
from .options import ModelOptions
from .prediction import Encode, Prediction, checked_prediction, encode_all, in_batches
from .time_budget import FoldPace

log = logging.getLogger(__name__)

# Channels and sums of lesions that wait on the host while folds are loaded one at a time.
_WAITING_BYTES = 2 << 30


class Ensemble:
    """Predicts lesions with all folds of a model.

    Args:
        plan: recipe of the networks.
        folds: weights; all folds of a model take the same channels.
        options: device, precision, mirroring and batch.
        fills_batches: a short last batch is padded, so that the last bits of a patch's margin do not depend
            on the number of patches that are predicted with it.

    Attributes:
        rung: the present way of computing.
        notes: events that a user should know of, such as steps down the memory ladder.
        forwards: number of forward passes so far.
        pace: chooses the number of folds of each batch by the time left; None takes all. While the folds are
            loaded one at a time, all are taken.

    Raises:
        WeightsError: there is no fold, or one does not fit the plan.
        InputError: the GPU of the options does not exist.
    """

    def __init__(
        self, plan: Plan, folds: Sequence[FoldWeights], options: ModelOptions, *, fills_batches: bool = False
    ) -> None:
        if not folds:
            raise WeightsError("no folds were chosen; expected at least one")
        self.plan = plan
        self.options = options
        self.folds = tuple(folds)
        self.notes: list[str] = []
        self.forwards = 0
        self.pace: FoldPace | None = None
        self._fills_batches = fills_batches
        self._channels = list(folds[0].variant.channels)
        self._score_shape = (1 + folds[0].organ_classes, *plan.patch_size_zyx)
        self._mirrors = _mirror_combinations(folds[0].mirror_axes) if options.tta else [()]
        self._networks: list[ResEncUNet] = []
        for fold in folds:
            check_fold(plan, fold)  # before any lesion is predicted
        self._set_determinism()
        self.rung = first_rung(plan, self.folds, options)
        log.info("predicting on %s", self.rung.describe())

    @property
    def variant(self) -> InputVariant:
        """Input channels of the folds."""
        return self.folds[0].variant

    @property
    def organ_classes(self) -> int:
        """Number of classes of organs that are predicted beside the lesion, with background; 0 for none."""
        return self.folds[0].organ_classes

    @property
    def heat_map(self) -> HeatMap:
        """Drawing of points; the same for all folds of a model."""
        return self.folds[0].heat_map

    @property
    def device_name(self) -> str:
        """Name of the processor or GPU."""
        if self.rung.device == "cpu":
            return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        return torch.cuda.get_device_name(self.rung.device)

    @property
    def peak_gpu_mib(self) -> float | None:
        """Peak of the GPU memory (MiB) that torch has reserved; None without a GPU."""
        if not torch.cuda.is_available():
            return None
        return torch.cuda.max_memory_reserved() / (1 << 20)

    def predict(self, encode: Sequence[Encode]) -> Iterator[Prediction]:
        """Predict patches; yields each once, in the order in which they are done, failed ones with an error.

        Args:
            encode: per patch (a lesion, or a tile of one) a function that makes its channels, float32
                [5, *patch], or [2, *patch] for a single-time-point network. It is called just in time, so
                that not all channels are in memory at once.

        Raises:
            MemoryExhaustedError: out of memory on every rung of the memory ladder.
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
        """Predict batch after batch with every fold; the folds stay on the device."""
        while len(self._networks) < len(self.folds):
            fold = self.folds[len(self._networks)]
            self._networks.append(self._build(fold))
        batches = list(in_batches(list(waiting), self.rung.batch))
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches") as pool:
            # The patches of the next batch are cut while one is computed.
            upcoming = pool.submit(encode_all, batches[0], encode)
            patches = len(waiting)
            for following in (*batches[1:], []):
                prepared, failed = upcoming.result()
                upcoming = pool.submit(encode_all, following, encode)
                yield from failed
                patches -= len(prepared) + len(failed)
                if prepared:
                    yield from self._predict_batch(prepared, patches)

    def _predict_batch(
        self, prepared: list[tuple[int, FloatVolume]], waiting: int = 0
    ) -> Iterator[Prediction]:
        """Predict one batch with the folds; ``waiting`` patches come after it."""
        try:
            channels = self._to_device([values for _, values in prepared])
            votes, used = self._no_votes(channels), 0
            total: Tensor | None = None
            for scores_of_fold in self._scores_by_fold(channels, votes, waiting):
                total, used = scores_of_fold if total is None else total + scores_of_fold, used + 1
            assert total is not None
            if used < len(self._networks):  # as if the other folds were like these
                total = total * (len(self._networks) / used)
            scores = total.cpu().numpy()
            is_voted = used == len(self._networks)
            counts = [votes.counts(position) if is_voted else None for position in range(len(prepared))]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # One lesion of the batch is at fault: each is predicted alone.
            log.exception("a forward pass failed")
            if len(prepared) == 1:
                yield Prediction(prepared[0][0], None, error)
                return
            for single in prepared:
                yield from self._predict_batch([single], waiting)
            return
        for (index, _), one, count in zip(prepared, scores, counts, strict=False):
            yield checked_prediction(index, one, count)

    def _scores_by_fold(self, channels: Tensor, votes: FoldVotes, waiting: int) -> Iterator[Tensor]:
        """Scores of a batch by one fold after the other, each counted as a vote; at least by one."""
        pace, batch, folds = self.pace, len(channels), len(self._networks)
        for fold, network in enumerate(self._networks):
            if fold and pace is not None and not pace.allows(fold, batch, waiting, folds):
                break
            if pace is not None:
                pace.begin_fold()
            scores = self._scores(network, channels)
            if pace is not None:
                self._finish_computing()
                pace.end_fold(batch)
            votes.add(fold, scores[:, 0])
            report_progress("folds", fold + 1, folds)
            yield scores
        if pace is not None:
            pace.end_batch(batch)

    def _finish_computing(self) -> None:
        """Wait for the GPU, which computes on while Python goes ahead."""
        if self.rung.device != "cpu":
            torch.cuda.synchronize(self.rung.device)

    def _no_votes(self, channels: Tensor) -> FoldVotes:
        return FoldVotes((len(channels), *channels.shape[2:]), len(self.folds), self.rung.device)

    def _fold_by_fold(self, waiting: Sequence[int], encode: Sequence[Encode]) -> Iterator[Prediction]:
        """Predict with one fold after the other, over as many lesions as the host can hold."""
        # Channels and sums are float32, votes are bytes.
        values = len(self._channels) + self._score_shape[0]
        patch_bytes = int(np.prod(self.plan.patch_size_zyx)) * (4 * values + 1)
        group_size = max(self.rung.batch, _WAITING_BYTES // patch_bytes)
        for group in in_batches(list(waiting), group_size):
            prepared, failed = encode_all(group, encode)
            yield from failed
            sums = {index: np.zeros(self._score_shape, np.float32) for index, _ in prepared}
            votes = {index: FoldVotes((1, *self.plan.patch_size_zyx), len(self.folds)) for index in sums}
            errors: dict[int, Exception] = {}
            for number, fold in enumerate(self.folds):
                network = self._build(fold)
                for batch in in_batches(prepared, self.rung.batch):
                    for index, scores in self._scores_of(batch, network, errors):
                        sums[index] += scores
                        votes[index].add(number, torch.from_numpy(scores[:1]))
                del network
                report_progress("folds", number + 1, len(self.folds))
            for index, scores in sums.items():
                if index in errors:
                    yield Prediction(index, None, errors[index])
                else:
                    yield checked_prediction(index, scores, votes[index].counts(0))

    def _scores_of(
        self, batch: list[tuple[int, FloatVolume]], network: ResEncUNet, errors: dict[int, Exception]
    ) -> Iterator[tuple[int, FloatVolume]]:
        """Scores of a batch by one fold, each with the index of its patch; failures go to ``errors``."""
        try:
            scores = self._scores(network, self._to_device([values for _, values in batch])).cpu().numpy()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            log.exception("a forward pass failed")
            if len(batch) == 1:
                errors[batch[0][0]] = error
                return
            for single in batch:
                yield from self._scores_of([single], network, errors)
            return
        for (index, _), one in zip(batch, scores, strict=False):
            yield index, one

    def _to_device(self, values: list[FloatVolume]) -> Tensor:
        """Channels of a batch [B, C, *patch]; a short last batch is padded if wanted or faster."""
        if (self._fills_batches or self._is_narrow_on_cpu) and len(values) < self.rung.batch:
            values = values + [values[-1]] * (self.rung.batch - len(values))
        picked = [torch.from_numpy(value)[self._channels] for value in values]
        return torch.stack(picked).to(self.rung.device, memory_format=self._memory_format)

    def _build(self, fold: FoldWeights) -> ResEncUNet:
        network = build_network(self.plan, fold, self.rung.device)
        network.to(memory_format=self._memory_format)  # type: ignore[call-overload]  # torch's types lack it
        return network

    @property
    def _memory_format(self) -> torch.memory_format:
        """Fastest memory format: channels last for narrow networks on the CPU."""
        return torch.channels_last_3d if self._is_narrow_on_cpu else torch.contiguous_format

    @torch.inference_mode()
    def _scores(self, network: ResEncUNet, channels: Tensor) -> Tensor:
        """Foreground minus background logit and the logits of organs, averaged over the mirrored views.

        Returns:
            float32 [B, 1 + organs, *patch].
        """
        total: Tensor | None = None
        for axes in self._mirrors:
            view = channels.flip(axes) if axes else channels
            logits = self._forward(network, view)
            scores = (logits[:, 1].float() - logits[:, 0].float())[:, None]
            if self.organ_classes:
                scores = torch.cat((scores, logits[:, -self.organ_classes :].float()), 1)
            if axes:
                scores = scores.flip(axes)
            total = scores if total is None else total + scores
        assert total is not None
        return total / len(self._mirrors)

    def _forward(self, network: ResEncUNet, channels: Tensor) -> Tensor:
        self.forwards += 1
        with self._autocast():
            logits = network(channels)
        if self.rung.precision == "fp16":
            is_finite = torch.isfinite(logits).flatten(1).all(1)
            if not is_finite.all():
                self._note("a value exceeded half precision; that forward pass was repeated in float32")
                logits = torch.where(is_finite.view(-1, 1, 1, 1, 1), logits.float(), network(channels))
        assert isinstance(logits, Tensor)
        return logits

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        if self.rung.precision == "fp32":
            return nullcontext()
        kind = torch.float16 if self.rung.precision == "fp16" else torch.bfloat16
        return torch.autocast(torch.device(self.rung.device).type, dtype=kind)

    @property
    def _is_narrow_on_cpu(self) -> bool:
        return self.rung.device == "cpu" and is_narrow(self.plan)

    def _step_down(self, reason: str) -> None:
        """Take the next rung of the memory ladder, or raise MemoryExhaustedError."""
        before = self.rung
        self.rung = next_rung(before, self.plan, len(self.folds), reason)
        if not self.rung.resident or self.rung.device != before.device:
            self._networks.clear()
        release_memory()
        self._note(f"out of memory with {before.describe()}; continuing with {self.rung.describe()}")

    def _set_determinism(self) -> None:
        torch.backends.cudnn.benchmark = not self.options.deterministic
        if self.options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)

    def _note(self, text: str) -> None:
        log.warning("%s", text)
        if text not in self.notes:
            self.notes.append(text)


def _mirror_combinations(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of spatial axes (0 to 2), as axes of a batch [B, C, z, y, x]; the empty set first."""
    picks = chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))
    return [tuple(axis + 2 for axis in pick) for pick in picks]
