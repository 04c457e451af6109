"""Learns to read handwritten digits: 1,797 images of 8 x 8 pixels that come with scikit-learn.

A small neural network sees the training images anew in each epoch, every time moved and turned a
little, and is scored on images that it never saw. Told to stop (SIGTERM), it saves a checkpoint;
started again after an interruption, it goes on from there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import joblib
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

try:
    from riseml import report_result
except ImportError:  # outside of a RiseML job: train all the same

    def report_result(**metrics: object) -> None:
        """Results are only printed."""


SIDE = 8
BRIGHTEST = 16.0
COPIES_PER_EPOCH = 8
MOST_DEGREES = 10.0
MOST_PIXELS = 0.5
CHECKPOINT = "checkpoint.joblib"
MODEL = "model.joblib"

Images = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Stop:
    """Becomes true when the job was told to end; looked at between epochs."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def augmented(images: Images, random: np.random.Generator) -> Images:
    """Copies of the images, each turned by a few degrees and moved by up to half a pixel."""
    pictures = images.reshape(-1, SIDE, SIDE)
    changed = np.empty_like(pictures)
    angles = np.radians(random.uniform(-MOST_DEGREES, MOST_DEGREES, len(pictures)))
    moves = random.uniform(-MOST_PIXELS, MOST_PIXELS, (len(pictures), 2))
    centre = np.full(2, (SIDE - 1) / 2)
    for index, picture in enumerate(pictures):
        cos, sin = np.cos(angles[index]), np.sin(angles[index])
        turn = np.array([[cos, -sin], [sin, cos]])
        # Cubic: a linear interpolation would blur so small a picture beyond recognition.
        changed[index] = ndimage.affine_transform(
            picture, turn, centre - turn @ centre + moves[index], order=3
        )
    return changed.clip(0.0, 1.0).reshape(len(images), -1)


def train_epoch(
    model: MLPClassifier, images: Images, labels: Labels, random: np.random.Generator
) -> None:
    """One pass over fresh copies of all training images."""
    classes = np.unique(labels)
    for _ in range(COPIES_PER_EPOCH):
        order = random.permutation(len(images))
        model.partial_fit(augmented(images[order], random), labels[order], classes=classes)


def save(path: Path, content: object) -> None:
    """Writes beside and renames, so that what stands there is always whole."""
    fresh = path.with_name(path.name + ".part")
    joblib.dump(content, fresh)
    fresh.replace(path)


def resume(folder: str) -> tuple[int, MLPClassifier | None]:
    """The epochs already done and their model, from an interrupted attempt's folder."""
    path = Path(folder, CHECKPOINT) if folder else None
    if path is None or not path.is_file():
        return 0, None
    done, model = joblib.load(path)
    return done, model


def main() -> int:
    """Trains, prints and reports each epoch, saves the model; 143 when told to stop."""
    parser = argparse.ArgumentParser(description="train a classifier of handwritten digits")
    parser.add_argument("--lr", type=float, default=0.001, help="learning rate")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    stop = Stop()
    # Matrices this small are multiplied fastest by one thread.
    threadpool_limits(limits=1)
    output = Path(os.environ.get("OUTPUT_DIR", "output"))
    output.mkdir(parents=True, exist_ok=True)

    images, labels = load_digits(return_X_y=True)
    images /= BRIGHTEST
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, random_state=arguments.seed, stratify=labels
    )
    done, model = resume(os.environ.get("RISEML_RESUME_DIR", ""))
    if model is None:
        model = MLPClassifier(
            hidden_layer_sizes=(256, 128),
            learning_rate_init=arguments.lr,
            batch_size=64,
            random_state=arguments.seed,
        )
    print(f"{len(train_images)} training images, {len(test_images)} test images", flush=True)
    if done:
        print(f"resumed after epoch {done}", flush=True)

    for epoch in range(done + 1, arguments.epochs + 1):
        train_epoch(
            model, train_images, train_labels, np.random.default_rng([arguments.seed, epoch])
        )
        chances = model.predict_proba(test_images)
        loss = float(log_loss(test_labels, chances, labels=model.classes_))
        accuracy = float(np.mean(model.classes_[chances.argmax(axis=1)] == test_labels))
        print(
            f"epoch {epoch:3d}/{arguments.epochs}  loss {loss:.4f}  accuracy {accuracy:.4f}",
            flush=True,
        )
        report_result(accuracy=accuracy, loss=loss, step=epoch)
        if stop.asked:
            save(output / CHECKPOINT, (epoch, model))
            print(f"told to stop: saved {output / CHECKPOINT} after epoch {epoch}", flush=True)
            return 128 + signal.SIGTERM

    save(output / MODEL, model)
    print(f"saved {output / MODEL}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
