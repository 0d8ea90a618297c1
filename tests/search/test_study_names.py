"""A study is named after its data, whatever script that is written in."""

from pathlib import Path

import pytest

from nas.data.pairs import DataConfig
from nas.search.open_study import SearchOptions, _may_be_in_a_name, default_name


@pytest.mark.parametrize(
    ("folder", "begins"),
    [
        ("pairs", "pairs-"),
        ("my pairs (2)", "my_pairs_2_-"),
        ("数据集", "数据集-"),
        ("写真raw", "写真raw-"),
        ("données", "données-"),
        ("डेटा", "डेटा-"),
        ("_raw", "data_raw-"),
        ("???", "data_-"),
        ("a\udcffb", "a_b-"),
        ("a\u202eb", "a_b-"),
        ("🦊", "data_-"),
    ],
)
def test_the_default_name_can_be_a_study(folder: str, begins: str, tmp_path: Path) -> None:
    name = default_name(SearchOptions(data=DataConfig(str(tmp_path / folder))))
    assert name.startswith(begins)
    assert name[0].isalnum()
    assert all(map(_may_be_in_a_name, name))
