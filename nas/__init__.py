"""Search for, train, evaluate and export learned ISPs.

The Python interface is `nas.api`. Its names are handed out here, and loaded when they are first used:

    import nas

    study = nas.search("5m", data="pairs")
    nas.export(study.best(), "export")

`nas.search`, `nas.train`, `nas.export` and `nas.render` are packages, too; called, each is the function of that name.
"""

from nas import launch

launch.loading()  # before the first import that takes time

from importlib import import_module  # noqa: E402
from types import ModuleType  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

__all__ = [
    "ArchSpec",
    "Candidate",
    "Candidates",
    "DataConfig",
    "Device",
    "Exported",
    "ExportedFile",
    "IspNasError",
    "Latency",
    "RawFormat",
    "SearchProgress",
    "SearchSpace",
    "Study",
    "Trained",
    "TrainingSettings",
    "Verdict",
    "export",
    "load_device",
    "load_space",
    "load_study",
    "predict_latency",
    "render",
    "search",
    "train",
]

if TYPE_CHECKING:
    from latency_models.device import Device, load_device
    from nas.api import (
        Candidate,
        Candidates,
        Exported,
        ExportedFile,
        Latency,
        SearchProgress,
        Study,
        Trained,
        TrainingSettings,
        Verdict,
        export,
        load_study,
        predict_latency,
        render,
        search,
        train,
    )
    from nas.data.pairs import DataConfig
    from nas.data.raw_format import RawFormat
    from search_spaces.errors import IspNasError
    from search_spaces.space import SearchSpace, load_space
    from search_spaces.spec import ArchSpec

_ELSEWHERE = {
    "ArchSpec": "search_spaces.spec",
    "DataConfig": "nas.data.pairs",
    "Device": "latency_models.device",
    "IspNasError": "search_spaces.errors",
    "RawFormat": "nas.data.raw_format",
    "SearchSpace": "search_spaces.space",
    "load_device": "latency_models.device",
    "load_space": "search_spaces.space",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "nas.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _CallablePackage(ModuleType):
    """A package that is also the function of its name in `nas.api`.

    A function in its place would be hidden by the package as soon as anything imports that, or hide the package.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)

    @property
    def _function(self) -> Any:
        return getattr(import_module("nas.api"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function)


for _name in ("export", "render", "search", "train"):
    import_module(f"nas.{_name}").__class__ = _CallablePackage
