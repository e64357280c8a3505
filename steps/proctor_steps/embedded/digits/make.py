"""Make the embedded demo anew: ``python -m proctor_steps.embedded.digits.make [DIR]``.

Wants scikit-learn, torch and onnx. The scenes come out byte for byte; the detector's weights
agree only as far as torch's arithmetic does on another machine, so it is trained on request.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from proctor_steps.embedded.digits import scenes

HERE = Path(__file__).parent


def main() -> None:
    """Write scenes.zip and annotations.json, and detector.onnx where --train asks for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    parser.add_argument("--train", action="store_true", help="train the detector as well")
    parser.add_argument("--steps", type=int, default=1200, help="training steps (default: 1200)")
    options = parser.parse_args()
    made = scenes.evaluation_scenes()
    (options.folder / "scenes.zip").write_bytes(scenes.scenes_zip(made))
    (options.folder / "annotations.json").write_bytes(scenes.annotations_json(made))
    if options.train:
        from proctor_steps.embedded.digits import detector

        detector.export(detector.train(options.steps), options.folder / "detector.onnx")


if __name__ == "__main__":
    main()
