"""The small detector of the demo: its shape, its training and its way into an ONNX file.

Anchor-free, one stride: every cell of an 8-pixel grid predicts a box around its centre and ten
class scores. The head decodes inside the model, so that the output has YOLO's layout,
``1 x (4 + 10) x N``: cx, cy, w, h in pixels of the input, then the scores after the sigmoid.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from proctor_steps.embedded.digits import scenes

SIZE = 192  # the input is SIZE x SIZE
STRIDE = 8
PADDING = 114 / 255  # the grey that a letterbox is filled with
CLASSES = len(scenes.NAMES)
SHARPNESS = 2.5


class Detector(nn.Module):
    """About 110,000 weights; input ``N x 3 x 192 x 192`` RGB in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        body = [_block(3, 12, 2), _block(12, 24, 2), _block(24, 44, 2)]
        body += [_block(44, 44, 1) for _ in range(4)]
        self.body = nn.Sequential(*body)
        self.head = nn.Sequential(_block(44, 44, 1), nn.Conv2d(44, 4 + CLASSES, 1))
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None  # noqa: S101
        # Few cells hold a digit: start from a low score, or the first steps are spent on that.
        nn.init.constant_(last.bias[4:], -4.0)
        grid = torch.arange(SIZE // STRIDE) * STRIDE + STRIDE / 2
        y, x = torch.meshgrid(grid, grid, indexing="ij")
        self.register_buffer("centres", torch.stack([x.flatten(), y.flatten()]))

    def forward(self, images: Tensor) -> Tensor:
        """Boxes and scores, ``N x 14 x 576``."""
        sides, logits = self.raw(images)
        left_top, right_bottom = self.centres - sides[:, :2], self.centres + sides[:, 2:]  # type: ignore[operator]
        middle = (left_top + right_bottom) / 2
        return torch.cat([middle, right_bottom - left_top, logits.sigmoid()], 1)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Distances from the cell's centre to the four sides in pixels, and the logits."""
        out = self.head(self.body(images)).flatten(2)
        return functional.softplus(out[:, :4]) * STRIDE, out[:, 4:]


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


def train(steps: int, seed: int = 6, batch: int = 32) -> Detector:
    """Train on scenes made anew for every step, from the training digits alone."""
    torch.manual_seed(seed)
    chance = random.Random(seed)  # noqa: S311 (pictures, not secrets)
    model = Detector()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    digits, labels = scenes.load_digits()
    for step in range(steps):
        images, boxes, classes = _batch(digits, labels, chance, batch)
        loss = _loss(model, images, boxes, classes)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    _sharpen(model)
    return model.eval()


def _sharpen(model: Detector) -> None:
    """Spread the scores: the order of the answers stays, an empty cell's score falls.

    The loss, like any focal one, leaves empty cells at scores of 0.01; MLPerf's threshold is
    0.001, so that all 5,760 answers of a picture would go through the non-maximum suppression.
    With the logits times 2.5 it is about 200, as it is for detectors in earnest.
    """
    last = model.head[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None  # noqa: S101
    with torch.no_grad():
        last.weight[4:] *= SHARPNESS
        last.bias[4:] *= SHARPNESS


def _batch(
    digits: scenes.Ints2D, labels: npt.NDArray[np.int64], chance: random.Random, count: int
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """``count`` letterboxed scenes with the boxes (x1, y1, x2, y2) and classes of each."""
    images, boxes, classes = [], [], []
    for _ in range(count):
        taken = [chance.randrange(scenes.FIRST_EVALUATION_DIGIT) for _ in range(8)]
        turned = [_vary(digits[i], chance) for i in taken]
        scene = scenes.compose(turned, [int(labels[i]) for i in taken], chance)
        image, box = _letterbox(scene, chance.uniform(0.85, 1.15))
        images.append(image)
        boxes.append(box)
        classes.append(torch.tensor([t.digit for t in scene.things], dtype=torch.long))
    return torch.stack(images), boxes, classes


def _vary(digit: scenes.Ints2D, chance: random.Random) -> scenes.Ints2D:
    """Another hand: a stronger or weaker pen, and now and then a slant of one pixel."""
    varied = np.clip(digit * chance.randint(80, 130) // 100, 0, 16)
    if chance.random() < 0.3:
        way = chance.choice((-1, 1))
        varied = varied.copy()
        varied[:3], varied[-3:] = np.roll(varied[:3], way, 1), np.roll(varied[-3:], -way, 1)
    return varied


def _letterbox(scene: scenes.Scene, shrink: float) -> tuple[Tensor, Tensor]:
    """Fit the scene into the square as the benchmark does; ``shrink`` varies the size a little."""
    height, width = scene.levels.shape
    scale = SIZE / max(height, width) * min(shrink, 1.0)
    high, wide = round(height * scale), round(width * scale)
    top, left = (SIZE - high) // 2, (SIZE - wide) // 2
    pixels = torch.from_numpy(scene.rgb().astype(np.float32) / 255).permute(2, 0, 1)[None]
    pixels = functional.interpolate(pixels, (high, wide), mode="bilinear", align_corners=False)
    image = torch.full((3, SIZE, SIZE), PADDING)
    image[:, top : top + high, left : left + wide] = pixels[0]
    rows = [(t.x, t.y, t.x + t.width, t.y + t.height) for t in scene.things]
    box = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4) * scale
    return image, box + torch.tensor([left, top, left, top])


def _loss(model: Detector, images: Tensor, boxes: list[Tensor], classes: list[Tensor]) -> Tensor:
    """Score = class probability x quality of the box; box loss = generalised IoU."""
    sides, logits = model.raw(images)
    centres = model.centres
    assert isinstance(centres, Tensor)  # noqa: S101
    found = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], 1).transpose(1, 2)
    wanted = torch.zeros_like(logits)
    boxes_loss, count = logits.sum() * 0, 1
    for one, (box, label) in enumerate(zip(boxes, classes, strict=True)):
        cells, things = _assign(centres, box)
        if len(cells) == 0:
            continue
        iou, generalised = _iou(found[one, cells], box[things])
        boxes_loss = boxes_loss + (1 - generalised).sum()
        wanted[one, label[things], cells] = iou.detach().clamp(0)
        count += len(cells)
    scores = logits.sigmoid()
    weight = (wanted - scores).abs().detach() ** 2
    binary = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return ((binary * weight).sum() + 2 * boxes_loss) / count


def _assign(centres: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """Cells near the middle of a box answer for it; where two boxes claim one, the smaller."""
    middle = (box[:, :2] + box[:, 2:]) / 2
    size = box[:, 2:] - box[:, :2]
    away = (centres.T[:, None] - middle[None]).abs()
    inside = (away < torch.clamp(size * 0.3, min=STRIDE * 0.8)[None]).all(2)
    cost = torch.where(inside, size.prod(1)[None], torch.inf)
    if cost.shape[1] == 0:
        empty = torch.zeros(0, dtype=torch.long)
        return empty, empty
    least, thing = cost.min(1)
    cells = torch.nonzero(least < torch.inf).flatten()
    return cells, thing[cells]


def _iou(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes, row by row."""
    low, high = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
    shared = (high - low).clamp(0).prod(1)
    union = (one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - shared
    low, high = torch.minimum(one[:, :2], other[:, :2]), torch.maximum(one[:, 2:], other[:, 2:])
    around = (high - low).prod(1)
    iou = shared / union
    return iou, iou - (around - union) / around


def export(model: Detector, path: Path) -> None:
    """Write the model as ONNX (opset 17, any batch size, batch norm folded into the weights)."""
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(path),
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    _name_shape(path)


def _name_shape(path: Path) -> None:
    """Give the output its full shape; the exporter leaves the middle of it open."""
    import onnx

    made = onnx.load(path)
    dims = made.graph.output[0].type.tensor_type.shape.dim
    dims[1].dim_value, dims[2].dim_value = 4 + CLASSES, (SIZE // STRIDE) ** 2
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)
