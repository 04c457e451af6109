from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.spec import units
from riseml.spec.errors import InvalidQuantity
from riseml.spec.gpus import GpuRequest, format_gpus, model_fits, parse_gpus


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4Gi", 4 << 30),
        ("4GiB", 4 << 30),
        ("500M", 500_000_000),
        ("80GB", 80_000_000_000),
        ("1.5Gi", 3 << 29),
        ("0.1Ki", 103),
        ("1 Ti", 1 << 40),
        ("0Mi", 0),
    ],
)
def test_memory(text: str, expected: int) -> None:
    assert units.parse_memory(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("4", "write 4Gi"),
        ("4gi", "write Gi"),
        ("4m", "write M"),
        ("4X", "use one of K, M"),
        ("-4Gi", "not an amount"),
        ("", "not an amount"),
        ("Gi", "not an amount"),
        ("1e3Gi", "not an amount"),
    ],
)
def test_memory_that_is_refused_says_what_would_do(text: str, hint: str) -> None:
    with pytest.raises(InvalidQuantity, match=hint):
        units.parse_memory(text)


@pytest.mark.parametrize(
    ("text", "milli"), [("2", 2000), ("0.5", 500), ("500m", 500), (".25", 250), ("1.", 1000)]
)
def test_cpus(text: str, milli: int) -> None:
    assert units.parse_cpus(text) == milli


@pytest.mark.parametrize("text", ["", "x", "-1", "0.0001", "nan", "inf", "1e3", "m", "0x10", "1_0"])
def test_cpus_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuantity):
        units.parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12h", 43200), ("30m", 1800), ("90s", 90), ("1h30m", 5400), ("2d", 172800), ("0s", 0)],
)
def test_durations(text: str, seconds: int) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "h", "-5m", "1.5h", "5x", "1h1h", "1 h"])
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuantity):
        units.parse_duration(text)


@given(st.integers(0, 10**9))
def test_durations_read_back(seconds: int) -> None:
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@given(st.integers(0, 1 << 50))
def test_exact_memory_reads_back(memory_bytes: int) -> None:
    assert units.parse_memory(units.format_memory_exact(memory_bytes)) == memory_bytes


@given(st.integers(0, 10**9))
def test_thousandths_read_back(milli: int) -> None:
    assert units.parse_milli(units.format_milli(milli), "CPUs") == milli


@pytest.mark.parametrize(
    ("memory_bytes", "text"),
    [
        (0, "0B"),
        (17, "17B"),
        (1 << 30, "1Gi"),
        (3 << 29, "1.5Gi"),
        (80 << 30, "80Gi"),
        (80 * 10**9, "74.5Gi"),
        (2000 << 20, "2Gi"),
        (300 << 20, "300Mi"),
    ],
)
def test_memory_for_people_is_short(memory_bytes: int, text: str) -> None:
    assert units.format_memory(memory_bytes) == text


def test_decimals_have_no_exponent_and_no_idle_zeros() -> None:
    cases = {"0.10": "0.1", "100": "100", "1E+2": "100", "1E-5": "0.00001", "-0": "0", "0.0": "0"}
    assert {text: units.format_decimal(Decimal(text)) for text in cases} == cases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", GpuRequest(0)),
        ("2", GpuRequest(2000)),
        ("2.0", GpuRequest(2000)),
        ("0.5", GpuRequest(500)),
        ("H100:2", GpuRequest(2000, "H100")),
        ("H100", GpuRequest(1000, "H100")),
        ("H100:0.25", GpuRequest(250, "H100")),
        ("A100-80GB:2", GpuRequest(2000, "A100-80GB")),
        ("H100|A100:2", GpuRequest(2000, "H100|A100")),
        ("H100 | A100-80GB", GpuRequest(1000, "H100|A100-80GB")),
        ("80GB:2", GpuRequest(2000, gpu_min_memory_bytes=80 * 10**9)),
        ("80GiB:2", GpuRequest(2000, gpu_min_memory_bytes=80 << 30)),
        ("40Gi", GpuRequest(1000, gpu_min_memory_bytes=40 << 30)),
    ],
)
def test_gpus(text: str, expected: GpuRequest) -> None:
    assert parse_gpus(text) == expected
    again = format_gpus(expected.gpu_milli, expected.gpu_model, expected.gpu_min_memory_bytes)
    assert parse_gpus(again) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1.5", "write 1 or 2, or a share"),
        ("H100:1.5", "write 1 or 2"),
        ("-1", "below 0"),
        ("0.0001", "finer"),
        ("", "no number of GPUs"),
        ("H100:", "no number of GPUs"),
        (":2", "no number of GPUs"),
        ("H100:0", "asks for no GPU"),
        ("80:2", "write 80GB:2"),
        ("H100:x", "no number of GPUs"),
        ("80gb:2", "write G"),
        ("H100|:2", "stand models of GPUs"),
        ("|H100", "stand models of GPUs"),
        ("H100|80GB:2", "stand models of GPUs"),
        ("2|H100", "stand models of GPUs"),
        ("|".join(f"M{i}" for i in range(9)), "8 at most"),
    ],
)
def test_gpus_that_are_refused_say_what_would_do(text: str, hint: str) -> None:
    with pytest.raises(InvalidQuantity, match=hint):
        parse_gpus(text)


@pytest.mark.parametrize(
    ("asked", "device", "fits"),
    [
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("h100-80gb", "NVIDIA H100 80GB HBM3", True),
        ("NVIDIA H100", "NVIDIA H100 80GB HBM3", True),
        ("A100-80GB", "NVIDIA A100-SXM4-80GB", True),
        ("RTX4090", "NVIDIA GeForce RTX 4090", True),
        ("RTX-4090", "NVIDIA GeForce RTX 4090", True),
        ("A100", "NVIDIA RTX A1000", False),
        ("L4", "NVIDIA L40", False),
        ("L40", "NVIDIA L40S", False),
        ("H100", "NVIDIA H200", False),
        ("80GB-H100", "NVIDIA H100 80GB HBM3", False),
        ("_", "NVIDIA H100", False),
        ("H100|A100", "NVIDIA A100-SXM4-80GB", True),
        ("H100|A100", "NVIDIA H100 80GB HBM3", True),
        ("H100|A100", "NVIDIA H200", False),
        ("A100|H100-94GB", "NVIDIA H100 80GB HBM3", False),
    ],
)
def test_models_fit_by_whole_words(asked: str, device: str, fits: bool) -> None:
    assert model_fits(asked, device) is fits
