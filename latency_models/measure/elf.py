"""Read from a program's header which processor it was built for, before it is pushed to a phone."""

import struct
from pathlib import Path

from search_spaces.errors import MeasurementError
from search_spaces.system import stored

_MAGIC = b"\x7fELF"
_HEADER_BYTES = 20  # as far as the machine
_BIG_ENDIAN = 2
# e_machine → what Android calls the processors that run it. Source: elf.h of the Linux kernel; Android's ABI list.
_ABIS = {
    3: ("x86",),
    40: ("armeabi-v7a", "armeabi"),
    62: ("x86_64",),
    183: ("arm64-v8a",),
    243: ("riscv64",),
}


def abis_of(program: Path) -> tuple[str, ...]:
    """Return the Android ABIs that run `program`; raise MeasurementError where it is no program for Android."""
    try:
        with stored.opened(program) as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise MeasurementError(f"Cannot read {program}: {error.strerror}; give the benchmark_model program.") from None
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise MeasurementError(
            f"{program} is not a benchmark_model program for Android (no ELF header); "
            "give the file itself, unpacked, such as android_aarch64_benchmark_model."
        )
    order = ">" if header[5] == _BIG_ENDIAN else "<"
    (machine,) = struct.unpack(f"{order}H", header[18:20])
    return _ABIS.get(machine, (f"ELF machine {machine}",))


def check_abi(program: Path, phone_abis: tuple[str, ...]) -> None:
    """Raise MeasurementError unless a phone that runs `phone_abis`, empty for unknown, can run `program`."""
    built_for = abis_of(program)
    if phone_abis and not set(built_for) & set(phone_abis):
        raise MeasurementError(
            f"{program.name} is built for {built_for[0]}, the phone runs {', '.join(phone_abis)}; "
            "give a benchmark_model of the phone's kind."
        )
