"""Check that pairs, patches and batches of a training fit together, and build the network to train."""

from pathlib import Path

from nas.data.pairs import open_prepared
from nas.train.recipe import Recipe
from search_spaces.errors import DataError, UsageError


def check_fits(recipe: Recipe, pairs: Path, *, multiple: int, of: str) -> None:
    """Raise DataError or UsageError where the pairs cannot fill the recipe's batch or are smaller than its patch.

    `multiple` is what both sides of pairs and patches must be multiples of, `of` what asks for it, for the message.
    """
    train = open_prepared(pairs, "train")
    _, h, w = train.raw.shape
    if h % multiple or w % multiple:
        raise DataError(
            f"Pairs of {h}×{w} do not fit {of}, which needs sides that are multiples of {multiple}; "
            f"cut them with --crop {multiple}, or choose fewer levels (of a space: a file of your own with --space)."
        )
    if recipe.patch % multiple:
        raise UsageError(f"A patch must be a multiple of {multiple}, which {of} needs, got {recipe.patch}.")
    if recipe.patch > min(h, w):
        raise UsageError(
            f"A patch of {recipe.patch} does not fit into pairs of {h}×{w}; choose --patch {min(h, w)} or less."
        )
    if recipe.batch > len(train):
        raise UsageError(
            f"A batch of {recipe.batch} needs as many training pairs, got {len(train)}; choose a smaller --batch."
        )
