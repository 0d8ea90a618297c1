"""Options that belong together, as a dataclass: declared once, and shared by every command that takes the group.

    @dataclass(frozen=True)
    class Where:
        results: Annotated[Path, option("--results", help="Folder in which studies live.")] = Path("results")

    @app.command()
    @grouped
    def best(where: Where, form: Form = "table") -> None: ...

Typer reads options off a function's signature and has no groups (github.com/fastapi/typer/issues/153); what others
publish for this is for Click, which Typer no longer uses.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

import typer


def option(*names: str, help: str, default: str | None = None, panel: str | None = None, **more: Any) -> Any:
    """Declare an option; `default` says what holds where it is not given and the code decides."""
    text = help if default is None else f"{help} \\[default: {default}]"  # or Rich would take it for a style
    return typer.Option(*names, help=text, rich_help_panel=panel, readable=False, **more)


def argument(**more: Any) -> Any:
    """Declare an argument that is a path; whether it can be read is said by who reads it, with the cause."""
    return typer.Argument(readable=False, **more)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let Typer see, in place of every parameter that takes a group, the options in it."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if is_dataclass(parameter.annotation) and isinstance(parameter.annotation, type):
            groups[parameter.name] = parameter.annotation
            parameters += options_of(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def run(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def options_of(group: type) -> list[inspect.Parameter]:
    """Return the options of a group as parameters of a function."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
