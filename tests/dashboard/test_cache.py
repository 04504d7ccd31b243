"""What is kept, what is not, and what is made in the background."""

import threading

import pytest

from polylm.dashboard.cache import Cache


def test_makes_a_value_once_and_forgets_the_oldest():
    cache, made = Cache(2), []
    for key in "aabca":
        cache.get(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "a"]


def test_does_not_keep_an_error():
    cache = Cache(2)
    with pytest.raises(OSError, match="away"):
        cache.get("a", lambda: (_ for _ in ()).throw(OSError("away")))
    assert cache.get("a", lambda: 1) == 1


def test_what_takes_long_is_none_until_it_is_there():
    cache, gate = Cache(2), threading.Event()
    assert cache.soon("a", lambda: gate.wait(60), patience=0.01) is None
    gate.set()
    assert cache.soon("a", lambda: False, patience=60) is True


def test_an_error_that_takes_long_is_told_to_the_next_who_asks_and_then_forgotten():
    cache, gate = Cache(2), threading.Event()

    def fail():
        gate.wait(60)
        raise OSError("away")

    assert cache.soon("a", fail, patience=0.01) is None
    gate.set()
    with pytest.raises(OSError, match="away"):
        cache.soon("a", lambda: 1, patience=60)
    assert cache.soon("a", lambda: 1, patience=60) == 1


def test_asks_from_many_threads_make_one_value():
    cache, made, gate = Cache(2), [], threading.Event()

    def make():
        gate.wait(60)
        made.append(1)

    threads = [threading.Thread(target=cache.get, args=("a", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert made == [1]
