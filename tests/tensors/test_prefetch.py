import threading

import pytest

from autointerp.tensors.prefetch import prefetched


def test_items_come_in_order_and_all():
    assert list(prefetched(iter(range(100)))) == list(range(100))
    assert list(prefetched(iter([]))) == []


def test_the_next_is_made_while_the_present_one_is_worked_on():
    made = threading.Event()

    def items():
        yield 1
        made.set()
        yield 2

    found = prefetched(items())
    assert next(found) == 1
    assert made.wait(10)
    assert list(found) == [2]


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    found = prefetched(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_a_reader_that_stops_early_ends_the_thread():
    before = threading.active_count()
    endless = iter(int, 1)
    found = prefetched(endless)
    next(found)
    found.close()
    assert threading.active_count() == before
