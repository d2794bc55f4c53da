"""Loss: compared with explicit formulas, and the weights of the scales."""

from __future__ import annotations

import pytest
import torch

from model.training.loss import SegmentationLoss, scale_weights


def test_scale_weights_are_the_published_ones() -> None:
    assert scale_weights(5) == pytest.approx((0.5333, 0.2667, 0.1333, 0.0667, 0), abs=1e-4)
    assert scale_weights(2) == (1, 0)
    assert scale_weights(1) == (1,)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_the_loss_is_softmax_dice_and_cross_entropy(batch_dice: bool) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, 2, 4, 5, 6), torch.rand(3, 4, 5, 6) > 0.7
    lesion = logits.softmax(1)[:, 1]
    axes = (0, 1, 2, 3) if batch_dice else (1, 2, 3)
    dice = (2 * (lesion * target).sum(axes) + 1e-5) / (lesion.sum(axes) + target.sum(axes) + 1e-5)
    entropy = torch.nn.functional.cross_entropy(logits, target.long())
    loss = SegmentationLoss(batch_dice, 1e-5)([logits], target)
    assert float(loss) == pytest.approx(float(entropy - dice.mean()), abs=1e-6)


def test_the_hardest_voxels_of_each_sample_count() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, 2, 4, 5, 6), torch.rand(3, 4, 5, 6) > 0.7
    each = torch.nn.functional.cross_entropy(logits, target.long(), reduction="none").flatten(1)
    difference = SegmentationLoss(False, 1)([logits], target) - SegmentationLoss(False, 1, 0.1)(
        [logits], target
    )
    expected = each.mean() - each.sort(1).values[:, -12:].mean()
    assert float(difference) == pytest.approx(float(expected), abs=1e-6)


def test_scales_are_summed_by_weight_against_a_coarser_target() -> None:
    torch.manual_seed(0)
    target = (torch.rand(1, 8, 8, 8) > 0.5).to(torch.uint8)
    scales = [torch.randn(1, 2, size, size, size) for size in (8, 4, 2)]
    single = SegmentationLoss(True, 1e-5)
    coarse = torch.nn.functional.interpolate(target[:, None].float(), size=(4, 4, 4), mode="nearest-exact")
    expected = 2 / 3 * single(scales[:1], target) + 1 / 3 * single(scales[1:2], coarse[:, 0])
    assert float(single(scales, target)) == pytest.approx(float(expected), abs=1e-6)


def test_an_empty_target_is_best_predicted_as_background() -> None:
    target = torch.zeros(2, 4, 4, 4)
    empty = torch.stack([torch.full((2, 4, 4, 4), 20.0), torch.full((2, 4, 4, 4), -20.0)], 1)
    loss = SegmentationLoss(True, 1e-5)
    assert float(loss([empty], target)) == pytest.approx(-1, abs=1e-3)
    assert float(loss([-empty], target)) > 10


def test_every_layer_has_a_gradient() -> None:
    """Including the last scale with weight 0: distributed training waits for its gradient."""
    scales = [torch.randn(1, 2, size, size, size, requires_grad=True) for size in (8, 4)]
    SegmentationLoss(True, 1e-5)(scales, torch.ones(1, 8, 8, 8)).backward()
    gradients = [scale.grad for scale in scales]
    assert all(gradient is not None for gradient in gradients)
    assert [bool(gradient.abs().sum() > 0) for gradient in gradients if gradient is not None] == [True, False]
