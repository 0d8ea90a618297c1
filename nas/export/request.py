"""An export as it is asked for: checked against study, pairs and folder, fine-tuned for int8 first where wanted, done.

What `isp-nas export` and `nas.export` have in common.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_models.device import Device, load_device
from nas import backend
from nas.defaults import DEFAULT_DEVICE
from nas.export.folder import require_place
from nas.export.options import ExportOptions
from nas.search.network_ref import NetworkRef, require_same_data, require_same_pairs
from nas.train.run_folder import QUANTISATION, TRAINING_FILE, read_training
from search_spaces.errors import ExportError, UsageError

if TYPE_CHECKING:
    from nas.export.card import Card
    from nas.export.converter import FineTuned
    from nas.train.long_run import Callbacks


@dataclass(frozen=True)
class ExportedFile:
    """One file for the phone."""

    precision: str
    path: Path
    size_bytes: int
    val_psnr_db: float  # of the file, on the validation pairs
    drop_db: float  # what it loses against the trained network
    fits_device: bool


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path
    files: tuple[ExportedFile, ...]
    card: Mapping[str, Any]  # as card.json has it

    @classmethod
    def of(cls, folder: Path, card: "Card") -> "Exported":
        """Return what a card says was written into a folder."""
        files = tuple(
            ExportedFile(
                file.precision,
                folder / file.file,
                file.size_bytes,
                file.val_psnr_db,
                file.drop_db,
                bool(file.device_check["fit"]),
            )
            for file in card.precisions
            if file.file is not None
        )
        return cls(folder, files, card.to_dict())


# (label, steps) → what is told how fine-tuning goes, while it goes
Watch = Callable[[str, int], "AbstractContextManager[Callbacks | None]"]


def export_network(
    network: NetworkRef,
    out: Path,
    options: ExportOptions,
    *,
    results: Path,
    device: Device | str | None = None,
    qat: str | None = None,
    on_message: Callable[[str], None] = lambda _: None,
    watch: Watch = lambda _, __: nullcontext(),
) -> "Card":
    """Write the verified files of one network into `out`; return the card, which names what was refused.

    `device` is that of the network's study where None. `qat` is for how many steps the network is fine-tuned for int8
    before, or the folder of such a run. Raises UsageError, StudyError or ExportError before anything is written where
    the export cannot be.
    """
    options.validate()
    _refuse_qat_without_int8(qat, options)
    _refuse_fine_tuned(network)
    require_place(out)
    if not isinstance(device, Device):
        device = load_device(device or (network.study.config.device if network.study else DEFAULT_DEVICE))
    if network.study and network.trained.data == network.study.config.data:
        require_same_data(network.study)
    require_same_pairs(network.trained)
    backend.prepare()
    from nas.export.exporter import export

    tuned = _fine_tuned(network, qat, options, results, watch) if qat else None
    return export(network, out, device, options, fine_tuned=tuned, on_message=on_message)


def require_complete(card: "Card") -> None:
    """Raise ExportError where a precision was not written, for what each lost."""
    from nas.export.exporter import refusals

    refused = refusals(card)
    if refused:
        raise ExportError(" ".join(f"{sentence}." for sentence in refused))


def _refuse_qat_without_int8(qat: str | None, options: ExportOptions) -> None:
    if qat and "int8" not in options.precisions:
        raise UsageError("--qat fine-tunes for int8, and no int8 file is asked for; add --precision int8.")


def _refuse_fine_tuned(network: NetworkRef) -> None:
    """Raise UsageError where the network is itself a fine-tuning: there is nothing to compare its files with."""
    folder = network.state.path.parent if network.state else None
    if folder and (folder / TRAINING_FILE).is_file() and QUANTISATION in read_training(folder):
        raise UsageError(
            f"{folder} holds weights that were fine-tuned for int8; export the network that they started from, with "
            f"--precision int8 --qat {folder}."
        )


def _fine_tuned(network: NetworkRef, qat: str, options: ExportOptions, results: Path, watch: Watch) -> "FineTuned":
    from nas.export.qat import fine_tune, fine_tuned

    folder = Path(qat)
    if qat.isascii() and qat.isdigit():
        with watch(network.label, int(qat)) as callbacks:
            folder = fine_tune(network, int(qat), calibration=options.calibration, results=results, callbacks=callbacks)
    return fine_tuned(folder, network)
