"""Keys of a run: readable by their owner alone, gone at its end, and no others are trusted."""

import os
import stat

import pytest

from tomodask.cluster.certificates import certificates, load_certificates, make_certificates
from tomodask.errors import InputError


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_they_are_for_their_owner_alone_whatever_the_umask_and_gone_at_the_end(tmp_path):
    before = os.umask(0)
    try:
        with certificates(tmp_path / "tls") as security:
            assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
            assert modes(tmp_path / "tls") == {"certificate.pem": 0o600, "key.pem": 0o600}
            assert security.require_encryption
            assert security.get_tls_config_for_role("worker")["key"].endswith("key.pem")
    finally:
        os.umask(before)
    assert not (tmp_path / "tls").exists()


def test_those_of_a_killed_run_are_replaced_and_not_written_through(tmp_path):
    folder, elsewhere = tmp_path / "tls", tmp_path / "elsewhere"
    folder.mkdir(mode=0o755)
    elsewhere.write_text("not ours")
    (folder / "key.pem").symlink_to(elsewhere)
    make_certificates(folder)
    first = (folder / "key.pem").read_text()
    make_certificates(folder)
    assert (folder / "key.pem").read_text() != first
    assert elsewhere.read_text() == "not ours"
    assert set(modes(folder).values()) == {0o600}


def test_what_is_not_ours_in_the_folder_stays(tmp_path):
    with certificates(tmp_path / "tls"):
        (tmp_path / "tls" / "notes.txt").touch()
    assert [path.name for path in (tmp_path / "tls").iterdir()] == ["notes.txt"]


def test_where_there_are_none_it_is_said_whose_they_may_be(tmp_path):
    with pytest.raises(InputError, match=r"certificate\.pem is not there, or belongs to another"):
        load_certificates(tmp_path)
