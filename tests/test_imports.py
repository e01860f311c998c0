import gc
import sys

from hwtune.imports import lasting_imports


def test_what_is_imported_for_good_is_spared_the_garbage_collector(tmp_path, monkeypatch):
    (tmp_path / "imported_for_good.py").write_text("held = [[]]", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with lasting_imports():
            assert not gc.isenabled()
            from imported_for_good import held  # type: ignore[import-not-found]
        assert gc.isenabled()
        assert not any(each is held for each in gc.get_objects())
        later = [[]]
        assert any(each is later for each in gc.get_objects())
    finally:
        gc.unfreeze()
        del sys.modules["imported_for_good"]


def test_where_nothing_new_is_imported_nothing_is_kept():
    before = gc.get_freeze_count()
    with lasting_imports():
        import hwtune.imports  # noqa: F401
    assert gc.get_freeze_count() == before


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with lasting_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()
