"""Workers that join are asked once: other versions are refused, bad places are warned of."""

import gc
import logging
import weakref

import pytest

from tomodask.cluster import membership
from tomodask.cluster.local import Workers, local_cluster
from tomodask.cluster.membership import (
    Members,
    about_worker,
    file_system_of,
    members_of,
    versions_here,
)
from tomodask.errors import VersionMismatchError

HERE = versions_here()


class Asked:
    """A client whose workers answer as they are told."""

    status = "running"

    def __init__(self, **answers):
        self.answers, self.calls = answers, []

    def run(self, function, workers, on_error):
        self.calls.append(workers)
        return {name: self.answers[name] for name in workers}


def answer(**changed):
    told = {
        "host": "n1", "versions": HERE, "local_directory": "/tmp/dask/worker-1",
        "free_bytes": 10**12, "file_system": "ext4",
    }  # fmt: skip
    return told | changed


def test_real_workers_of_this_environment_are_admitted_without_a_word(caplog):
    with local_cluster(Workers(1, 1, 2**30)) as client, caplog.at_level(logging.WARNING):
        (told,) = client.run(about_worker).values()
        assert told["versions"] == HERE
        assert told["free_bytes"] > 0
        assert told["file_system"]
        Members(client).admit(client.nthreads())


def test_each_is_asked_once_and_again_where_it_came_back():
    client = Asked(a=answer(), b=answer())
    members = Members(client)
    members.admit(["a"])
    members.admit(["a", "b"])
    members.admit(["b"])
    members.admit(["a", "b"])
    assert client.calls == [["a"], ["b"], ["a"]]


def test_the_stages_of_a_run_share_what_is_known_and_nothing_outlives_the_client():
    client = Asked(a=answer())
    for _ in range(3):
        members_of(client).admit(["a"])
    assert client.calls == [["a"]]
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", ["tomodask", "python", "numpy"])
def test_another_version_is_refused_and_both_are_named(name):
    client = Asked(a=answer(versions={**HERE, name: "0.0.9"}))
    with pytest.raises(
        VersionMismatchError, match=rf"a on n1 .*{name} 0\.0\.9 there, {HERE[name]} here"
    ):
        Members(client).admit(["a"])


def test_a_worker_without_tomodask_is_refused():
    client = Asked(a=ModuleNotFoundError("No module named 'tomodask'"))
    with pytest.raises(VersionMismatchError, match="can't import this tomodask"):
        Members(client).admit(["a"])


def test_one_that_leaves_while_it_is_asked_is_asked_again():
    client = Asked(a=OSError("gone"))
    members = Members(client)
    members.admit(["a"])
    client.answers["a"] = answer()
    members.admit(["a"])
    members.admit(["a"])
    assert client.calls == [["a"], ["a"]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"free_bytes": 10**7}, "0.01 GB are free"),
        ({"file_system": "nfs4"}, "network file system (nfs4)"),
        ({"file_system": "lustre"}, "network file system (lustre)"),
    ],
)
def test_a_full_or_distant_local_directory_is_warned_of_once_a_host(caplog, changed, words):
    client = Asked(a=answer(**changed), b=answer(**changed), c=answer(**changed, host="n2"))
    Members(client).admit(["a", "b", "c"])
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert words in told[0]
    assert "local_directory" in told[0]


def test_the_file_system_is_that_of_the_nearest_mount(monkeypatch):
    mounts = [("/", "ext4"), ("/scratch", "lustre"), ("/scratch/local", "xfs")]
    listed = [type("Mount", (), {"mountpoint": p, "fstype": k})() for p, k in mounts]
    monkeypatch.setattr(membership.psutil, "disk_partitions", lambda all: listed)
    for place, kind in [
        ("/scratch/me", "lustre"),
        ("/scratch/local/x", "xfs"),
        ("/scratchy", "ext4"),
    ]:
        assert file_system_of(place) == kind
