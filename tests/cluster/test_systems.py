"""What batch systems answer when they are asked for jobs; the listings are as they print them."""

import subprocess

import pytest

from tomodask.cluster.systems import SYSTEMS

LISTINGS = {
    "slurm": (
        "3 RUNNING None\n4 PENDING ReqNodeNotAvail, UnavailableNodes:n1\n5 COMPLETED None\n",
        {"3": "RUNNING None", "4": "PENDING ReqNodeNotAvail, UnavailableNodes:n1"},
    ),
    "pbs": (
        "\nserver:\n                                                   Req'd  Req'd   Elap\n"
        "Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time\n"
        "--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----\n"
        "3.server        me       work     tomodask-*  12345   1  16   60gb 04:00 R 00:01\n"
        "33.server       me       work     other         --    1  16   60gb 04:00 Q   --\n",
        {"3.server": "me work tomodask-* 12345 1 16 60gb 04:00 R 00:01"},
    ),
    "lsf": (
        "3      RUN    -\n4      PEND   Job's requirements for resources not satisfied\n5 EXIT -\n",
        {"3": "RUN -", "4": "PEND Job's requirements for resources not satisfied"},
    ),
    "sge": (
        "job-ID  prior   name       user         state submit/start at     queue   slots\n"
        "-----------------------------------------------------------------------------\n"
        "      3 0.55500 tomodask-s me           qw    11/25/2026 15:00:00          16\n",
        {"3": "0.55500 tomodask-s me qw 11/25/2026 15:00:00 16"},
    ),
    "oar": (
        "Job id     Name           User           Submission Date     S Queue\n"
        "---------- -------------- -------------- ------------------- - ----------\n"
        "3          tomodask-s     me             2026-11-25 15:00:00 W default\n",
        {"3": "tomodask-s me 2026-11-25 15:00:00 W default"},
    ),
    "htcondor": ("3 2 undefined\n4 5 memory\n", {"3": "2 undefined", "4": "5 memory"}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_jobs_that_are_left_and_the_words_for_them(name):
    listing, expected = LISTINGS[name]
    wanted = {"3.server", "9.server"} if name == "pbs" else {"3", "4", "5", "9"}
    assert SYSTEMS[name].parse(listing, wanted) == expected
    assert SYSTEMS[name].parse("", wanted) == {}


def test_a_question_names_the_user_and_no_answer_is_not_an_empty_one(monkeypatch):
    asked = []

    def answer(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="3 RUNNING None\n")

    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setattr(subprocess, "run", answer)
    assert SYSTEMS["slurm"].states(["3"]) == {"3": "RUNNING None"}
    assert asked == [["squeue", "-h", "-u", "me", "-o", "%A %T %r"]]

    def fail(command, **_):
        raise subprocess.TimeoutExpired(command, 20)

    monkeypatch.setattr(subprocess, "run", fail)
    assert SYSTEMS["slurm"].states(["3"]) is None
