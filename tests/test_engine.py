import math
import os
import subprocess
import sys
from functools import partial

import pytest

from curation.engine.engine import cluster_engine
from curation.engine.local import LocalEngine
from manifests.errors import InputError, OpenImageOError
from tests.conftest import REPOSITORY
from tests.waiting import wait_until


def own_process(number):
    return number, os.getpid()


def first_two_meet(folder, number):
    """Each of the first two is done when the other has begun: one process alone could do neither."""
    (folder / str(number)).touch()
    if number < 2:
        wait_until((folder / str(1 - number)).exists)
    return own_process(number)


def end_of_process(number):
    os._exit(1)


def test_results_come_in_the_order_of_the_shards_from_several_processes(tmp_path):
    results = list(LocalEngine(2).map(partial(first_two_meet, tmp_path), range(12)))
    assert [number for number, _ in results] == list(range(12))
    processes = {process for _, process in results}
    assert len(processes) == 2
    assert os.getpid() not in processes


@pytest.mark.parametrize(("n_slots", "most_at_once"), [(1, None), (4, 1)])
def test_one_process_is_this_one(n_slots, most_at_once):
    results = LocalEngine(n_slots).map(own_process, range(3), most_at_once=most_at_once)
    assert list(results) == [(number, os.getpid()) for number in range(3)]


def test_shards_are_drawn_as_room_is_made():
    drawn = []
    shards = (drawn.append(number) or number for number in range(100))
    results = LocalEngine(2).map(math.sqrt, shards)
    assert next(results) == 0.0
    assert len(drawn) == 4
    results.close()
    assert len(drawn) == 4


def test_the_error_of_a_shard_is_raised_in_its_turn():
    results = LocalEngine(2).map(math.sqrt, [4.0, -1.0, 9.0])
    assert next(results) == 2.0
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        next(results)


def test_a_process_that_is_ended_is_one_error():
    with pytest.raises(OpenImageOError, match="a worker process was ended from outside"):
        list(LocalEngine(2).map(end_of_process, range(2)))


def test_an_engine_that_is_not_there_is_refused():
    with (
        pytest.raises(InputError, match="--engine: expected local or ray, found 'spark'"),
        cluster_engine("spark"),
    ):
        pass


def test_this_machine_needs_no_ray():
    program = (
        "import sys\n"
        "import cli, curation.download, curation.embed\n"
        "from curation.engine.engine import cluster_engine\n"
        "with cluster_engine('local') as engine:\n"
        "    sys.exit(engine is not None or 'ray' in sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_where_ray_is_not_installed_the_extra_is_named():
    program = (
        "import sys\nsys.modules['ray'] = None\nimport cli\nsys.exit(cli.run(['download', '--engine', 'ray']))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stderr == (
        "error: --engine ray: Ray is not installed: pip install 'openimage-o-toolkit[ray]'\n"
    )
