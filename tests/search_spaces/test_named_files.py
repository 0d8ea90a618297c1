"""Named things are looked for in the working directory, then the user's folder, then the installation."""

from pathlib import Path

import pytest

from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.system import named_files


@pytest.fixture
def builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with one space; the working directory and the user's folder are empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ISP_NAS_HOME", str(tmp_path / "home"))
    return put(tmp_path / "installation", "stock")


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.toml").write_text("")
    return folder


def find(name: str, builtin: Path) -> Path:
    return named_files.find("spaces", name, builtin, ".toml").resolve()


def test_the_nearest_place_wins(builtin: Path, tmp_path: Path) -> None:
    assert find("stock", builtin) == builtin / "stock.toml"
    home = put(tmp_path / "home" / "spaces", "stock")
    assert find("stock", builtin) == home / "stock.toml"
    here = put(Path("spaces"), "stock")
    assert find("stock", builtin) == here.resolve() / "stock.toml"


def test_names_of_all_places_are_listed_together(builtin: Path, tmp_path: Path) -> None:
    put(tmp_path / "home" / "spaces", "mine")
    put(Path("spaces"), "local", "stock")
    files = named_files.names("spaces", builtin, ".toml")
    assert sorted(files) == ["local", "mine", "stock"]
    assert files["stock"] == Path("spaces/stock.toml")


def test_files_of_another_kind_are_not_names(builtin: Path) -> None:
    (put(Path("spaces")) / "notes.txt").write_text("")
    assert list(named_files.names("spaces", builtin, ".toml")) == ["stock"]


def test_a_path_is_taken_as_it_is(builtin: Path, tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "other") / "other.toml"
    assert find(str(elsewhere), builtin) == elsewhere


def test_a_path_to_nothing_is_refused(builtin: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.toml"
    with pytest.raises(UsageError, match=f"No space file at {path}; give an existing file or a known name"):
        find(str(path), builtin)


def test_an_unknown_name_lists_those_that_exist(builtin: Path) -> None:
    put(Path("spaces"), "local")
    with pytest.raises(UnknownNameError, match=r'Unknown space "stok"; known: local, stock\. Did you mean "stock"'):
        find("stok", builtin)


def test_where_nothing_is_known_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISP_NAS_HOME", str(tmp_path))
    with pytest.raises(UnknownNameError, match="known: none yet"):
        find("stock", tmp_path / "nowhere")


def test_without_a_variable_the_users_data_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISP_NAS_HOME")
    assert named_files.user_folder("spaces").parts[-2:] == ("isp-nas", "spaces")
