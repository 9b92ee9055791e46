"""Tasks from .npz files: archives that hold no task, and the classes of labels."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

import mfpde
from mfpde.problem.datasets import digits, from_npz
from support.run_files import TARGETS, TOKENS, refused, write

ARCHIVES = {
    "no targets": ({"tokens": TOKENS}, "needs tokens and targets"),
    "another name": ({"tokens": TOKENS, "targets": TARGETS, "labels": TARGETS}, "holds ['labels', 'targets'"),
    "two dimensions": ({"tokens": TOKENS[0], "targets": TARGETS}, "tokens has shape (3, 2)"),
    "no samples": ({"tokens": TOKENS[:0], "targets": TARGETS[:0]}, "none of them 0"),
    "other samples": ({"tokens": TOKENS, "targets": TARGETS[:3]}, "targets has shape (3, 1); must be (4, outputs)"),
    "nan": ({"tokens": TOKENS * np.nan, "targets": TARGETS}, "24 values that are not finite"),
    "text": ({"tokens": TOKENS.astype(str), "targets": TARGETS}, "must be an array of numbers"),
    "objects": ({"tokens": TOKENS.astype(object), "targets": TARGETS}, "allow_pickle=False"),
    "other objects": (
        {"tokens": TOKENS, "targets": TARGETS, "names": np.array([{}, None])},
        "('names': Object arrays cannot",
    ),
    "half labels": ({"tokens": TOKENS, "targets": np.full(4, 0.5)}, "numbers that are to be fitted the shape (4, 1)"),
    "whole numbers": ({"tokens": TOKENS, "targets": np.arange(4.0)}, "numbers that are to be fitted the shape (4, 1)"),
    "negative labels": ({"tokens": TOKENS, "targets": [0, 1, -1, 1]}, "labels 0, 1, 2"),
    "labels from 1": ({"tokens": TOKENS, "targets": [1, 2, 3, 1]}, "no sample has the label 0: labels are 1, 2, 3 and"),
    "labels by tens": (
        {"tokens": TOKENS, "targets": [0, 10, 20, 0]},
        "no sample has the label 1: labels are 0, 10, 20",
    ),
    "one class": ({"tokens": TOKENS, "targets": [0, 0, 0, 0]}, "all labels are 0; needs two classes"),
    "one other class": ({"tokens": TOKENS, "targets": [3, 3, 3, 3]}, "all labels are 3; needs two classes"),
    "too few classes": (
        {"tokens": TOKENS, "targets": [0, 1, 2, 1], "classes": 2},
        "classes = 2, but there is a label 2",
    ),
    "half a class": ({"tokens": TOKENS, "targets": [0, 1, 2, 1], "classes": 3.5}, "classes = 3.5: must be a whole"),
    "other classes": (
        {"tokens": TOKENS, "targets": TARGETS, "classes": 3},
        "classes = 3, but targets have shape (4, 1)",
    ),
    "numbers to test": (
        {"tokens": TOKENS, "targets": [0, 1, 0, 1], "test_tokens": TOKENS, "test_targets": TARGETS},
        "test_targets have shape (4, 1), targets (4,)",
    ),
    "test alone": ({"tokens": TOKENS, "targets": TARGETS, "test_tokens": TOKENS}, "come together"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_holds_no_task(kind, tmp_path):
    arrays, reason = ARCHIVES[kind]
    np.savez(tmp_path / "task.npz", **arrays)
    line = refused(write(tmp_path), "task={npz = 'task.npz'}")
    assert f"task.npz = '{tmp_path / 'task.npz'}'" in line
    assert reason in line


LABELS = {
    "they count": ([0, 1, 2, 1], {}, 3),
    "the test set has the last": ([0, 1, 0, 1], {"test_tokens": TOKENS, "test_targets": [2, 2, 2, 2]}, 3),
    "true and false": ([True, False, True, True], {}, 2),
    "some are empty, as said": ([1, 2, 3, 1], {"classes": 5}, 5),
    "one, as said": ([1, 1, 1, 1], {"classes": np.int64(2)}, 2),
    "unit vectors": (np.eye(4), {"classes": 4}, 4),
}


@pytest.mark.parametrize("kind", LABELS)
def test_classes_of_labels(kind, tmp_path):
    """From Python, from an archive, and after a replacement, which is a classification still."""
    targets, others, classes = LABELS[kind]
    np.savez(tmp_path / "task.npz", tokens=TOKENS, targets=targets, **others)
    task = mfpde.Task(TOKENS, targets, **others)
    for found in (task, from_npz(tmp_path / "task.npz"), dataclasses.replace(task, tokens=2 * TOKENS)):
        assert found.targets.shape == (4, classes)
        assert found.classification
        given = np.asarray(targets)
        assert (found.targets.argmax(axis=1) == (given if given.ndim == 1 else given.argmax(axis=1))).all()
        assert (found.targets.sum(axis=1) == 1.0).all()


def test_digits_have_as_many_classes_as_asked_for_however_few_are_drawn():
    assert digits(10, samples=3, test_samples=2).targets.shape == (3, 10)


def test_a_file_that_is_no_archive(tmp_path):
    path, file = write(tmp_path), tmp_path / "task.npz"
    assert "no such file" in refused(path, "task={npz = 'task.npz'}")
    np.savez_compressed(file, tokens=np.random.default_rng(0).normal(size=TOKENS.shape), targets=TARGETS)
    whole = file.read_bytes()
    np.save(tmp_path / "array.npy", TOKENS)
    flipped = bytearray(whole)
    flipped[60:70] = bytes(10)
    others = [b"", b"no archive", pickle.dumps([1]), (tmp_path / "array.npy").read_bytes(), bytes(flipped)]
    for content in (*others, *(whole[:cut] for cut in range(1, len(whole), 40))):
        file.write_bytes(content)
        assert f"task.npz = '{file}': " in refused(path, "task={npz = 'task.npz'}")
