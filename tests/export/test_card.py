"""card.md: what a person reads of an export."""

from dataclasses import replace

from made_up_card import card, file_card

from nas.export.card_markdown import to_markdown


def test_short_times_are_shown_with_their_digits() -> None:
    quick = {"runtime_ms": 1.8, "runtime_low_ms": 1.6, "runtime_high_ms": 2.1}
    page = to_markdown(card(**quick, precisions=[file_card(**quick, local_runtime_ms=0.37)]))
    assert "1.8 ms predicted (1.6–2.1, " in page
    assert "| 1.8 | 0.37 |" in page


def test_the_commit_is_told_where_it_is_known() -> None:
    known = card()
    assert "isp-nas 0.1.0 at commit 0123456789ab, 2026-01-01" in to_markdown(known)
    page = to_markdown(replace(known, provenance=known.provenance | {"commit": None}))
    assert "isp-nas 0.1.0, 2026-01-01" in page
    assert "None" not in page


def test_a_file_with_the_levels_in_it_is_fed_with_its_own_counts() -> None:
    """Counts of 10 bits for a network that was trained on 12."""
    raw = {"bits": 12, "black": 256, "white": 4095, "pattern": "RGGB", "packing": "challenge"}
    page = to_markdown(card(raw=raw, input_levels={"black": 64.0, "white": 1023.0}))
    assert "trained on RAW of pattern RGGB, 12 bits, black 256, white\n4095" in page
    assert "feed counts of which black is 64 and white 1023" in page
    assert "black level to it first" not in page
    assert "Convert another pattern or black level to it first." in to_markdown(card(raw=raw))


def test_the_table_says_which_files_the_device_runs_and_why_one_has_no_time() -> None:
    refused = {"severity": "error", "name": "CONV_2D x", "what": "its maps are int16", "what_to_do": "convert to int8"}
    unfit = file_card(
        precision="int16",
        file="model_int16.tflite",
        runtime_ms=None,
        runtime_unknown="nobody measured int16",
        device_check={"fit": False, "findings": [refused | {"severity": "warning"}, refused, refused]},
    )
    page = to_markdown(card(precisions=[file_card(), unfit]))
    assert "| fit | 58.9 | 31 |" in page
    assert "| not fit | — | 31 |" in page
    assert "model_int16.tflite has no predicted ms: nobody measured int16." in page
    assert (
        "model_int16.tflite does not run on dimensity-1000-plus as a whole: CONV_2D x: its maps are int16. To do: "
        "convert to int8. `isp-nas check` tells 1 more."
    ) in page


def test_the_steps_of_ai_benchmark_name_a_mode_for_every_file_that_has_one() -> None:
    names = ("fp16", "int8", "int16")
    files = [file_card(precision=name, file=f"model_{name}.tflite") for name in names]
    page = to_markdown(card(precisions=[file_card(), *files]))
    assert "FP32 or FP16 for `model.tflite` and `model_fp16.tflite`, INT8 for `model_int8.tflite`;" in page
    assert "It has no mode for `model_int16.tflite`: time that with `benchmark_model`" in page
    page = to_markdown(card())
    assert "Choose FP32 or FP16 for `model.tflite`;" in page
    assert "no mode" not in page
