import gc

from hwtune.imports import lasting_imports


def test_what_is_imported_for_good_is_spared_the_garbage_collector():
    try:
        with lasting_imports():
            assert not gc.isenabled()
            imported = [[]]
        assert gc.isenabled()
        assert not any(each is imported for each in gc.get_objects())
        later = [[]]
        assert any(each is later for each in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with lasting_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()
