import math
import shutil
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

import cli
from curation import download_shards
from curation.duplicates.find import find_duplicates
from curation.duplicates.rules import DuplicateRules
from curation.embed import EmbedRules, clip_choice, embed_with
from curation.engine.engine import cluster_engine
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests import fault_server
from tests.download_world import QUICK, picture, propose, run_download
from tests.tiny_clip import make_tiny_clip
from tests.waiting import HANGS_S, wait_until

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed: no cluster to run shards on")

N_PICTURES = 48
IMAGE_IDS = [f"{index:02d}" for index in range(N_PICTURES)]
CONTENTS = {f"/test/{image_id}.jpg": picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of one node of one core; tests add others and lose them."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=small_node())
    yield cluster
    cluster.shutdown()


def small_node():
    return {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


@pytest.fixture
def second_node(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    node = cluster.add_node(**small_node())
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


def answering(seconds):
    """Return a script that answers every picture after some time."""

    def script(handler, nth):
        time.sleep(seconds)
        handler.answer(200, CONTENTS[handler.path])

    return script


def workspace_of(folder):
    return propose(Workspace(folder), IMAGE_IDS)


def requests_by_shard(server):
    """Return the paths asked for of each shard of eight pictures."""
    asked = sorted(dict(server.requests))
    return [set(asked) & set(list(CONTENTS)[start : start + 8]) for start in range(0, N_PICTURES, 8)]


def files_of(folder):
    """Return every file that downloading leaves, but for the log, whose lines come as pictures do."""
    names = [schema.DOWNLOADS.file_name, *(f"images/{image_id}/{image_id}.jpg" for image_id in IMAGE_IDS)]
    return {name: (folder / name).read_bytes() for name in names}


class KillingEngine:
    """The cluster, of which a node is killed after the first of its results."""

    def __init__(self, engine, kill):
        self._engine, self._kill = engine, kill

    def map(self, function, shards, **needs):
        results = self._engine.map(function, shards, **needs)
        yield next(results)
        self._kill()
        yield from results


def node_and_root(folder, number):
    (folder / str(number)).touch()
    if number <= 9:
        # The first two meet: one node alone could do neither.
        wait_until((folder / ("9.0" if number == 4 else "4.0")).exists)
    return math.sqrt(number), ray.get_runtime_context().get_node_id()


def test_shards_run_on_both_nodes_and_their_results_come_in_order(second_node, tmp_path):
    with cluster_engine("ray") as engine:
        assert engine.n_slots == 2
        results = list(engine.map(partial(node_and_root, tmp_path), [4.0, 9.0, 16.0, 25.0, 36.0, 49.0]))
    assert [root for root, _ in results] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert len({node for _, node in results}) == 2
    assert not ray.is_initialized()


def test_the_error_of_a_shard_is_raised_in_its_turn_and_more_cores_than_there_are_is_refused(second_node):
    with cluster_engine("ray") as engine:
        results = engine.map(math.sqrt, [4.0, -1.0, 9.0])
        assert next(results) == 2.0
        with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
            next(results)
        with pytest.raises(InputError, match="a shard wants 8 cores, and the largest node has 1"):
            next(engine.map(math.sqrt, [4.0], n_cores=8))


def test_a_node_killed_in_mid_run_costs_its_shards_and_not_a_byte(cluster, second_node, tmp_path, monkeypatch):
    monkeypatch.setattr(download_shards, "_CANDIDATES_A_SHARD", 8)
    with fault_server.serving({}, answering(0.0)) as server:
        run_download(workspace_of(tmp_path / "local"), server)
    with fault_server.serving({}, answering(0.5)) as server:

        def kill_when_both_work():
            # A node has one core and so one shard: as soon as two are begun and not done, both nodes are at work.
            wait_until(lambda: sum(0 < len(begun) < 8 for begun in requests_by_shard(server)) >= 2, gap_s=0.05)
            cluster.remove_node(second_node, allow_graceful=False)

        killer = threading.Thread(target=kill_when_both_work, daemon=True)
        killer.start()
        with cluster_engine("ray") as engine:
            policy = replace(QUICK, deadline_s=60.0)
            workspace = workspace_of(tmp_path / "ray")
            counts = run_download(workspace, server, policy=policy, engine=engine, n_workers=2)
        killer.join(HANGS_S)
    assert counts == {"ok": N_PICTURES}
    asked_again = Counter(server.requests.values())[2]
    assert 1 <= asked_again <= 8, "the shard that the node had, and no other, was fetched again"
    assert len(cluster.list_all_nodes()) == 1
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")


def test_the_command_downloads_on_the_cluster_and_a_second_run_asks_for_nothing(
    second_node, tmp_path, capsys, monkeypatch
):
    workspace_of(tmp_path / "here")
    monkeypatch.chdir(tmp_path)  # relative paths are the user's, wherever a shard runs
    with fault_server.serving({}, answering(0.0)) as server:
        command = ["download", "--workspace", "here", "--base-url", server.base_url, "--allow-private"]
        for _ in range(2):
            assert cli.run([*command, "--engine", "ray", "--workers", "4"]) == 0
            assert capsys.readouterr().out == f"download: ok {N_PICTURES}\n"
        assert set(server.requests.values()) == {1}


@pytest.fixture
def downloaded(tmp_path):
    """Two workspaces with the same pictures: one for this machine, one for the cluster."""
    with fault_server.serving({}, answering(0.0)) as server:
        run_download(workspace_of(tmp_path / "local"), server)
    shutil.copytree(tmp_path / "local", tmp_path / "ray")
    return Workspace(tmp_path / "local"), Workspace(tmp_path / "ray")


def tables_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_embedding_on_the_cluster_ends_in_the_same_bytes_after_a_node_is_killed(
    cluster, second_node, downloaded, tmp_path
):
    local, on_cluster = downloaded
    choice = clip_choice(*make_tiny_clip(tmp_path), "cpu")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what a node of one core has
    try:
        expected = embed_with(local, choice, EmbedRules())
        with cluster_engine("ray") as engine:
            killing = KillingEngine(engine, lambda: cluster.remove_node(second_node, allow_graceful=False))
            found = embed_with(on_cluster, choice, EmbedRules(), engine=killing)
    finally:
        torch.set_num_threads(n_threads)
    assert (found.digest, found.n_new, found.n_unreadable) == (expected.digest, N_PICTURES, 0)
    assert len(cluster.list_all_nodes()) == 1
    tables = tables_below(on_cluster.embeddings_dir)
    assert len(tables) > 10
    assert tables == tables_below(local.embeddings_dir)


def test_hashing_on_the_cluster_ends_in_the_same_bytes_after_a_node_is_killed(cluster, second_node, downloaded):
    local, on_cluster = downloaded
    expected = find_duplicates(local, DuplicateRules())
    with cluster_engine("ray") as engine:
        killing = KillingEngine(engine, lambda: cluster.remove_node(second_node, allow_graceful=False))
        assert find_duplicates(on_cluster, DuplicateRules(), engine=killing) == expected
    assert len(cluster.list_all_nodes()) == 1
    tables = tables_below(on_cluster.fingerprints_dir)
    assert len(tables) > 10
    assert tables == tables_below(local.fingerprints_dir)


def test_limits_of_a_host_are_for_all_machines_together(tmp_path):
    class FourSlots:
        n_slots = 4

        def map(self, function, shards, *, most_at_once=None):
            self.policies = [shard.policy for shard in shards]
            self.most_at_once = most_at_once
            return iter(())

    tasks = [download_shards.Task(position, str(position), "url") for position in range(300)]
    for n_workers, share, most in ((16, 4, None), (3, 1, 3)):
        engine = FourSlots()
        policy = type(QUICK)(host_concurrency=n_workers, host_requests_per_s=120.0)
        list(download_shards.brought_in_shards(engine, Workspace(tmp_path), policy, tasks))
        assert [own.host_concurrency for own in engine.policies] == [share, share], "two shards of up to 256"
        assert engine.policies[0].host_requests_per_s == 120.0 / (most or 4)
        assert engine.most_at_once == most
