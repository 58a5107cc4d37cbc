import threading

import pytest

from emd.threads import cores, share


def test_results_come_in_the_order_of_the_items():
    assert share(lambda number: number**2, range(50), workers=4) == [n**2 for n in range(50)]
    assert share(str, [], workers=4) == []
    assert cores() >= 1


def test_several_threads_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=20)  # breaks unless three are there at once
    share(lambda _: meeting.wait(), range(3), workers=3)


def test_one_worker_is_the_thread_that_asks():
    assert set(share(lambda _: threading.get_ident(), range(3), workers=1)) == {
        threading.get_ident()
    }


def test_an_error_comes_out_and_ends_the_work():
    begun = []

    def work(number):
        begun.append(number)
        raise ValueError(f"bad {number}")

    with pytest.raises(ValueError, match="bad 0"):
        share(work, range(10_000), workers=2)
    assert len(begun) < 10_000
