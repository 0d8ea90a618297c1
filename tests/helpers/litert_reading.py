"""Files written operation by operation, and LiteRT's own reading of them."""

from collections.abc import Callable

from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_builder import FileBuilder

Build = Callable[[FileBuilder], object]


def written(build: Build) -> bytes:
    builder = FileBuilder()
    build(builder)
    return builder.file()


def litert(content: bytes) -> Interpreter:
    """LiteRT's own kernels, for a delegate hides the shapes between."""
    return Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
