import gc
import subprocess
import sys
import weakref

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


class Held:
    """Something in a cycle."""


def test_what_work_has_left_since_is_not_kept(tmp_path, monkeypatch):
    (tmp_path / "imported_next.py").write_text("held = [[]]", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    gc.freeze()
    try:
        garbage = Held()
        garbage.itself = garbage
        left = weakref.ref(garbage)
        del garbage
        with lasting_imports():
            import imported_next  # type: ignore[import-not-found]  # noqa: F401
        assert left() is None
    finally:
        gc.unfreeze()
        del sys.modules["imported_next"]


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with lasting_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()


def test_a_mistake_need_not_wait_for_ray_tune():
    code = "import sys, hwtune.pipeline.search; print('ray.tune' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_process_that_searches_does_without_heavy_libraries():
    """Torch is most of a process's memory; the others take 10 to 40 MB and part of a second."""
    code = (
        "import sys, hwtune.api, hwtune.pipeline.search, hwtune.pipeline.baseline,"
        " hwtune.search.study, hwtune.evaluation.finalists;"
        " print({'torch', 'scipy', 'sklearn', 'plotly', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
