"""The Python interface for notebooks and scripts: search, train, export, predict and render without the command line.

`import nas` hands out what is here without loading it; JAX and TensorFlow are loaded by the functions that compute.
Nothing prints or draws: whoever wants to watch passes callbacks. What a user can mend is raised as an `IspNasError`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from latency_models.device import Device, load_device
from nas import backend
from nas.data.pairs import DataConfig
from nas.data.raw_format import RawFormat
from nas.defaults import DEFAULT_DEVICE
from nas.export.options import FULL_HD_MOSAIC, ExportOptions, ExportSettings
from nas.export.options import input_shape as shape_of_input
from nas.export.request import Exported, ExportedFile, export_network, require_complete
from nas.render.batch import RenderOptions, RenderSettings, render_files
from nas.render.image_file import FileKind
from nas.search import network_latency
from nas.search import study as studies
from nas.search.budget import parse_budget
from nas.search.cluster import cluster_options
from nas.search.network_ref import NetworkRef, network_of, resolve
from nas.search.network_training import TrainingRequest, plan_training
from nas.search.open_study import SearchOptions
from nas.search.own_objects import device_name, space_name
from nas.search.results import Candidate, Candidates, Latency, SearchProgress, Study, Trained
from nas.search.session import budget_share, open_session, without_refused
from nas.search.settings import SearchSettings, TrainingSettings, TrainSettings, beside_training, known, recipe_fields
from nas.search.verdicts import Verdict
from nas.train.history import Validation
from nas.train.recipe_file import recipe_for
from search_spaces.errors import UsageError
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec
from search_spaces.system.arguments import by_argument, checked, require_types, require_types_of

if TYPE_CHECKING:
    from nas.render.renderer import Rendered
    from nas.search.driver import Search

__all__ = [
    "Candidate",
    "Candidates",
    "Exported",
    "ExportedFile",
    "Latency",
    "SearchProgress",
    "Study",
    "Trained",
    "TrainingSettings",
    "Verdict",
    "export",
    "load_study",
    "predict_latency",
    "render",
    "search",
    "train",
]

Folder = str | Path
Data = str | Path | DataConfig


NetworkLike = str | int | Path | Candidate | Trained | ArchSpec


@by_argument
@checked
def load_study(path: Folder) -> Study:
    """Open a study to look at what it holds; a search may go on meanwhile.

    Args:
        path: The study's folder.

    Returns:
        The study as it is now.

    Raises:
        StudyError: The folder holds no study, or a damaged one.

    Example:
        >>> nas.load_study("results/phone").name
        'phone'
    """
    return Study(studies.load(Path(path)))


# Searching


@by_argument
@checked
def search(
    budget: str | int,
    *,
    data: Data | None = None,
    device: str | Path | Device | None = None,
    space: str | Path | SearchSpace | None = None,
    study: str | None = None,
    results: Folder = "results",
    workers: int | None = None,
    cluster: str | None = None,
    tls: Folder | None = None,
    send_pairs: bool = True,
    backend: str | None = None,
    stall_s: float | None = None,
    on_message: Callable[[str], None] | None = None,
    on_progress: Callable[[SearchProgress], None] | None = None,
    **settings: Unpack[SearchSettings],
) -> Study:
    """Search for the best network on a device. The same call continues a study, a larger budget extends it.

    Args:
        budget: A time such as "5m" or "8h", or a number of candidates.
        data: Folder of RAW→RGB pairs, "demo" (the default), or a `DataConfig`.
        device: Name, .json file, or a `Device`; dimensity-1000-plus by default.
        space: Name, .toml file, or a `SearchSpace`; mai21 by default. An object that no file holds is saved in the
            user's data folder, where later sessions find it.
        study: Name of the study; by default from data, device and space.
        results: Folder in which studies live.
        workers: Candidates trained at once here; by default as many as suit the machine, with a cluster none. One
            repeats exactly.
        cluster: HOST:PORT at which the search listens for workers of other machines (`isp-nas worker`); ":8786" is
            this machine alone.
        tls: Folder of certificates for the cluster, from `isp-nas cluster keys`; an address that others reach needs it.
        send_pairs: Send pairs to workers of the cluster that do not see them.
        backend: What the cluster's workers train on, "cpu" or "gpu"; by default what this machine has.
        stall_s: Seconds without a step after which a training is lost; by default ten times the slowest step, at least
            120. Compiling and judging, which report no steps, get ten minutes at least.
        on_message: Called with a sentence for every event.
        on_progress: Called a few times a second.
        **settings: Fields of `SearchSettings`.

    Returns:
        The study with everything found so far.

    Raises:
        IspNasError: An argument, pairs, device or space is wrong, or the study was started with other settings.
        KeyboardInterrupt: Ctrl-C; what was found is kept, and the same call continues.

    Example:
        >>> quick = {"rungs": (2, 4), "final_steps": 6, "batch": 2, "patch": 32, "sampler": "random"}
        >>> study = nas.search(4, data="pairs", study="phone", workers=1, seed=0, **quick)
        >>> study.best().trial in [candidate.trial for candidate in study.candidates()]
        True
    """
    given = beside_training(settings, SearchSettings)
    if "rungs" in given:
        given["rungs"] = tuple(given["rungs"])
    options = SearchOptions(
        study=study,
        data=_data(data),
        device=device_name(device) if isinstance(device, Device) else _text(device),
        space=space_name(space) if isinstance(space, SearchSpace) else _text(space),
        vgg_file=_path(settings.get("vgg_weights")),
        backend=backend,
        **given,
        **recipe_fields(settings),
    )
    on_message = on_message or _nothing
    session = open_session(
        options,
        Path(results),
        parse_budget(str(budget)),
        workers=workers,
        cluster=cluster_options(cluster, _path(tls), sends_pairs=send_pairs, backend=backend),
        stall_s=stall_s,
        on_message=on_message,
    )
    session = without_refused(session, on_message)
    return Study(session.run(on_message=on_message, on_progress=_reporting(on_progress)).study)


def _reporting(on_progress: Callable[[SearchProgress], None] | None) -> "Callable[[Search], None]":
    if on_progress is None:
        return _nothing

    def report(search: "Search") -> None:
        trained = search.study.trained()
        best = search.study.best().score(search.study.comparison_rung()) if trained else None
        training = tuple(each.candidate.trial for each in search.running)
        on_progress(SearchProgress(search.elapsed_s, budget_share(search), len(trained), training, best))

    return report


# Training, exporting


@by_argument
@checked
def train(
    network: NetworkLike,
    *,
    steps: int | None = None,
    data: Data | None = None,
    study: str | None = None,
    results: Folder = "results",
    out: Folder | None = None,
    seed: int | None = None,
    qat: bool = False,
    on_message: Callable[[str], None] | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    on_validation: Callable[[Validation], None] | None = None,
    **settings: Unpack[TrainSettings],
) -> Trained:
    """Train one network to the end. The same call continues after a crash.

    Args:
        network: "best", a trial number, a published design, a spec or checkpoint file or folder, a `Candidate`, what
            `train` returned, or an `ArchSpec`.
        steps: Training steps; by default the recipe's.
        data: As in `search`; by default what the network's study was searched on.
        study: The study in which "best" and trial numbers are looked up; by default the one used last.
        results: Folder in which studies live.
        out: Folder of the run; by default below `results`.
        seed: By default the study's, or 0.
        qat: Fine-tune the trained weights for int8, rounding as its file does.
        on_message: Called with a sentence about what is not as usual, such as no gain over given weights.
        on_step: Called every few steps with the step and the losses by name.
        on_validation: Called with every validation.
        **settings: Fields of `TrainSettings`.

    Returns:
        The run's folder and its quality.

    Raises:
        IspNasError: An argument or the pairs are wrong, the folder holds another run, or the loss diverges.

    Example:
        >>> trained = nas.train("smallnet", steps=2)
        >>> trained.steps
        2
    """
    ref = _ref(network, Path(results), study)
    given = beside_training(settings, TrainSettings)
    recipe, init_from = given.pop("recipe", None), given.pop("init_from", None)
    options = TrainingRequest(
        recipe_fields(settings),
        _data(data),
        steps=steps,
        recipe=None if recipe is None else recipe_for(str(recipe), ref.spec),
        seed=seed,
        out=_path(out),
        vgg_file=_path(settings.get("vgg_weights")),
        init_from=_text(init_from),
        qat=qat,
        **given,
    )
    plan = plan_training(ref, options, Path(results))
    backend.prepare()  # before anything loads JAX
    from nas.train.long_run import Callbacks

    quantise = import_module("nas.export.qat").quantisation if qat else None
    run, finished = plan.run(Callbacks(on_step, on_validation, on_message=on_message), quantise=quantise)
    best = finished.best
    return Trained(
        run.folder,
        run.spec.hash,
        finished.steps,
        finished.quality.psnr_db,
        finished.quality.ssim,
        best.step if best else None,
        best.psnr_db if best else None,
    )


@by_argument
@checked
def export(
    network: NetworkLike,
    out: Folder,
    *,
    precisions: str | Iterable[str] = ("fp32",),
    size: Sequence[int] = FULL_HD_MOSAIC,
    device: str | Path | Device | None = None,
    study: str | None = None,
    results: Folder = "results",
    on_message: Callable[[str], None] | None = None,
    **settings: Unpack[ExportSettings],
) -> Exported:
    """Write verified .tflite files of the longest-trained checkpoint of a network.

    Args:
        network: As in `train`; it has to be trained.
        out: Folder for the files, card.json, card.md and patches.png; it holds no export yet.
        precisions: fp32, fp16, int8, int16. fp32 always comes along.
        size: Height and width of the mosaic.
        device: Name, .json file, or a `Device`; by default the study's.
        study: As in `train`.
        results: Folder in which studies live.
        on_message: Called with a sentence for every step.
        **settings: Fields of `ExportSettings`.

    Returns:
        The files, and the card with everything measured.

    Raises:
        ExportError: A precision lost more than it may; the others are written.
        IspNasError: An argument is wrong, or the network is not trained.

    Example:
        >>> exported = nas.export(nas.train("smallnet", steps=2), "export", size=(64, 96))
        >>> [file.path.name for file in exported.files]
        ['model.tflite']
    """
    given = dict(known(settings, ExportSettings))
    qat = given.pop("qat", None)
    if len(size) != len(FULL_HD_MOSAIC):
        raise UsageError(f"size is the height and the width of the mosaic, got {tuple(size)}.")
    names = (precisions,) if isinstance(precisions, str) else tuple(precisions)
    options = ExportOptions(precisions=names, size=(size[0], size[1]), **given)
    card = export_network(
        _ref(network, Path(results), study),
        Path(out),
        options,
        results=Path(results),
        device=device if isinstance(device, Device) else _text(device),
        qat=None if qat is None else str(qat),
        on_message=on_message or _nothing,
    )
    require_complete(card)
    return Exported.of(Path(out), card)


# Predicting, rendering


@by_argument
@checked
def predict_latency(
    network: NetworkLike,
    device: str | Path | Device = DEFAULT_DEVICE,
    *,
    study: str | None = None,
    results: Folder = "results",
    allow_fallback: bool = False,
    against: NetworkLike | None = None,
    size: Sequence[int] | None = None,
    input_shape: Sequence[int] | None = None,
) -> Latency:
    """Predict how long a network takes on a device, kernel by kernel.

    Args:
        network: As in `train`, or a .tflite file.
        device: Name, .json file, or a `Device`.
        study: As in `train`.
        results: Folder in which studies live.
        allow_fallback: Price operations that the delegate leaves to the CPU, instead of refusing them.
        against: Another network: the probability that `network` is faster than it is returned, too.
        size: Height and width of the photograph, for networks of ours; Full HD, or what a file says, by default.
        input_shape: Shape of the input, for any .tflite file of open size.

    Returns:
        The time with its interval, and where it goes.

    Raises:
        DeviceError: The device does not run the network as a whole, or its speed on it is not known.
        UsageError: The network is not known.

    Example:
        >>> latency = nas.predict_latency("smallnet", "dimensity-1000-plus")
        >>> round(latency.runtime_ms, 1)
        58.9
    """
    on = device if isinstance(device, Device) else load_device(str(device))
    shape = shape_of_input(size, input_shape)

    def ask(one: NetworkLike) -> network_latency.NetworkLatency:
        if isinstance(one, str | Path) and Path(one).suffix == ".tflite":
            return network_latency.predict_latency(
                str(one), on, results=Path(results), study=study, allow_fallback=allow_fallback, shape=shape
            )
        spec = _ref(one, Path(results), study).spec
        return network_latency.latency_of(network_latency.network_of(spec, shape), on, allow_fallback=allow_fallback)

    prediction = ask(network)
    faster = None if against is None else network_latency.chance_of_less(prediction, ask(against), on)
    time = prediction.prediction
    return Latency(
        on.name, time.runtime_ms, time.low_ms, time.high_ms, time.assumed_interval, time.fixed_ms,
        dict(time.kernels_ms), prediction.refused, time.flags, faster,
    )  # fmt: skip


@by_argument
@checked
def render(
    model: Folder,
    inputs: Folder | Sequence[Folder],
    out: Folder,
    *,
    raw: RawFormat | Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **settings: Unpack[RenderSettings],
) -> "list[Rendered]":
    """Make pictures of RAW files with a .tflite file: any size, in tiles where needed.

    Args:
        model: A .tflite file that turns packed RAW into RGB.
        inputs: PNG mosaics, RAW files of cameras, or folders of them.
        out: Folder for the pictures; no file in it is overwritten.
        raw: How PNG mosaics are to be read, where it is not as the model's card says.
        on_progress: Called with tiles done and tiles in all.
        **settings: Fields of `RenderSettings`.

    Returns:
        What was made of each input: files, sides, seconds, conversions and notes.

    Raises:
        DataError: An input could not be rendered; the others are.
        IspNasError: An argument or the model is wrong, or a picture cannot be written.

    Example:
        >>> pictures = nas.render("export/model.tflite", "pairs/val/mediatek_raw", "photos")
        >>> (pictures[0].height, pictures[0].width)
        (64, 64)
    """
    given = dict(known(settings, RenderSettings))
    kind = FileKind(given.pop("bits", 8), given.pop("jpeg_quality", None))
    fmt = asdict(raw) if isinstance(raw, RawFormat) else dict(raw or {})
    require_types_of(RawFormat, fmt)
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    batch = render_files(
        Path(model),
        [Path(path) for path in paths],
        Path(out),
        RenderOptions(raw=fmt, kind=kind, **given),
        on_progress=on_progress or _nothing,
    )
    batch.require_complete()
    return batch.rendered


# Arguments


def _nothing(*_: object) -> None:
    pass


def _data(data: Data | None) -> DataConfig | None:
    config = DataConfig.of(str(data)) if isinstance(data, str | Path) else data
    if config is not None:
        require_types(config)
        config.validate()
    return config


def _text(value: str | Path | None) -> str | None:
    return None if value is None else str(value)


def _path(value: Folder | None) -> Path | None:
    return None if value is None else Path(value)


def _ref(network: NetworkLike, results: Path, study: str | None) -> NetworkRef:
    """Return what an argument names, as a command line would."""
    if isinstance(network, Candidate):
        folder = Path(network.study)
        return resolve(str(network.trial), folder.parent, folder.name)
    if isinstance(network, Trained):
        return resolve(str(network.folder), results, study)
    if isinstance(network, ArchSpec):
        return network_of(network, results, study)
    return resolve(str(network), results, study)
